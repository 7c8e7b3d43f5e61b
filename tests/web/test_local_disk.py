"""The way to the local disk as machines see it: the script, and the small loader that UEFI machines chain."""

from collections.abc import Iterator
from typing import Any

import pytest
from played import curl, tftp_get
from world import ACTOR, World

from provisioner.services import machines, subnets
from provisioner.services.site import Site


def script(served: Any, machine: Any, platform: str = "efi", **options: Any) -> str:
    """What iPXE is told."""
    return str(served.http(f"/boot/ipxe/{machine.mac}?platform={platform}", source=machine.ip, **options).text)


@pytest.mark.parametrize("name", ["localdisk.efi", "seconddisk.efi"])
def test_the_loader_comes_whole_by_http_and_tftp(served: Any, name: str) -> None:
    made = (served.state / "loaders" / name).read_bytes()
    done = curl("-D", "-", f"{served.boot}/boot/loader/{name}")
    head, _, body = done.stdout.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert f"content-length: {len(made)}\r\n".encode() in head.lower() + b"\r\n"
    assert b"content-type: application/efi" in head.lower()
    assert body == made and made.startswith(b"MZ")
    assert tftp_get(served.tftp, name, "127.0.2.11") == made


def test_firmware_asks_head_first_and_with_two_slashes(served: Any) -> None:
    size = (served.state / "loaders/localdisk.efi").stat().st_size
    reply = served.http("/boot//loader/localdisk.efi", method="HEAD")
    assert (reply.status, reply.text) == (200, "")
    assert reply.headers["content-length"] == str(size)


@pytest.mark.parametrize("name", ["other.efi", "..%2fkeys%2fmaster.key", "%2e%2e", "localdisk.efi%00", "LOCALDISK.EFI"])
def test_s40_nothing_else_is_there(served: Any, name: str) -> None:
    assert served.http(f"/boot/loader/{name}").status == 404


def test_each_way_reaches_the_machine(served: Any, play: Any) -> None:
    machine = play()
    chained = f"chain {served.boot}/boot/loader/localdisk.efi ||\nexit 1\n"
    assert chained in script(served, machine)
    assert "drive 0x80 ||\nexit 1\n" in script(served, machine, "pcbios")
    for way, efi, bios in (
        ("second-disk", f"chain {served.boot}/boot/loader/seconddisk.efi ||\nexit 1\n", "drive 0x81 ||\nexit 1\n"),
        ("sanboot", "disk\nexit 1\n", "drive 0x80 ||\nexit 1\n"),
        ("exit", "disk\nexit 1\n", "disk\nexit 1\n"),
    ):
        served.cli("machine", "edit", machine.name, "--local-boot", way)
        assert efi in script(served, machine) and bios in script(served, machine, "pcbios")
        assert ("chainloader" in machine.grub()) == (way == "second-disk")
    assert "'' is its profile's way" in " ".join(served.cli("machine", "edit", "--help").stdout.split())
    served.cli("machine", "edit", machine.name, "--local-boot", "")
    assert chained in script(served, machine)


def test_an_unknown_way_is_refused(served: Any, play: Any) -> None:
    machine = play()
    for noun, name in (("machine", machine.name), ("profile", "rocky9")):
        done = served.cli(noun, "edit", name, "--local-boot", "sideways", code=1)
        assert "'sideways' is not a way to the local disk" in done.stderr
        assert "auto, exit, sanboot, second-disk" in done.stderr


@pytest.fixture
def away(inside: Site) -> Iterator[str]:
    """The subnet tells its machines another URL."""
    subnets.edit(inside, ACTOR, "lab", {"boot_url": "http://127.0.2.1:8000"})
    yield "http://127.0.2.1:8000"
    subnets.edit(inside, ACTOR, "lab", {"boot_url": ""})


def test_the_loader_is_fetched_where_the_machine_is_told(served: Any, play: Any, away: str) -> None:
    machine = play()
    assert f"chain {away}/boot/loader/localdisk.efi ||\n" in script(served, machine)
    assert f"{away}/boot/loader/localdisk.efi" in served.cli("boot", "explain", machine.name, "--arch", "uefi").stdout


def test_boot_explain_tells_the_way(served: Any, play: Any, inside: Site) -> None:
    machine = play()
    explained = served.cli_json("boot", "explain", machine.name, "--arch", "uefi")["hops"]
    assert explained[-1] == {"hop": "loader", "what": f"{served.boot}/boot/loader/localdisk.efi"}
    assert explained[-2]["what"].startswith("auto: starts a loader that looks for")
    machines.edit(inside, ACTOR, machine.name, {"local_boot": "exit"})
    explained = served.cli_json("boot", "explain", machine.name, "--arch", "uefi")["hops"]
    assert explained[-1] == {"hop": "local boot", "what": "exit: leaves to the firmware's next boot device"}
    machines.edit(inside, ACTOR, machine.name, {"local_boot": "second-disk"})
    explained = served.cli_json("boot", "explain", machine.name, "--arch", "bios")["hops"]
    assert "0x81" in explained[-1]["what"]


def test_a_loader_that_is_missing_is_told_and_stops_nothing(served: Any, play: Any) -> None:
    machine, kept = play(), served.state / "loaders/aside"
    loader = served.state / "loaders/localdisk.efi"
    loader.rename(kept)
    try:
        assert served.http("/boot/loader/localdisk.efi").status == 404
        assert script(served, machine).endswith("||\nexit 1\n")
        assert "it is not there" in served.cli("boot", "explain", machine.name, "--arch", "uefi").stdout
        found = served.cli("check", code=None).stdout
        assert "not made, or made by another version: localdisk.efi" in found and "provisioner init" in found
    finally:
        kept.rename(loader)


def test_r23_the_loader_needs_no_database(site: Site, world: World) -> None:
    """And neither does the script that names it."""
    from provisioner.web.boot import create

    world.ready()
    site.engine.dispose()
    database = site.settings.state_dir / "provisioner.db"
    database.rename(database.with_suffix(".away"))
    database.mkdir()
    client = create(site).test_client()
    assert client.get("/boot/loader/localdisk.efi").data.startswith(b"MZ")
    text = client.get("/boot/ipxe/52:54:00:12:34:56?platform=efi").text
    assert f"chain {site.settings.boot_url}/boot/loader/localdisk.efi ||\nexit 1\n" in text
