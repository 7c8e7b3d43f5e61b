"""Commands that ask a server: who did it and why, who may, and what stands in the way."""

import functools
import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Served, wait_for
from doors import TOKEN, local, remote
from played import Played
from world import IP, MAC

from provisioner.cli.root import cli
from provisioner.services import records

pytestmark = pytest.mark.slow


def test_s85_the_history_names_the_token_and_the_reason(served: Served) -> None:
    there = remote(served)
    there.run("--reason", "größer, INC-1\n2", "subnet", "add", "three", "--cidr", "127.0.4.0/24")
    site = served.site
    row = records.listing(site, "three")[0]
    site.engine.dispose()
    assert (row["actor"], row["reason"]) == ("admin", "größer, INC-1 2")
    assert row["origin"].startswith("api (token door-admin, 127.0.0.1")


def test_r17_a_change_in_between_is_a_conflict(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else changes the object while the question whether to remove it is open."""
    here, there = local(served), remote(served)
    for door, name in ((here, "four"), (there, "five")):
        here.run("subnet", "add", name, "--cidr", f"127.0.{len(name) + 10}.0/24" if name == "four" else "127.0.20.0/24")

        def meanwhile(*_: object, name: str = name, **__: object) -> bool:
            here.run("subnet", "edit", name, "--domain", "lab.example.com")
            return True

        monkeypatch.setattr("click.confirm", meanwhile)
        refused = door.run("subnet", "remove", name, code=4)
        assert "stale" in refused.err
        assert "somebody changed it first" in refused.err
        assert here.run("subnet", "show", name, "-o", "json").json()["domain"] == "lab.example.com"


@pytest.mark.parametrize("role", ["viewer", "operator", "author"])
def test_s11_a_lower_role_is_refused_and_told(served: Served, role: str) -> None:
    there = remote(served, role)
    there.run("machine", "list")
    refused = there.run("user", "list", code=1)
    assert "forbidden" in refused.err
    assert "next:" in refused.err


LOCAL_ONLY = ("serve", "init", "check", "simulate 1", "apply .", "export .", "dhcp show", "dhcp check")
# Those whose every word goes to the server; whatever is in neither list fails the test below.
REMOTE = {"machine", "subnet", "profile", "template", "distro", "image", "build", "boot", "render", "history"}
REMOTE |= {"user", "token", "webhook", "inventory", "puppet-autosign", "storm"}


@pytest.mark.parametrize("line", [*LOCAL_ONLY, "inventory sync netbox"])
def test_what_is_local_only_says_so(served: Served, line: str) -> None:
    refused = remote(served).run(*line.split(), code=2)
    assert f"`provisioner {line.partition(' ')[0]}" in refused.err
    assert "is local only" in refused.err
    assert "run it on the server" in refused.err


def test_every_command_is_local_only_or_asks_the_server() -> None:
    local_only = {line.split()[0] for line in LOCAL_ONLY}
    assert set(cli.commands) == local_only | REMOTE


def test_a_state_directory_and_a_server_exclude_each_other(served: Served, tmp_path: Path) -> None:
    refused = remote(served).run("--state-dir", str(tmp_path), "machine", "list", code=2)
    assert "PROVISIONER_URL" in refused.err


def test_a_token_that_opens_nothing(served: Served) -> None:
    refused = remote(served).run("machine", "list", code=1, **{TOKEN: "pvt_x_y"})
    assert "not-logged-in" in refused.err
    assert "PROVISIONER_TOKEN" in refused.err


@pytest.mark.parametrize("plane", ["boot", "media"])
def test_another_listener_is_not_taken_for_the_admin_plane(served: Served, plane: str) -> None:
    refused = remote(served).run("machine", "list", code=1, PROVISIONER_URL=getattr(served, plane))
    assert "not-provisioner" in refused.err
    assert "admin plane" in refused.err


def test_files_of_this_host_do_not_reach_the_server(served: Served, tmp_path: Path) -> None:
    there = remote(served)
    words = ["distro", "add", "d", "--os", "rocky", "--version", "9.6", "--initrd", "http://127.0.0.1:9/initrd"]
    refused = there.run(*words, "--kernel", str(tmp_path / "vmlinuz"), code=1)
    assert "--kernel" in refused.err
    assert "URL" in refused.err


class _Quiet(http.server.SimpleHTTPRequestHandler):
    """A mirror that keeps its log to itself."""

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class's name
        del format, arguments


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[str]:
    """A web server with a kernel and an initrd."""
    for name in ("vmlinuz", "initrd.img"):
        (tmp_path / name).write_bytes(name.encode() * 1000)
    handler = functools.partial(_Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_the_first_five_minutes_from_elsewhere(served: Served, mirror: str) -> None:
    """The design's words, through the API, up to a machine that is configured."""
    there = remote(served)
    there.run("subnet", "add", "far", "--cidr", "127.0.9.0/24", "--gateway", "127.0.9.1", "--dhcp", "off")
    media = ["--kernel", f"{mirror}/vmlinuz", "--initrd", f"{mirror}/initrd.img", "--tree", f"{mirror}/tree"]
    added = there.run("distro", "add", "rocky-9.7", "--os", "rocky", "--version", "9.7", *media)
    assert "distro rocky-9.7 added: kernel" in added.out
    there.run("machine", "add", "web01", "--mac", MAC, "--ip", IP, "--profile", "rocky9")
    assert "armed" in there.run("build", "start", "web01").out
    assert "power it on" in there.run("build", "show", "web01").out
    machine = Played(served, served.site, "web01", MAC, IP)
    tokens = machine.tokens()
    assert machine.event(tokens["event"], "built").status == 200
    report = f"/build/{tokens['handoff']}/configured"
    assert served.http(report, source=IP, method="POST", form={"status": "ok"}).status == 200
    machine.site.engine.dispose()
    watched = there.run("build", "show", "web01", "--watch")
    assert watched.out.rstrip().endswith("configured")
    assert there.run("machine", "show", "web01", "-o", "json").json()["state"] == "configured"


def test_a_build_is_watched_from_elsewhere(served: Served) -> None:
    there = remote(served)
    mac, ip = "52:54:00:12:34:77", "127.0.2.77"
    there.run("machine", "add", "web77", "--mac", mac, "--ip", ip, "--profile", "rocky9")
    there.run("build", "start", "web77")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PROVISIONER_")}
    watch = subprocess.Popen(
        [sys.executable, "-m", "provisioner", "build", "show", "web77", "--watch"],
        env=kept | dict(there.environment) | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert watch.stdout is not None
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(iter(watch.stdout.readline, "")))  # type: ignore[union-attr]
    reader.start()
    wait_for(lambda: any("power it on" in line for line in lines), what="the watch to wait for the machine")
    machine = Played(served, served.site, "web77", mac, ip)
    tokens = machine.tokens()
    assert machine.event(tokens["event"], "disk", message="step disk").status == 200
    wait_for(lambda: any("step disk" in line for line in lines), what="the step to be shown")
    there.run("build", "cancel", "web77")
    assert watch.wait(120) == 1
    reader.join(60)
    watch.stdout.close()
    machine.site.engine.dispose()
    assert "cancelled by admin" in lines[-1]
