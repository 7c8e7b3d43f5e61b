"""The interpreter does with a script what iPXE does; held against the scripts that we send."""

import asyncio
from dataclasses import dataclass, field

import pytest

from provisioner.render import bootscripts
from provisioner.simulate.ipxe import Interpreter, Outcome, classify

SETTINGS = {"netX/mac": "5a:1d:00:00:00:01", "netX/ip": "127.64.0.1", "uuid": "u-1", "serial": "A B", "platform": "efi"}
BOOT, MEDIA = "http://127.0.0.1:8080", "http://127.0.0.1:8081/media/sha256/00"


@dataclass
class Scripted:
    """A machine that notes what its iPXE asks for; what is not in ``scripts`` or ``images`` fails."""

    scripts: dict[str, str] = field(default_factory=dict)
    images: tuple[str, ...] = ()
    asked: list[str] = field(default_factory=list)
    paused: list[float] = field(default_factory=list)
    leases: int = 0

    async def script(self, url: str) -> str | None:
        self.asked.append(url)
        return self.scripts.get(url.partition("?")[0])

    async def image(self, name: str, url: str) -> bool:
        self.asked.append(f"{name} {url}")
        return url in self.images

    async def pause(self, seconds: float) -> None:
        self.paused.append(seconds)

    async def lease(self) -> bool:
        self.leases += 1
        return True

    def run(self, text: str, **settings: str) -> Outcome:
        return asyncio.run(Interpreter(self, SETTINGS | settings).run(text))


def test_the_first_script_asks_with_what_the_machine_is() -> None:
    machine = Scripted({f"{BOOT}/boot/ipxe/5a-1d-00-00-00-01": "#!ipxe\nsanboot --drive 0x80 ||\nexit 1\n"})
    assert machine.run(bootscripts.first_ipxe(BOOT)).kind == "local"
    (asked,) = machine.asked
    assert "uuid=u-1&serial=A%20B&manufacturer=&" in asked
    assert asked.endswith("ip=127.64.0.1")
    assert machine.leases == 0


def test_without_an_address_it_asks_dhcp_first() -> None:
    machine = Scripted()
    machine.run(bootscripts.first_ipxe(BOOT), **{"netX/ip": ""})
    assert machine.leases >= 1


def test_nobody_answers() -> None:
    """Thirty tries, ten seconds apart, then on to the next boot device."""
    machine = Scripted()
    assert machine.run(bootscripts.first_ipxe(BOOT)).kind == "exit"
    assert len(machine.asked) == bootscripts.RETRIES
    assert machine.paused == [bootscripts.RETRY_SECONDS] * (bootscripts.RETRIES - 1)


def test_kernel_and_initrd_with_the_whole_command_line() -> None:
    machine = Scripted(images=(f"{MEDIA}/vmlinuz", f"{MEDIA}/initrd.img"))
    script = bootscripts.install_ipxe(
        f"{MEDIA}/vmlinuz", [f"{MEDIA}/initrd.img"], ["inst.ks=http://x/build/t/answer", "a=b#c"], "it"
    )
    outcome = machine.run(script)
    assert outcome.kind == "boot"
    line = ("initrd=initrd", "BOOTIF=01-5a-1d-00-00-00-01", "inst.ks=http://x/build/t/answer", "a=b#c")
    assert outcome.arguments == line
    assert machine.asked == [f"kernel {MEDIA}/vmlinuz", f"initrd {MEDIA}/initrd.img"]


@pytest.mark.parametrize("missing", ["vmlinuz", "initrd.img"])
def test_a_file_that_does_not_come_is_asked_for_again_and_ends_in_a_reboot(missing: str) -> None:
    there = tuple(f"{MEDIA}/{name}" for name in ("vmlinuz", "initrd.img") if name != missing)
    machine = Scripted(images=there)
    script = bootscripts.install_ipxe(f"{MEDIA}/vmlinuz", [f"{MEDIA}/initrd.img"], [], "it")
    assert machine.run(script).kind == "reboot"
    assert sum(missing in asked for asked in machine.asked) == bootscripts.RETRIES


def test_every_script_of_ours_ends_as_it_is_classified() -> None:
    loader = bootscripts.loader_url(BOOT, "local.efi")
    cases = {
        "local": [bootscripts.local_ipxe("pcbios"), bootscripts.local_ipxe("efi", boot_url=BOOT)],
        "halt": [bootscripts.halt_ipxe(["stopped", "sleep 5"])],
        "build": [bootscripts.install_ipxe(f"{MEDIA}/vmlinuz", [], [], "it")],
        "discovery": [bootscripts.discovery_ipxe(["who are you"], BOOT, 30, "profile")],
    }
    assert {classify(text) for texts in cases.values() for text in texts} == set(cases)
    for kind, texts in cases.items():
        for text in texts:
            assert classify(text) == kind, text
    machine = Scripted(images=(f"{MEDIA}/vmlinuz", loader))
    assert machine.run(cases["halt"][0]).kind == "halt"
    assert machine.run(cases["local"][0]).kind == "local"
    assert machine.run(cases["local"][1]).kind in {"local", "exit"}
    assert machine.run(cases["build"][0]).kind == "boot"


def test_discovery_waits_asks_dhcp_and_goes_on_with_what_it_gets() -> None:
    own = f"{BOOT}/boot/ipxe/5a-1d-00-00-00-01"
    machine = Scripted({own: bootscripts.halt_ipxe(["stop"])})
    assert machine.run(bootscripts.discovery_ipxe(["who"], BOOT, 30, "profile")).kind == "halt"
    assert (machine.paused, machine.leases) == ([30.0], 1)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("iseq 1 2 && goto end ||\necho on", ["on"]),
        ("iseq 1 1 && goto end ||\necho on", ["end"]),
        ("isset ${nothing} || echo empty", ["empty", "end"]),
        ("isset ${uuid} || echo empty", ["end"]),
        ("set n:int32 0\ninc n\ninc n 4\necho ${n}", ["5", "end"]),
        ("echo ${netX/mac:hexhyp} ${serial:uristring}", ["5a-1d-00-00-00-01 A%20B", "end"]),
    ],
)
def test_connectives_and_settings(lines: str, said: list[str]) -> None:
    outcome = Scripted().run(f"#!ipxe\n{lines}\n:end\necho end\nexit")
    assert list(outcome.said)[: len(said)] == said or list(outcome.said) == [*said, "end"]


def test_a_failure_that_nothing_follows_up_ends_the_script() -> None:
    outcome = Scripted().run("#!ipxe\niseq 1 2\necho never\n")
    assert (outcome.kind, "never" in outcome.said) == ("failed", False)


@pytest.mark.parametrize("text", ["", "<html>", '{"status": 404}', "#!/bin/sh\nexit 0"])
def test_what_is_no_script_is_not_run(text: str) -> None:
    assert Scripted().run(text).kind == "failed"


def test_an_unknown_command_or_label_is_an_error() -> None:
    for line in ("vcreate --tag 5", "goto nowhere", "kernel --name kernel"):
        with pytest.raises(ValueError, match=r"."):
            Scripted().run(f"#!ipxe\n{line}\n")


def test_an_endless_script_ends() -> None:
    assert Scripted().run("#!ipxe\n:a\ngoto a\n").kind == "failed"
