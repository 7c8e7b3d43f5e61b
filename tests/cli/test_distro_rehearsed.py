"""`distro import --dry-run` and `distro add --url --dry-run`: what would be, told in full, and nothing kept of it."""

import functools
import http.server
import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import Served, served_environment
from mediums import FIXTURES, RED_HAT, iso, medium, sha
from world import World

pytestmark = pytest.mark.slow

ROCKY = RED_HAT | {".treeinfo": (FIXTURES / "rocky-9.6/.treeinfo").read_bytes()}


@pytest.fixture
def here(_template: Path, tmp_path: Path) -> Iterator[Served]:
    """An installation with an older Rocky and a machine that would be installed from the newest."""
    shutil.copytree(_template, tmp_path / "state")
    installed = Served(served_environment(tmp_path / "state"), tmp_path / "state")
    opened = installed.site
    world = World(opened, tmp_path)
    world.subnet()
    world.distro("rocky-9.4", version="9.4")
    world.machine()
    opened.engine.dispose()
    yield installed


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A mirror that keeps its log to itself."""

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def serving(root: Path) -> Iterator[str]:
    """The directory as a mirror; its URL."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(root))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def store(here: Served) -> set[str]:
    """All files of the media store."""
    return {str(path) for path in (here.state / "media").rglob("*") if path.is_file() and path.name != ".lock"}


@pytest.mark.parametrize("kind", ["iso", "directory"])
def test_an_import_is_told_in_full_and_leaves_nothing(here: Served, tmp_path: Path, kind: str) -> None:
    source = iso(tmp_path / "Rocky.iso", ROCKY) if kind == "iso" else medium(tmp_path / "root", "rocky-9.6", RED_HAT)
    before = store(here), here.cli("history", "list").stdout
    told = here.cli("distro", "import", str(source), "--dry-run").stdout.splitlines()
    assert told[0] == "distro rocky-9.6 would be imported: rocky 9.6 x86_64, by .treeinfo"
    assert "reaches 1 machine: 1 would change" in told, told[6:]
    assert "web01:" in told
    assert any(line.startswith("+") and "rocky-9.6" in line for line in told)
    assert told[-1] == "(dry run: nothing was changed)"
    assert (store(here), here.cli("history", "list").stdout) == before
    assert [each["name"] for each in here.cli_json("distro", "list")] == ["rocky-9.4"]
    assert [path.name for path in (here.state / "media/trees").iterdir()] == [".lock"]
    really = here.cli("distro", "import", str(source)).stdout.splitlines()
    facts = [line for line in really if line.startswith(("  ", "profiles"))]
    assert [line for line in told if line.startswith("  ")][: len(facts) - 1] == facts[:-1]
    assert facts[-1] in told
    if kind == "iso":
        assert really[1] == f"  SHA-256  {sha(source.read_bytes())}"


def test_what_would_be_refused_is_refused(here: Served, tmp_path: Path) -> None:
    image = iso(tmp_path / "Rocky.iso", ROCKY)
    wrong = here.cli("distro", "import", str(image), "--sha256", "ab" * 32, "--dry-run", code=1).stderr
    assert f"has the SHA-256 {sha(image.read_bytes())}, not {'ab' * 32}" in wrong
    taken = here.cli("distro", "import", str(image), "--name", "rocky-9.4", "--dry-run", code=4).stderr
    assert "there is a distro 'rocky-9.4' already" in taken
    bad = ROCKY | {".treeinfo": ROCKY[".treeinfo"] + b"\n[checksums]\nimages/pxeboot/vmlinuz = sha256:" + b"0" * 64}
    damaged = here.cli("distro", "import", str(iso(tmp_path / "bad.iso", bad)), "--dry-run", code=1).stderr
    assert ".treeinfo says 000" in damaged


def test_a_program_reads_what_would_be(here: Served, tmp_path: Path) -> None:
    image = iso(tmp_path / "Rocky.iso", ROCKY)
    found = json.loads(here.cli("distro", "import", str(image), "--dry-run", "--output", "json").stdout)
    assert (found["before"], found["after"]["name"]) == (None, "rocky-9.6")
    assert found["after"]["kernel_sha256"] == sha(RED_HAT["images/pxeboot/vmlinuz"])
    assert found["radius"]["groups"][0]["machines"] == ["web01"]


def test_a_tree_on_a_mirror_is_looked_at(here: Served, tmp_path: Path) -> None:
    root = medium(tmp_path / "mirror", "rocky-9.6", RED_HAT)
    before = store(here)
    with serving(root) as url:
        told = here.cli("distro", "add", "rocky-9.6", "--url", url, "--dry-run").stdout
        assert "found by .treeinfo: rocky 9.6 x86_64" in told
        assert "reaches 1 machine: 1 would change" in told, told[6:]
        assert store(here) == before
        assert "added" in here.cli("distro", "add", "rocky-9.6", "--url", url).stdout


def test_elsewhere_it_says_where_to_run_it(here: Served) -> None:
    there = Served(here.environment | {"PROVISIONER_URL": "https://localhost:1", "PROVISIONER_TOKEN": "x"}, here.state)
    told = there.cli("distro", "import", "a.iso", "--dry-run", code=None)
    assert told.returncode != 0
    assert "local only" in told.stderr
    assert "run it on the server" in told.stderr
