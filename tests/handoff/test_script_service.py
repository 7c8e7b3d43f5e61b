"""The handoffs `script` and `none` through the running service, from the first boot to `configured`."""

import json
import signal
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from conftest import Served, wait_for

from tests.handoff.canary import Canaries
from tests.handoff.hostday import HostDay, at_debug
from tests.handoff.onhost import SHELLS, signal_group

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def talkative(served: Served) -> Served:
    return at_debug(served)


@pytest.mark.parametrize("shell", SHELLS)
def test_a_good_script_makes_the_machine_configured_and_streams_its_log(
    talkative: Served, tmp_path: Path, shell: str
) -> None:
    number = 1 + list(SHELLS).index(shell)
    command = "echo beginning; sleep 4; echo the end"
    day = HostDay(talkative, tmp_path, number, {"tool": "script", "command": command}, shell)
    day.install()
    assert day.state() == "built"
    log = day.machine.root / "var/log/provisioner-handoff.log"
    code, said = day.boot(PROVISIONER_STREAM_PAUSE="1")
    assert code == 0
    assert said.endswith(f"provisioner: the handoff to script: ok (exit status 0), log in {log}\n")
    assert day.state() == "configured"
    assert "handoff-log" in day.kinds()
    assert "beginning" in talkative.cli("build", "log", day.name).stdout
    assert [path.name for path in day.machine.left()] == ["console", "provisioner-handoff.log"]


def test_no_tool_is_configured_when_the_disk_boots(talkative: Served, tmp_path: Path) -> None:
    day = HostDay(talkative, tmp_path, 5, {"tool": "none"})
    day.install()
    assert day.boot()[0] == 0
    assert day.state() == "configured"


def test_a_failed_script_is_tried_again_on_the_machine_itself_without_an_installation(
    talkative: Served, tmp_path: Path
) -> None:
    """The machine waits, fetches the script of the next round by itself, and boots from its disk meanwhile."""
    mended = tmp_path / "mended"
    command = f"echo looking for {mended}; [ -e {mended} ] || {{ echo it is not mended >&2; exit 7; }}"
    day = HostDay(talkative, tmp_path, 6, {"tool": "script", "command": command})
    day.install()
    assert day.boot()[0] == 3
    failed = day.build()
    assert (failed["state"], day.state()) == ("failed", "failed")
    assert failed["outcome"].startswith("handoff: ")
    assert "exit status 7" in failed["outcome"]
    assert "it is not mended" in talkative.cli("build", "log", day.name).stdout
    assert "sanboot" in talkative.http(f"/boot/ipxe/{day.mac}?platform=pcbios", source=day.ip).text
    assert day.boot() == (
        3,
        "provisioner: the handoff to script failed; waiting for `provisioner build retry-handoff`\n",
    )
    first = (day.machine.etc / "handoff.sh").read_text()
    waiting = day.machine.start("wait", PROVISIONER_ROUND_WAIT="600")
    mended.touch()
    talkative.cli("build", "retry-handoff", day.name)
    assert waiting.wait(120) == 0
    assert (day.machine.etc / "handoff.sh").read_text() != first
    assert day.build()["number"] == failed["number"] and day.state() == "built"
    assert day.boot()[0] == 0
    assert day.state() == "configured"
    kinds = day.kinds()
    assert kinds.count("started") == 1 and "retry-handoff" in kinds


def test_a_reboot_asks_for_the_next_round_too(talkative: Served, tmp_path: Path) -> None:
    mended = tmp_path / "mended"
    day = HostDay(talkative, tmp_path, 7, {"tool": "script", "command": f"[ -e {mended} ]"})
    day.install()
    assert day.boot()[0] == 3
    talkative.cli("build", "retry-handoff", day.name)
    mended.touch()
    assert day.boot()[0] == 0
    assert day.state() == "configured"


def test_a_script_that_does_not_confirm_in_time_fails_the_build_with_its_last_words(
    talkative: Served, tmp_path: Path
) -> None:
    handoff = {"tool": "script", "command": "echo waiting for somebody; sleep 60", "timeout": 6}
    day = HostDay(talkative, tmp_path, 8, handoff)
    day.install()
    process = day.machine.start(PROVISIONER_STREAM_PAUSE="1")
    day.until("handoff-log")
    signal_group(process, signal.SIGKILL)  # the machine loses its power, and is never heard of again
    process.wait(60)
    wait_for(lambda: day.state() == "failed", what="the time limit")
    outcome = day.build()["outcome"]
    assert outcome.startswith("handoff: script did not confirm within 6 s")
    assert "it said last: waiting for somebody" in outcome


def test_the_tools_server_reports_where_the_machine_cannot(talkative: Served, tmp_path: Path) -> None:
    """With a token that may do this alone; and once."""
    if "tester" not in talkative.cli("user", "list").stdout:
        password = "correct horse battery staple\n"
        talkative.cli("user", "add", "tester", "--role", "operator", "--password-file", "-", stdin=password)
    made = talkative.cli("token", "add", "ci", "--user", "tester", "--scope", "handoffs", "--output", "json")
    bearer = {"Authorization": f"Bearer {json.loads(made.stdout)['token']}", "Content-Type": "application/json"}
    day = HostDay(talkative, tmp_path, 9, {"tool": "script", "command": "true"})
    day.install()
    url = f"{talkative.admin}/api/v1/builds/{day.build()['id']}:configured"

    def report(**body: Any) -> int:
        return post(talkative, url, bearer, body)

    assert report(ok=True, message="highstate is green", log="line 1\nline 2") == 200
    assert day.state() == "configured"
    log = talkative.cli("build", "log", day.name).stdout
    assert "highstate is green" in log
    assert report(ok=False, message="too late") == 409
    assert day.state() == "configured"
    assert post(talkative, f"{talkative.admin}/api/v1/machines/{day.name}/builds", bearer, {}) == 403


def post(served: Served, url: str, headers: dict[str, str], body: Any) -> int:
    """The status of a request to the API."""
    request = urllib.request.Request(url, json.dumps(body).encode(), headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_s80_s81_a_machines_secret_in_a_whole_day_is_nowhere(talkative: Served, tmp_path: Path) -> None:
    """The tokens of both rounds, and a secret of the machine's own."""
    canaries = Canaries()
    with canaries.in_processes():
        day = HostDay(talkative, tmp_path, 10, {"tool": "script", "command": f"[ -e {tmp_path}/mended ]"})
        canaries.add("a secret of the machine", "canary-Xq7-horse")
        talkative.cli("machine", "edit", day.name, "--secret", "license=-", stdin="canary-Xq7-horse\n")
        day.install()
        canaries.add("the handoff token", handoff_token(day))
        assert day.boot()[0] == 3
        talkative.cli("build", "retry-handoff", day.name)
        (tmp_path / "mended").touch()
        assert day.boot()[0] == 0
    assert day.state() == "configured"
    canaries.assert_nowhere(talkative, day.name, left=day.machine.left())


def handoff_token(day: HostDay) -> str:
    """The token in the script that lies on the machine's disk."""
    text = (day.machine.etc / "handoff.sh").read_text()
    return text.split("/build/")[1].split("\n")[0].split("'")[0]
