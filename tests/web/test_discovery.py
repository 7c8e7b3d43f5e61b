"""Unknown machines through the real service: every way of asking, and whatever they say."""

import itertools
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from conftest import Reply, wait_for
from played import kind_of, tftp_get
from world import IP

from provisioner.services import quarantine
from provisioner.services.site import Site

pytestmark = pytest.mark.slow

numbers = itertools.count(1)


@pytest.fixture
def stranger() -> tuple[str, str]:
    """The MAC address and the address of a machine that was never seen."""
    number = next(numbers)
    return f"52:54:00:dd:00:{number:02x}", f"127.0.2.{150 + number}"


def row(inside: Site, mac: str) -> dict[str, Any]:
    """Its row, as soon as it was recorded."""
    found = wait_for(lambda: [each for each in quarantine.listing(inside) if each["mac"] == mac], what=mac)
    return dict(found[0])


def post(served: Any, body: bytes, source: str, kind: str = "application/json") -> Reply:
    """A report from a ramdisk."""
    command = ["curl", "-sS", "--max-time", "60", "--interface", source, "-H", f"Content-Type: {kind}"]
    command += ["--data-binary", "@-", "-w", "\n%{http_code}", f"{served.boot}/discovery"]
    done = subprocess.run(command, input=body, capture_output=True, check=True)
    text, _, code = done.stdout.decode().rpartition("\n")
    return Reply(int(code), text, {})


def test_s25_an_unknown_machine_asks_and_is_listed(served: Any, inside: Site, stranger: tuple[str, str]) -> None:
    mac, ip = stranger
    query = "uuid=4c4c4544-0037-3310-8052-b4c04f4d3732&serial=5XKGLW3&manufacturer=Dell%20Inc.&product=R640"
    reply = served.http(f"/boot/ipxe/{mac}?{query}&arch=x86_64&platform=pcbios&ip={ip}", source=ip)
    assert kind_of(reply.text) == "discovery"
    assert (
        "echo serial 5XKGLW3, UUID 4c4c4544-0037-3310-8052-b4c04f4d3732, made by Dell Inc., product R640" in reply.text
    )
    assert "&wait=5&for=adding ||" in reply.text
    row(inside, mac)
    listed = next(each for each in served.cli_json("machine", "discovered") if each["mac"] == mac)
    assert (listed["serial"], listed["vendor"], listed["address"]) == ("5XKGLW3", "Dell Inc.", ip)
    assert listed["facts"]["arch"] == "x86_64"
    table = served.cli("machine", "discovered").stdout
    assert "5XKGLW3" in table and "VENDOR" in table
    again = served.http(f"/boot/ipxe/{mac}?{query}&wait=5&for=adding", source=ip)
    assert "sleep 10 ||" in again.text and "&wait=10&for=adding ||" in again.text
    explained = served.cli("boot", "explain", mac).stdout
    assert "gets: discovery" in explained and "waits to be added" in explained and "in quarantine: seen" in explained
    found = served.cli("machine", "find", "5xkg", code=3)
    assert f"in quarantine: {mac}" in found.stderr


def test_it_is_added_and_built_between_two_of_its_questions(
    served: Any, inside: Site, stranger: tuple[str, str]
) -> None:
    mac, ip = stranger
    ask = lambda: served.http(f"/boot/ipxe/{mac}?serial=Z9&wait=60&for=adding", source=ip).text  # noqa: E731
    assert "sleep 60 ||" in ask()
    row(inside, mac)
    out = served.cli("machine", "add", "found01", "--mac", mac, "--ip", ip).stdout
    assert "out of quarantine" in out and "provisioner machine edit found01 --profile" in out
    assert mac not in served.cli("machine", "discovered").stdout
    text = ask()
    assert "found01 waits for a profile" in text and "sleep 5 ||" in text, "somebody is at work: it asks soon again"
    served.cli("machine", "edit", "found01", "--profile", "rocky9")
    assert "echo provisioner build start found01\n" in ask()
    served.cli("build", "start", "found01")
    assert kind_of(ask()) == "build"
    shown = served.cli_json("machine", "show", "found01")
    assert (shown["serial"], shown["facts"]) == ("Z9", {"serial": "Z9"})


def test_s25_grub_by_tftp_waits_and_is_recorded_too(served: Any, inside: Site, stranger: tuple[str, str]) -> None:
    mac, ip = stranger
    text = (tftp_get(served.tftp, f"grub/by-mac/{mac}", ip) or b"").decode()
    assert kind_of(text) == "discovery"
    assert f"source '/grub/by-mac/{mac}'" in text
    assert row(inside, mac)["address"] == ip


HOSTILE = {
    "sql": "x'; DROP TABLE machine; --",
    "wildcard": "%_%",
    "nul": "a\x00b",
    "lines": "a\r\nb: c\n#!ipxe\nreboot",
    "ansi": "\x1b[2J\x1b]0;x\x07",
    "direction": "a\u202egpj.exe",
    "markup": '"><svg onload=alert(1)>',
    "template": "{{7*7}} ${net0/mac} @@provisioner:answer_token@@",
    "format": "%s%n{}",
    "path": "../../../../etc/passwd",
    "formula": "=cmd|'/c calc'!A0",
}


def test_s37_s54_s61_hostile_facts_stay_text(served: Any, inside: Site) -> None:
    """On the machine's own console, in the database, and in every form of the list."""
    macs = {f"52:54:00:dd:01:{number:02x}": name for number, name in enumerate(HOSTILE, 1)}
    for mac, name in macs.items():
        value = quote(HOSTILE[name])
        query = "&".join(f"{key}={value}" for key in ("serial", "uuid", "manufacturer", "product", "asset", "ip"))
        reply = served.http(f"/boot/ipxe/{mac}?{query}", source=IP)
        assert kind_of(reply.text) == "discovery", name
        assert all(line.isascii() and line.isprintable() for line in reply.text.splitlines()), name
        screen = reply.text.partition("set nic")[0]
        assert "${net0" not in screen and "\nreboot" not in screen, name
        row(inside, mac)
    for form in ("yaml", "csv", "table"):
        shown = served.cli("machine", "discovered", "--output", form).stdout
        assert all(char.isprintable() or char == "\n" for char in shown), form
        assert form != "csv" or f"'{HOSTILE['formula']}" in shown
    for kept in served.cli_json("machine", "discovered"):
        assert all(str(fact).isprintable() for fact in kept["facts"].values())
        if macs.get(kept["mac"]) in {"sql", "wildcard", "markup", "format", "path", "template"}:
            assert (kept["facts"]["product"], kept["uuid"]) == (HOSTILE[macs[kept["mac"]]], None)


@pytest.mark.parametrize(
    "query",
    ["serial=%ff%fe%c3%28", "serial=%ed%a0%80", "serial=%", "serial=a&serial=b", "%00=%00", "&&&=&", "wait=9e9"],
)
def test_s37_broken_encodings_do_no_harm(served: Any, inside: Site, stranger: tuple[str, str], query: str) -> None:
    mac, ip = stranger
    reply = served.http(f"/boot/ipxe/{mac}?{query}", source=ip)
    assert kind_of(reply.text) == "discovery"
    assert row(inside, mac)["mac"] == mac


def test_s73_a_serial_of_64_kib_is_refused_and_the_service_goes_on(
    served: Any, stranger: tuple[str, str], tmp_path: Path
) -> None:
    mac, ip = stranger
    url = tmp_path / "url"
    url.write_text(f'url = "{served.boot}/boot/ipxe/{mac}?serial={"A" * 65536}"\n')
    command = ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "--interface", ip, "-K", str(url)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert 400 <= int(done.stdout) < 500
    assert served.http(f"/boot/ipxe/{mac}?serial={'A' * 2000}B", source=ip).status == 200
    assert served.http("/readyz").status == 200


@pytest.mark.parametrize("path", ["/boot/ipxe/..%2f..%2fetc%2fpasswd", "/boot/ipxe/'%20or%201=1", "/boot/ipxe/%00"])
def test_s37_what_is_no_mac_is_refused(served: Any, path: str) -> None:
    assert served.http(path, source="127.0.2.149").status in {400, 404}


def test_a_ramdisk_reports_what_firmware_cannot_know(served: Any, inside: Site, stranger: tuple[str, str]) -> None:
    mac, ip = stranger
    body = {
        "mac": mac.upper(),
        "serial": "RD12345",
        "memory": 274877906944,
        "disks": [{"name": "nvme0n1", "bytes": 1920383410176}],
        "nics": [{"mac": mac, "name": "eno1"}, {"mac": "52:54:00:dd:ff:01", "name": "eno2"}],
    }
    reply = post(served, json.dumps(body).encode(), ip)
    assert reply.status == 202
    assert reply.json() == {
        "mac": mac,
        "machine": None,
        "next_boot": "discovery",
        "waits_for": f"{mac} waits to be added",
        "commands": [
            f"provisioner machine add NAME --mac {mac} --ip ADDRESS --profile PROFILE",
            "provisioner build start NAME",
        ],
        "again_seconds": 60,
    }
    found = row(inside, mac)
    assert (found["serial"], found["facts"]["disks"][0]["name"]) == ("RD12345", "nvme0n1")


def test_r11_a_ramdisk_whose_other_nic_is_registered_is_flagged(
    served: Any, inside: Site, stranger: tuple[str, str], play: Callable[..., Any]
) -> None:
    machine, (mac, ip) = play(), stranger
    reply = post(served, json.dumps({"mac": mac, "nics": [{"mac": machine.mac}]}).encode(), ip).json()
    assert f"says it is {machine.name}" in reply["waits_for"]
    assert reply["commands"] == [f"provisioner machine edit {machine.name} --add-interface {mac}"]
    assert machine.name in row(inside, mac)["conflict"]
    assert mac in served.cli_json("machine", "show", machine.name)["flag"]
    served.cli("machine", "edit", machine.name, "--add-interface", mac)
    known = post(served, json.dumps({"mac": mac}).encode(), ip).json()
    assert (known["machine"], known["next_boot"], known["waits_for"]) == (machine.name, "local", None)


def test_a_form_will_do(served: Any, inside: Site, stranger: tuple[str, str]) -> None:
    mac, ip = stranger
    reply = served.http("/discovery", source=ip, method="POST", form={"mac": mac, "serial": "FORM1234"})
    assert reply.status == 202
    assert row(inside, mac)["serial"] == "FORM1234"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{}", 400),
        (b'{"mac": "web01"}', 400),
        (b'{"mac": 12}', 400),
        (b"[]", 400),
        (b"{", 400),
        (b'{"mac": "52:54:00:dd:ee:01", "a": ' + b"[" * 5 + b"]" * 5 + b"}", 400),
        (b'{"mac": "52:54:00:dd:ee:01", "a": ' + b"[" * 20000 + b"]" * 20000 + b"}", 400),
        (b'{"mac": "52:54:00:dd:ee:01", "a": ' + b"9" * 5000 + b"}", 400),
        (json.dumps({"mac": "52:54:00:dd:ee:01"} | {f"f{n}": 1 for n in range(65)}).encode(), 400),
        (b'{"mac": "52:54:00:dd:ee:01", "a": "' + b"x" * 65536 + b'"}', 413),
    ],
    ids=lambda value: str(value)[:24] if isinstance(value, bytes) else None,
)
def test_s73_reports_beyond_the_limits_are_refused(served: Any, inside: Site, body: bytes, status: int) -> None:
    reply = post(served, body, "127.0.2.148")
    assert reply.status == status, reply.text
    assert "52:54:00:dd:ee:01" not in {each["mac"] for each in quarantine.listing(inside)}


def test_r15_a_board_swap_is_flagged_at_the_next_boot(served: Any, play: Callable[..., Any]) -> None:
    machine = play(serial="OLD12345")
    served.http(f"/boot/ipxe/{machine.mac}?serial=NEW12345", source=machine.ip)
    flag = wait_for(lambda: served.cli_json("machine", "show", machine.name)["flag"], what="the flag")
    assert "NEW12345" in flag and "OLD12345" in flag


def test_forget_and_the_empty_quarantine(served: Any, inside: Site, stranger: tuple[str, str]) -> None:
    mac, ip = stranger
    served.http(f"/boot/ipxe/{mac}", source=ip)
    row(inside, mac)
    served.cli("machine", "forget", mac.replace(":", "-").upper())
    served.cli("machine", "forget", mac, code=3)
    served.cli("machine", "forget", code=1)
    served.cli("machine", "forget", "--all")
    assert "power it on" in served.cli("machine", "discovered").stdout
    assert served.cli_json("machine", "discovered") == []
