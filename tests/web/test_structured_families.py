"""AutoYaST, ESXi and Ignition, each played once through the real service, and the secrets inside an answer (S23)."""

import json
import zlib
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from played import Played, kind_of
from sqlalchemy import select
from world import ACTOR, OTHER_IP, token_in

from provisioner.core.markers import secrets_in
from provisioner.errors import MalformedContent, ProvisionerError
from provisioner.services import arming, installables, machines
from provisioner.services.installables import DistroInput
from provisioner.services.site import Site
from provisioner.store.engine import read, write
from provisioner.store.models import Build, Machine, SealedFile, Secret

pytestmark = pytest.mark.slow

HASH = "$6$saltsalt$" + "a1./" * 21 + "Zz"
BOOT_CFG = "title=Loading ESXi installer\nkernel=/b.b00\nmodules=/jumpstrt.gz --- /k.b00\nbuild=8.0.2-0.0.1\n"
FAMILIES = {"esxi8": ("esxi", "8.0.2"), "fcos": ("fcos", "41.1"), "flatcar": ("flatcar", "4152.2.0")}
Play = Callable[[str], Played]


@pytest.fixture(scope="module")
def armed(play: Any, inside: Site, tmp_path_factory: pytest.TempPathFactory) -> Play:
    """Makes a machine with a root password, of one of the shipped profiles, and arms it."""
    place = tmp_path_factory.mktemp("media")
    files = {
        "kernel": b"kernel " * 999,
        "initrd": b"initrd " * 999,
        "rootfs": b"root " * 999,
        "boot.cfg": BOOT_CFG.encode(),
    }
    for name, content in files.items():
        (place / name).write_bytes(content)
    (place / "tree").mkdir()
    plain = {"kernel": str(place / "kernel"), "initrd": str(place / "initrd")}
    tree = str(place / "tree")
    for name, given in {
        "sles-15.6": DistroInput("sles", "15.6", tree="http://mirror.example.com/sles", **plain),
        "esxi-8.0.2": DistroInput("esxi", "8.0.2", str(place / "kernel"), str(place / "boot.cfg"), tree=tree),
        "fcos-41.1": DistroInput("fcos", "41.1", rootfs=str(place / "rootfs"), **plain),
        "flatcar-4152.2.0": DistroInput("flatcar", "4152.2.0", **plain),
    }.items():
        installables.add_distro(inside, ACTOR, name, given)

    def make(profile: str, **fields: Any) -> Played:
        machine: Played = play(profile=profile, **fields)
        machines.set_secret(inside, ACTOR, machine.name, "root_password", HASH)
        return machine.arm()

    return make


def sealed(machine: Played) -> dict[str, str]:
    """The sealed files of its build, as they stand in the database."""
    with read(machine.site.engine) as session:
        rows = session.scalars(
            select(SealedFile).join(Build, Build.id == SealedFile.build_id).where(Build.machine_name == machine.name)
        )
        return {row.name: zlib.decompress(row.content).decode() for row in rows}


def flag_of(machine: Played) -> str:
    with read(machine.site.engine) as session:
        return str(session.scalars(select(Machine).where(Machine.name == machine.name)).one().flag)


def answer(machine: Played, token: str, source: str = "", method: str = "GET") -> Any:
    return machine.served.http(f"/build/{token}/answer", source=source or machine.ip, method=method)


def events(text: str) -> str:
    """The event token in an answer, wherever it stands."""
    return token_in(unquote(unquote(text)), "event")


@pytest.mark.parametrize("profile", FAMILIES)
def test_s23_the_first_fetch_of_the_answer_is_the_unwrap(armed: Play, profile: str) -> None:
    """arm -> script -> answer -> events -> built; the secret is in no sealed file and in no file of the attempt."""
    machine = armed(profile)
    files = sealed(machine)
    assert [name for name, text in files.items() if secrets_in(text)] == ["answer"]
    script = machine.ipxe()
    assert kind_of(script) == "build"
    token = token_in(sealed_argument(machine, script), "answer")
    assert HASH not in answer(machine, token, method="HEAD").text
    with read(machine.site.engine) as session:
        assert session.scalars(
            select(Secret.taken_attempt).join(Build).where(Build.machine_name == machine.name)
        ).all() == [None]
    first = answer(machine, token)
    assert first.status == 200 and HASH in unquote(unquote(first.text))
    assert "@@provisioner" not in first.text
    assert answer(machine, token).text == first.text, "replies get lost: the same source may ask again"
    told = events(first.text)
    for step in ("installer", "disk"):
        assert machine.event(told, step).status == 200
    assert machine.event(told, "built").json()["state"] == "built"
    assert machine.state() == "built" and kind_of(machine.ipxe()) == "local"
    assert answer(machine, token).status == 404
    everything = "".join(sealed(machine).values()) + kept(machine)
    assert HASH not in everything and HASH not in unquote(unquote(everything))


def sealed_argument(machine: Played, script: str) -> str:
    """Where the address of the answer stands: in the script, or for ESXi in boot.cfg, which the script names."""
    if "/seed/boot.cfg" not in script:
        return script
    return str(machine.served.http(f"/build/{token_in(script, 'seed')}/seed/boot.cfg", source=machine.ip).text)


def kept(machine: Played) -> str:
    """What lies on the disk for the time without a database."""
    folder = Path(machine.site.settings.state_dir) / "attempts"
    return "".join(path.read_text() for path in folder.glob("*.json"))


@pytest.mark.parametrize("profile", ["esxi8", "fcos"])
def test_s23_another_source_is_refused_and_stops_the_build(armed: Play, profile: str) -> None:
    machine = armed(profile)
    token = token_in(sealed_argument(machine, machine.ipxe()), "answer")
    assert answer(machine, token, OTHER_IP).status == 404  # before the machine itself: refused, flagged, nothing taken
    assert "not this machine" in flag_of(machine)
    assert HASH in unquote(unquote(answer(machine, token).text))
    stolen = answer(machine, token, OTHER_IP)
    assert stolen.status in {404, 410} and "$6$" not in stolen.text
    assert "possible interception" in flag_of(machine)
    assert machine.state() == "failed"
    assert answer(machine, token).status == 404


def test_s23_after_a_minute_not_even_the_same_source_gets_it_again(armed: Play) -> None:
    machine = armed("flatcar")
    token = token_in(machine.ipxe(), "answer")
    assert answer(machine, token).status == 200
    with write(machine.site.engine) as session:
        for secret in session.scalars(select(Secret).join(Build).where(Build.machine_name == machine.name)):
            assert secret.taken_at is not None
            secret.taken_at -= timedelta(seconds=61)
    assert answer(machine, token).status in {404, 410}
    assert machine.state() == "failed"


def test_s23_a_post_for_what_the_answer_took_stops_the_build(armed: Play) -> None:
    machine = armed("fcos")
    token = token_in(machine.ipxe(), "answer")
    assert answer(machine, token).status == 200
    path = f"/build/{token}/secret/root_password"
    reply = machine.served.http(path, source=machine.ip, method="POST", form={"nonce": "mine"})
    assert reply.status == 410 and machine.state() == "failed"


def test_esxi_gets_its_own_boot_cfg(armed: Play) -> None:
    machine = armed("esxi8")
    script = machine.ipxe()
    assert "iseq ${platform} efi || goto bios" in script
    text = sealed_argument(machine, script)
    said = dict(line.split("=", 1) for line in text.splitlines())
    assert said["prefix"].endswith("/media/esxi-8.0.2") and said["prefix"].startswith("http://")
    assert said["kernel"] == "b.b00" and said["modules"] == "jumpstrt.gz --- k.b00"
    assert said["kernelopt"].startswith(f"ks={machine.served.boot}/build/")
    assert f"netdevice={machine.mac}" in said["kernelopt"]
    assert "ESXi is not started by GRUB" in machine.grub()
    other = machine.served.http(f"/build/{token_in(script, 'seed')}/seed/boot.cfg", source=OTHER_IP)
    assert other.status == 404


def test_ignition_installs_from_the_live_system_with_its_own_rootfs(armed: Play) -> None:
    machine = armed("fcos")
    script = machine.ipxe()
    assert "coreos.live.rootfs_url=http" in script and "ignition.firstboot" in script
    document = json.loads(answer(machine, token_in(script, "answer")).text)
    paths = [each["path"] for each in document["storage"]["files"]]
    assert paths == ["/etc/provisioner/target.ign", "/usr/local/bin/provisioner-install"]


def test_decision_5_autoyast_reboots_half_way_to_its_disk_and_goes_on(armed: Play) -> None:
    machine = armed("sles15")
    script = machine.ipxe()
    assert "install=http://mirror.example.com/sles" in script
    token = token_in(script, "answer")
    text = answer(machine, token).text
    assert HASH not in text and "PROVISIONER_ROOT_HASH" in text
    path = f"/build/{token}/secret/root_password"
    assert machine.served.http(path, source=machine.ip, method="POST", form={"nonce": "mine"}).text == HASH
    told = token_in(text, "event")
    for step in ("installer", "disk", "reboot"):
        assert machine.event(told, step).status == 200
    assert kind_of(machine.ipxe()) == "local", "the second stage is on the disk"
    assert machine.state() == "building"
    assert machine.event(told, "built").json()["state"] == "built"
    assert machine.state() == "built"


def test_s23_a_value_that_could_break_out_is_refused_when_it_is_armed(play: Any, inside: Site, armed: Play) -> None:
    assert armed is not None
    machine = play(profile="fcos")
    machines.set_secret(inside, ACTOR, machine.name, "root_password", HASH)
    with write(inside.engine) as session:
        row = session.scalars(select(Machine).where(Machine.name == machine.name)).one()
        (secret,) = row.secrets
        secret.ciphertext = inside.keys.seal('x", "y": "', machines.secret_row(row.id, "root_password"))
    with pytest.raises(MalformedContent) as caught:
        arming.start(inside, ACTOR, machine.name)
    assert '"y"' not in str(caught.value) and "crypt hash" in caught.value.hint


@pytest.mark.parametrize("profile", ["esxi8"])
def test_esxi_without_a_root_password_is_not_armed(play: Any, armed: Play, profile: str) -> None:
    assert armed is not None
    machine = play(profile=profile)
    with pytest.raises(ProvisionerError) as caught:
        machine.arm()
    assert "--secret root_password=FILE" in str(caught.value)
