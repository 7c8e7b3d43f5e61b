"""The first boot where there is no systemd: the init script, run by real shells in a root directory of its own."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import wait_for

from provisioner import handoff
from provisioner.core.markers import BUILD_URLS, fill
from tests.render.recorder import Asked, Recorder, recorder

SNIPPET = Path(__file__).resolve().parents[2] / "kickstarts/snippets/first-boot-unit.sh.j2"
ARRANGEMENTS = {"debian": "etc/rc{}.d", "redhat": "etc/rc.d/rc{}.d"}
pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.geteuid() != 0, reason="chroot(1) needs root")]


@dataclass(frozen=True)
class System:
    """A system without systemd: busybox, and the wanted shell as /bin/sh."""

    root: Path
    shell: str
    arrangement: str = "debian"

    def make(self) -> None:
        """Its files, as a distribution has them."""
        for name in ("bin", "var/log", "tmp", "dev", "proc/net", "etc"):
            (self.root / name).mkdir(parents=True)
        shutil.copy(str(shutil.which("busybox")), self.root / "bin/busybox")
        self.run(["/bin/busybox", "--install", "-s", "/bin"])
        (self.root / "dev/null").touch()
        (self.root / "proc/net/route").write_text("Iface\neth0\n")
        if self.shell == "dash":
            (self.root / "bin/sh").unlink()
            shutil.copy(str(shutil.which("dash")), self.root / "bin/sh")
            for library in re.findall(r"(/\S+) \(0x", subprocess.check_output(["ldd", "/bin/dash"], text=True)):
                (self.root / library[1:]).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(library, self.root / library[1:])
        for level in range(7):
            (self.root / ARRANGEMENTS[self.arrangement].format(level)).mkdir(parents=True)
        if self.arrangement == "redhat":
            (self.root / "etc/rc.d/init.d").mkdir()
            (self.root / "etc/init.d").symlink_to("rc.d/init.d")
            for level in range(7):
                (self.root / f"etc/rc{level}.d").symlink_to(f"rc.d/rc{level}.d")
        else:
            (self.root / "etc/init.d").mkdir()

    def run(self, command: list[str], code: int = 0) -> str:
        """Run a command inside; both its streams."""
        done = subprocess.run(
            [str(shutil.which("chroot")), str(self.root), *command],
            env={"PATH": "/bin", "PROVISIONER_STREAM_PAUSE": "0"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == code, done.stdout
        return done.stdout

    def install(self) -> None:
        """What the installer runs, from outside."""
        text = re.sub(r"(?s)\{##.*?##\}", "", SNIPPET.read_text())
        subprocess.run(["sh", "-euc", text], env={"root": str(self.root), "PATH": os.environ["PATH"]}, check=True)

    def script(self, server: Recorder, command: str) -> str:
        """A handoff script that reports to the recorder."""
        prepared = handoff.Prepared({"command": command, "timeout": 60})
        text = handoff.handoff_script("script", prepared, BUILD_URLS)
        names = ("handoff_token", "event_token", "answer_token")
        text = fill(text, {"boot_url": server.url, **{name: name.upper() for name in names}})
        return text.replace("pause=15\n", "pause=1\n")

    def put(self, text: str) -> None:
        """Leave the handoff script there."""
        (self.root / "etc/provisioner/handoff.sh").write_text(text)
        (self.root / "etc/provisioner/handoff.sh").chmod(0o700)

    def links(self) -> list[str]:
        """What init would start, by runlevel."""
        return sorted(str(each.relative_to(self.root)) for each in self.root.glob("etc/rc*.d/**/S99*"))

    def boot(self, level: int = 2) -> None:
        """What init does in this runlevel."""
        self.run([f"/etc/rc{level}.d/S99provisioner-handoff", "start"])

    def is_clean(self) -> bool:
        """Whether nothing is left of the handoff."""
        return not self.links() and not any((self.root / "etc/provisioner").iterdir())


@pytest.fixture(params=["busybox-debian", "dash-debian", "busybox-redhat", "dash-redhat"])
def system(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[System]:
    made = System(tmp_path / "root", *request.param.split("-"))
    made.make()
    made.install()
    yield made
    for process in Path("/proc").glob("[0-9]*"):  # what a failed test leaves would wait for a day
        with contextlib.suppress(OSError):
            if (process / "root").readlink() == made.root:
                os.kill(int(process.name), signal.SIGKILL)


def test_the_init_script_hands_over_once_and_removes_itself(system: System) -> None:
    with recorder(lambda asked, before: (200, b'{"state":"configured"}')) as server:
        system.put(system.script(server, "echo ran >>/runs"))
        system.boot()
        wait_for(system.is_clean, what="the end of the handoff")
        log = system.root / "var/log/provisioner-first-boot.log"
        wait_for(lambda: "provisioner: handed over" in log.read_text(), what="the end of the init script")
    assert [each.form["status"] for each in server.asked if each.path.endswith("/configured")] == ["ok"]
    assert (system.root / "runs").read_text() == "ran\n"
    assert not (system.root / "etc/init.d/provisioner-handoff").exists()


def test_it_is_started_in_the_runlevels_of_servers_and_says_how_to_use_it(system: System) -> None:
    names = [ARRANGEMENTS[system.arrangement].format(level) for level in (2, 3, 4, 5)]
    assert {f"{name}/S99provisioner-handoff" for name in names} <= set(system.links())
    for level in (2, 3, 4, 5):
        assert "usage:" in system.run([f"/etc/rc{level}.d/S99provisioner-handoff"], code=2)
        assert system.run([f"/etc/rc{level}.d/S99provisioner-handoff", "stop"]) == ""
    assert not (system.root / "etc/rc0.d/S99provisioner-handoff").exists()
    text = (system.root / "etc/init.d/provisioner-handoff").read_text()
    assert "### BEGIN INIT INFO" in text and "# chkconfig: 2345 99 01" in text


def test_boot_is_not_held_up_by_the_handoff(system: System) -> None:
    """The init script returns while the handoff still runs: a console must come up even when a tool hangs."""
    with recorder(lambda asked, before: (200, b'{"state":"configured"}')) as server:
        system.put(system.script(server, "until [ -e /go ]; do sleep 1; done"))
        system.boot()
        assert not system.is_clean()
        (system.root / "go").touch()
        wait_for(system.is_clean, what="the end of the handoff")


def test_another_round_comes_to_a_machine_that_waits(system: System) -> None:
    """No reboot is needed: `wait` runs beside init, fetches the next script and runs it."""
    wanted: list[str] = []

    def answer(asked: Asked, before: int) -> tuple[int, bytes]:
        if asked.path.endswith("/again"):
            return 200, wanted[0].encode() if wanted else b""
        return 200, b'{"state":"built"}'

    with recorder(answer) as server:
        system.put(system.script(server, "echo first >>/runs; exit 7"))
        system.boot()
        wait_for(lambda: any(each.path.endswith("/again") for each in server.asked), what="the question for a round")
        wanted.append(system.script(server, "echo second >>/runs"))
        wait_for(system.is_clean, what="the end of the second round")
    told = [each.form["status"] for each in server.asked if each.path.endswith("/configured")]
    assert told == ["failed", "ok"]
    assert (system.root / "runs").read_text() == "first\nsecond\n"


def test_after_a_reboot_a_failed_handoff_asks_and_does_not_run_again(system: System) -> None:
    with recorder(lambda asked, before: (200, b"")) as server:
        system.put(system.script(server, "echo ran >>/runs; exit 7"))
        # The machine is switched off while it waits: the first boot's loop ends with it.
        system.run(["/etc/provisioner/handoff.sh"], code=3)
        asked = len(server.asked)
        assert "waiting for `provisioner build retry-handoff`" in system.run(["/etc/provisioner/handoff.sh"], code=3)
        assert [each.path.rpartition("/")[2] for each in server.asked[asked:]] == ["again"]
    assert (system.root / "runs").read_text() == "ran\n"


def test_where_there_is_systemd_there_is_no_init_script(tmp_path: Path) -> None:
    for place in ("usr/lib/systemd/system", "lib/systemd/system"):
        system = System(tmp_path / place.replace("/", "-"), "busybox")
        system.make()
        (system.root / place).mkdir(parents=True)
        system.install()
        assert system.links() == []
        assert not (system.root / "etc/init.d/provisioner-handoff").exists()
        assert (system.root / "etc/systemd/system/multi-user.target.wants/provisioner-handoff.service").is_symlink()
