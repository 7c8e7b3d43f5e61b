"""The next-boot table of the design, every row, asked for in every way through the real service."""

from typing import Any

import pytest
from played import Played, kind_of, tftp_get
from sqlalchemy import select
from world import ACTOR, OTHER_IP

from provisioner.services import builds, machines
from provisioner.services.site import Site
from provisioner.store.engine import write
from provisioner.store.models import Machine

UNKNOWN = "52:54:00:cc:00:01"


def same(kind: str) -> dict[str, str]:
    """Every loader gets this; a name that belongs to no machine is never more than the local disk."""
    return {"ipxe": kind, "grub": kind, "tftp grub": kind, "tftp pxelinux": kind, "tftp default": "local"}


def discovered(machine: Played) -> None:
    """Set the machine's state to one that only a discovery report leads to."""
    with write(machine.site.engine) as session:
        session.scalars(select(Machine).where(Machine.name == machine.name)).one().state = "discovered"


def installed(play: Any) -> tuple[Played, dict[str, str]]:
    """A machine whose handoff script will report."""
    machine = play().arm()
    tokens = machine.tokens()
    assert machine.event(tokens["event"], "built").json()["state"] == "built"
    return machine, tokens


@pytest.mark.parametrize("registered", [False, True], ids=["unknown", "discovered"])
def test_s25_unknown_and_discovered_machines_wait_in_discovery(
    play: Any, served: Any, inside: Site, registered: bool
) -> None:
    machine = play() if registered else Played(served, inside, "nobody", UNKNOWN, OTHER_IP)
    if registered:
        discovered(machine)
    # PXELINUX cannot wait and ask again; it goes on to the disk.
    assert machine.every_way() == same("discovery") | {"tftp pxelinux": "local"}


def test_ready_machines_boot_their_disk(play: Any) -> None:
    assert play().every_way() == same("local")


def test_built_and_configured_machines_boot_their_disk(play: Any) -> None:
    machine, tokens = installed(play)
    assert machine.state() == "built"
    assert machine.every_way() == same("local")
    path = f"/build/{tokens['handoff']}/configured"
    assert machine.served.http(path, source=machine.ip, method="POST", form={"status": "ok"}).status == 200
    assert machine.state() == "configured"
    assert machine.every_way() == same("local")


def test_retired_machines_boot_their_disk(play: Any) -> None:
    machine = play()
    machines.edit(machine.site, ACTOR, machine.name, {"retired": True})
    assert machine.every_way() == same("local")


def test_cancelled_machines_boot_their_disk(play: Any) -> None:
    machine = play().arm()
    builds.cancel(machine.site, ACTOR, machine.name)
    assert machine.every_way() == same("local")


def test_armed_booting_and_installing_machines_get_the_build(play: Any) -> None:
    """PXELINUX cannot carry a build (its kernels would need names of their own): it says so, and opens no attempt."""
    machine = play().arm()
    expected = same("build") | {"tftp pxelinux": "halt"}
    assert kind_of((machine.tftp(f"pxelinux.cfg/01-{machine.mac.replace(':', '-')}") or b"").decode()) == "halt"
    assert machine.served.cli_json("build", "show", machine.name)["attempts"] == 0
    for expected_state in ("booting", "installing"):
        assert machine.every_way() == expected
        view = machine.served.cli_json("build", "show", machine.name)
        assert (view["state"], view["attempts"]) == (expected_state, 1)
        machine.tokens()


def test_s24_head_opens_no_attempt(play: Any) -> None:
    machine = play().arm()
    assert machine.served.http(f"/boot/ipxe/{machine.mac}", source=machine.ip, method="HEAD").status == 200
    view = machine.served.cli_json("build", "show", machine.name)
    assert (view["state"], view["attempts"]) == ("armed", 0)


def test_r01_the_third_attempt_is_halted_and_continue_lets_exactly_one_through(play: Any) -> None:
    machine = play().arm()
    for _ in range(2):
        assert kind_of(machine.ipxe()) == "build"
        machine.wait_a_minute()
    for _ in range(3):
        assert machine.every_way() == same("halt")
    script = machine.ipxe()
    assert f"provisioner build continue {machine.name}" in script
    assert "attempt 3" in script
    shown = machine.served.cli("build", "show", machine.name).stdout
    assert f"provisioner build continue {machine.name}" in shown
    machine.served.cli("build", "continue", machine.name)
    assert kind_of(machine.ipxe()) == "build"
    machine.wait_a_minute()
    assert machine.every_way() == same("halt")


def test_r01_an_attempt_after_the_disk_was_touched_is_halted_until_continue(play: Any) -> None:
    machine = play().arm()
    assert machine.event(machine.tokens()["event"], "disk").status == 200
    # At once: the minute in which the same power-on may ask again is over when a disk was written to.
    assert machine.every_way() == same("halt")
    assert "wrote to a disk" in machine.ipxe()
    machine.served.cli("build", "continue", machine.name)
    assert kind_of(machine.ipxe()) == "build"
    machine.wait_a_minute()
    assert machine.every_way() == same("halt")


def test_r41_failed_before_built_halts(play: Any) -> None:
    machine = play().arm()
    assert machine.event(machine.tokens()["event"], "failed", message="no disk").json()["state"] == "failed"
    assert machine.every_way() == same("halt")
    assert f"provisioner build start {machine.name}" in machine.ipxe()
    machine.served.cli("build", "start", machine.name)
    assert kind_of(machine.ipxe()) == "build"


def test_r41_failed_after_built_boots_its_disk(play: Any) -> None:
    machine, tokens = installed(play)
    path = f"/build/{tokens['handoff']}/configured"
    form = {"status": "failed", "exit_code": "4", "message": "no catalogue"}
    assert machine.served.http(path, source=machine.ip, method="POST", form=form).status == 200
    view = machine.served.cli_json("build", "show", machine.name)
    assert (view["state"], view["outcome"]) == ("failed", "handoff: exit code 4: no catalogue")
    assert machine.every_way() == same("local")


def test_an_announced_reboot_goes_to_the_disk_and_the_build_goes_on(play: Any) -> None:
    machine = play().arm()
    token = machine.tokens()["event"]
    for step in ("disk", "reboot"):
        assert machine.event(token, step).status == 200
    assert kind_of(machine.ipxe()) == "local"
    assert machine.event(token, "built").json()["state"] == "built"


def test_r02_a_deleted_machine_gets_no_installer_under_any_name(play: Any) -> None:
    machine = play().arm()
    machine.tokens()
    machine.served.cli("build", "cancel", machine.name)
    machine.served.cli("machine", "remove", machine.name, "--yes")
    kinds = machine.every_way()
    assert set(kinds.values()) <= {"local", "discovery"}
    address = "".join(f"{int(part):02X}" for part in machine.ip.split("."))
    for length in range(8, 0, -1):
        assert machine.tftp(f"pxelinux.cfg/{address[:length]}") is None
    for name in ("grub/grub.cfg", "autoexec.ipxe", "pxelinux.cfg/default", "grub/by-mac/default"):
        text = (machine.tftp(name) or b"").decode()
        assert "vmlinuz" not in text
        assert "/media/sha256/" not in text


def test_t27_names_of_a_machine_show_nothing_to_another_address(play: Any) -> None:
    machine = play().arm()
    outside = "127.0.9.9"
    for name in (f"grub/by-mac/{machine.mac}", f"pxelinux.cfg/01-{machine.mac.replace(':', '-')}"):
        assert kind_of((tftp_get(machine.served.tftp, name, outside) or b"").decode()) == "local"
    refused = machine.served.http(f"/boot/ipxe/{machine.mac}", source=outside)
    assert kind_of(refused.text) == "halt"
    assert machine.served.cli_json("build", "show", machine.name)["attempts"] == 0
    assert outside in machine.served.cli_json("machine", "show", machine.name)["flag"]


def test_r12_every_spelling_of_the_mac_gets_the_same_script(play: Any) -> None:
    machine = play().arm()
    bare = machine.mac.replace(":", "")
    dotted = ".".join(bare[index : index + 4] for index in (0, 4, 8))
    spellings = [
        machine.mac.upper(),
        machine.mac.replace(":", "-"),
        bare,
        dotted,
        f"01-{machine.mac}".replace(":", "-"),
    ]
    scripts = {machine.served.http(f"/boot/ipxe/{text}", source=machine.ip).text for text in spellings}
    assert scripts == {machine.ipxe()}
    assert kind_of(scripts.pop()) == "build"


def test_s25_an_unregistered_mac_at_a_registered_address_gets_no_build(play: Any) -> None:
    machine = play().arm()
    reply = machine.served.http(f"/boot/ipxe/{UNKNOWN}", source=machine.ip)
    assert kind_of(reply.text) == "discovery"
    assert machine.served.cli_json("build", "show", machine.name)["attempts"] == 0
