"""The first-boot script, run by real shells against a real HTTP server."""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from provisioner import handoff
from provisioner.core.markers import BUILD_URLS, fill
from provisioner.handoff import Prepared
from tests.render.recorder import Asked, Recorder, recorder

pytestmark = pytest.mark.slow

SHELLS = {"bash": ["bash"], "dash": ["dash"], "busybox": ["busybox", "sh"]}
REAL = (
    "head",
    "chmod",
    "date",
    "cat",
    "tr",
    "sed",
    "awk",
    "mkdir",
    "mv",
    "rm",
    "tail",
    "wc",
    "grep",
    "sync",
    "timeout",
    "sh",
    "id",
    "true",
)


@dataclass(frozen=True)
class Machine:
    """A freshly installed system in a directory, and how to boot it."""

    root: Path
    shell: str
    client: str

    @property
    def etc(self) -> Path:
        return self.root / "etc/provisioner"

    def install(self, server: Recorder, name: str = "script", secrets: tuple[str, ...] = (), **settings: Any) -> None:
        """What the installer leaves behind."""
        text = handoff.handoff_script(name, Prepared(settings, secrets=secrets), BUILD_URLS)
        self.etc.mkdir(parents=True)
        script = self.etc / "handoff.sh"
        script.write_text(fill(text, {"boot_url": server.url, "handoff_token": "TOKEN"}))
        script.chmod(0o700)

    def boot(self, *words: str, stream: str = "0") -> int:
        """Run the script once; its exit status. Pauses take no time; only the wanted HTTP client exists."""
        tools = self.root / "bin"
        if not tools.exists():
            tools.mkdir()
            for name in REAL:
                (tools / name).symlink_to(str(shutil.which(name)))
            real = "/usr/bin/python3" if self.client == "python3" else shutil.which(self.client)
            client = tools / self.client
            client.write_text(f'#!/bin/sh\necho "$0 $*" >>{self.root}/command-lines\nexec {real} "$@"\n')
            client.chmod(0o755)
        # Debian's static busybox prefers its applets to PATH: functions come before both.
        script = (self.etc / "handoff.sh").read_text()
        functions = "" if stream != "0" else f"sleep() {{ echo $1 >>{self.root}/sleeps; }}\n"
        functions += f"command() {{ [ -x {tools}/$2 ]; }}\n"
        if self.client == "wget" and self.shell != "busybox":
            functions += f'wget() {{ {tools}/wget "$@"; }}\n'
        run = self.root / "run.sh"
        run.write_text(functions + script)
        environment = {"PATH": str(tools), "PROVISIONER_ROOT": str(self.root), "PROVISIONER_NETWORK_WAIT": "0"}
        environment |= {"PROVISIONER_STREAM_PAUSE": stream, "PROVISIONER_ROUND_WAIT": "60"}
        program = str(shutil.which(SHELLS[self.shell][0]))
        done = subprocess.run(
            [program, *SHELLS[self.shell][1:], str(run), *words],
            env=environment,
            capture_output=True,
            timeout=60,
            check=False,
        )
        return done.returncode

    def log(self) -> str:
        return (self.root / "var/log/provisioner-handoff.log").read_text()


SYSTEMS = [("bash", "curl"), ("dash", "wget"), ("dash", "python3"), ("busybox", "curl"), ("busybox", "wget")]


@pytest.fixture(params=SYSTEMS, ids="-".join)
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    if request.param[1] == "python3" and not Path("/usr/bin/python3").exists():
        pytest.skip("no /usr/bin/python3 here")
    return Machine(tmp_path, *request.param)


def fine(asked: Asked, before: int) -> tuple[int, bytes]:
    return 200, b"ok"


def refuses(asked: Asked, before: int) -> tuple[int, bytes]:
    return 403, b"no"


def test_a_good_run_is_reported_and_leaves_nothing(machine: Machine) -> None:
    """No script, no token, no state: only the log."""
    with recorder(fine) as server:
        machine.install(server, command="echo hello '& 100%'; id -u", timeout=60)
        assert machine.boot() == 0
    (report,) = server.asked
    assert (report.method, report.path) == ("POST", "/build/TOKEN/configured")
    assert report.form["status"] == "ok"
    assert report.form["exit_code"] == "0"
    assert report.form["log"] == f"hello & 100%\n{os.geteuid()}"
    assert list(machine.etc.iterdir()) == []
    assert "TOKEN" not in machine.log()
    if (machine.shell, machine.client) != ("busybox", "wget"):  # its own wget can be told no URL in another way
        # everybody on the machine can see those
        assert f"bin/{machine.client} " in (seen := (machine.root / "command-lines").read_text())
        assert "TOKEN" not in seen


def test_a_failed_run_is_reported_with_its_status_and_the_end_of_its_log(machine: Machine) -> None:
    command = (
        "i=0; while [ $i -lt 9000 ]; do echo 0123456789; i=$((i + 1)); done; printf 'é\\033[31m=+%% the end'; exit 7"
    )
    with recorder(fine) as server:
        machine.install(server, command=command, timeout=60)
        assert machine.boot() == 3
    (report,) = server.asked
    assert (report.form["status"], report.form["exit_code"]) == ("failed", "7")
    assert "exit status 7" in report.form["message"]
    assert report.form["log"].endswith("0123456789\né[31m=+% the end")
    assert 50_000 < len(report.form["log"]) <= 61_440
    assert (machine.etc / "handoff.sh").exists()


def test_the_body_runs_once_until_its_result_is_reported(machine: Machine) -> None:
    """A server that does not answer at the first boot: the next boot reports, and runs nothing again."""
    with recorder(refuses) as server:
        machine.install(server, command=f"echo ran >>{machine.root}/runs", timeout=60)
        assert machine.boot() == 1
        assert len(server.asked) == 8
        sleeps = [int(line) for line in (machine.root / "sleeps").read_text().split()]
        assert sleeps[:6] == [2, 4, 8, 16, 32, 64]
        first = server.url
    with recorder(fine) as server:
        script = machine.etc / "handoff.sh"
        script.write_text(script.read_text().replace(first, server.url))
        assert machine.boot() == 0
    assert [each.form["status"] for each in server.asked] == ["ok"]
    assert (machine.root / "runs").read_text() == "ran\n"


def test_a_reported_failure_is_tried_anew_when_somebody_asks_for_that_and_not_before(machine: Machine) -> None:
    """Neither the unit's own loop nor a reboot runs a failing script again: nobody would take its report."""
    again: list[bytes] = []

    def answers(asked: Asked, before: int) -> tuple[int, bytes]:
        return 200, again[0] if asked.path.endswith("/again") and again else b""

    with recorder(answers) as server:
        command = f"echo ran >>{machine.root}/runs; [ -e {machine.root}/mended ]"
        machine.install(server, command=command, timeout=60)
        assert [machine.boot(), machine.boot()] == [3, 3]
        assert [each.path for each in server.asked] == ["/build/TOKEN/configured", "/build/TOKEN/again"]
        again.append((machine.etc / "handoff.sh").read_bytes().replace(b"TOKEN", b"LATER"))
        (machine.root / "mended").touch()
        assert machine.boot("wait") == 0
        assert (machine.etc / "handoff.sh").read_bytes() == again[0]
        assert machine.boot() == 0
    assert [each.form["status"] for each in server.asked if "status" in each.form] == ["failed", "ok"]
    assert server.asked[-1].path == "/build/LATER/configured"
    assert (machine.root / "runs").read_text() == "ran\nran\n"


def test_a_run_that_the_server_does_not_believe_waits_for_another_round(machine: Machine) -> None:
    with recorder(lambda asked, before: (200, b'{"repeated":false,"state":"failed"}')) as server:
        machine.install(server, command="true", timeout=60)
        assert machine.boot() == 3
    assert (machine.etc / "handoff.sh").exists()
    assert (machine.etc / "handoff.reported").exists()


def test_it_waits_for_another_round_for_some_time_and_then_no_more(machine: Machine) -> None:
    with recorder(refuses) as server:
        machine.install(server, command="true", timeout=60)
        assert machine.boot("wait") == 3
    assert {each.path for each in server.asked} == {"/build/TOKEN/again"}
    assert (machine.root / "sleeps").read_text().split() == ["15", "30", "60"]


def test_secrets_that_the_installer_left_are_there_for_the_run_and_gone_after_it(machine: Machine) -> None:
    with recorder(fine) as server:
        machine.install(server, secrets=("a-key",), command=f"cat {machine.etc}/secrets/a-key; exit 4", timeout=60)
        (machine.etc / "secrets").mkdir()
        (machine.etc / "secrets/a-key").write_text("two\nlines\n")
        assert machine.boot() == 3
    assert [each.path for each in server.asked] == ["/build/TOKEN/configured"]
    assert server.asked[0].form["log"] == "two\nlines"
    assert not (machine.etc / "secrets").exists()


def test_secrets_of_another_round_are_taken_with_one_nonce_until_the_answer_comes(machine: Machine) -> None:
    def answers(asked: Asked, before: int) -> tuple[int, bytes]:
        if "/secret/" not in asked.path:
            return 200, b""
        return (200, b"two\nlines") if before >= 2 else (503, b"")

    with recorder(answers) as server:
        machine.install(server, secrets=("a-key",), command=f"cat {machine.etc}/secrets/a-key", timeout=60)
        assert machine.boot() == 0
    taken, (report,) = server.asked[:-1], server.asked[-1:]
    assert [each.path for each in taken] == ["/build/TOKEN/secret/a-key"] * 3
    assert len({each.form["nonce"] for each in taken}) == 1
    assert report.form["log"].endswith("two\nlines")
    assert list(machine.etc.iterdir()) == []


def test_without_its_secret_nothing_is_run(machine: Machine) -> None:
    def answers(asked: Asked, before: int) -> tuple[int, bytes]:
        return (403, b"no") if "/secret/" in asked.path else (200, b"")

    with recorder(answers) as server:
        machine.install(server, secrets=("a-key",), command=f"echo ran >>{machine.root}/runs", timeout=60)
        assert machine.boot() == 3
    report = server.asked[-1].form
    assert (report["status"], report["exit_code"]) == ("failed", "75")
    assert "the secret a-key was refused" in report["log"]
    assert not (machine.root / "runs").exists()


def test_the_log_is_told_while_it_grows(machine: Machine) -> None:
    """The run ends when the server has seen its first line."""
    seen = machine.root / "seen"

    def answers(asked: Asked, before: int) -> tuple[int, bytes]:
        if asked.form.get("status") == "running":
            seen.touch()
        return 200, b""

    with recorder(answers) as server:
        wait = f"echo first & line; until [ -e {seen} ]; do /bin/sleep 0.05; done; echo last"
        (machine.root / "bin").mkdir()
        (machine.root / "bin/sleep").symlink_to("/bin/sleep")
        for name in (*REAL, machine.client):
            if machine.client != "python3" or name != "python3":
                (machine.root / "bin" / name).symlink_to(str(shutil.which(name)))
            else:
                (machine.root / "bin/python3").symlink_to("/usr/bin/python3")
        machine.install(server, command=wait.replace(" & ", " \\& "), timeout=60)
        assert machine.boot(stream="0.05") == 0
    told = server.asked[0]
    assert told.path == "/build/TOKEN/configured", "no other token lies on the disk"
    assert (told.form["status"], told.form["message"], told.form["log"]) == ("running", "first & line", "first & line")
    assert server.asked[-1].form["log"] == "first & line\nlast"


def test_a_command_that_hangs_is_ended(machine: Machine) -> None:
    with recorder(fine) as server:
        machine.install(server, command="/bin/sleep 600", timeout=1)
        assert machine.boot() == 3
    expected = {"124", "143"}  # busybox's timeout passes on the signal
    assert server.asked[0].form["exit_code"] in expected


def test_the_report_waits_for_the_server(machine: Machine) -> None:
    with recorder(lambda asked, before: (503 if before < 3 else 204, b"")) as server:
        machine.install(server, command="true", timeout=60)
        assert machine.boot() == 0
    assert len(server.asked) == 4
    assert len({each.body for each in server.asked}) == 1


def test_no_tool_reports_that_the_machine_is_up(machine: Machine) -> None:
    with recorder(fine) as server:
        machine.install(server, "none")
        text = (machine.etc / "handoff.sh").read_text()
        assert machine.boot() == 0
    assert "# Tells Provisioner that this machine runs from its own disk." in text
    assert "handoff to none" not in text and re.search("@[a-z]+@", text) is None
    assert server.asked[0].form["status"] == "ok"


@pytest.mark.parametrize(
    "command", ["echo 'it''s'; echo \"$HOME\"", "cat <<X\n@url@ @body@\n}\nX\n", "exit 0 # )", "set -e\n:"]
)
def test_s34_any_command_stays_one_command(tmp_path: Path, command: str) -> None:
    """Quotes, newlines, here-documents and our own placeholders."""
    text = handoff.handoff_script("script", Prepared({"command": command, "timeout": 60}), BUILD_URLS)
    for shell in SHELLS.values():
        subprocess.run([*shell, "-n"], input=text.encode(), check=True)
    machine = Machine(tmp_path, "dash", "curl")
    with recorder(fine) as server:
        machine.install(server, command=command, timeout=60)
        assert machine.boot() == 0
    expected = subprocess.run(["/bin/sh", "-c", command], env={}, capture_output=True, check=True).stdout.decode()
    assert server.asked[0].form["log"] == expected.removesuffix("\n")


def test_the_script_holds_markers_and_no_secret() -> None:
    text = handoff.handoff_script("script", Prepared({"command": "true", "timeout": 60}), BUILD_URLS)
    assert f"url={BUILD_URLS['configured']}\n" in text or f"url='{BUILD_URLS['configured']}'\n" in text
    assert text.startswith("#!/bin/sh\n# Hands this machine to script and tells Provisioner how that went.")
    assert 'say "the handoff to script: $status' in text
