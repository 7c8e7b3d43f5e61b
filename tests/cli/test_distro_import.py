"""`distro import` and `distro add --url` as an administrator types them; killed, twice at once, and up to a boot."""

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Served, served_environment, wait_for
from mediums import CASPER, FIXTURES, RED_HAT, iso, medium
from world import IP, MAC, SUBNET

pytestmark = pytest.mark.slow

# Of debian-installer-12-netboot-amd64, or of the package that a later Debian has instead.
DEBIANS = sorted(Path("/usr/lib/debian-installer/images").glob("[1-9]*/amd64/text"))
ROCKY = RED_HAT | {".treeinfo": (FIXTURES / "rocky-9.6/.treeinfo").read_bytes()}


@pytest.fixture
def here(_template: Path, tmp_path: Path) -> Served:
    """An installation to run commands in."""
    shutil.copytree(_template, tmp_path / "state")
    return Served(served_environment(tmp_path / "state"), tmp_path / "state")


def started(here: Served, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "provisioner", *arguments],
        env=os.environ | here.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def left(here: Served) -> list[str]:
    return sorted(path.name for path in (here.state / "media/trees").glob("*") if path.name != ".lock")


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def xorriso(image: Path, root: Path) -> Path:
    done = ["xorriso", "-as", "mkisofs", "-quiet", "-r", "-J", "-V", "ROCKY-9-6", "-o", str(image), str(root)]
    subprocess.run(done, check=True, capture_output=True)
    return image


def test_an_iso_made_by_xorriso_is_imported_and_shown(here: Served, tmp_path: Path) -> None:
    image = xorriso(tmp_path / "Rocky.iso", medium(tmp_path / "root", "rocky-9.6", RED_HAT))
    done = here.cli("distro", "import", str(image), "--sha256", sha(image))
    lines = done.stdout.splitlines()
    assert lines[0] == "distro rocky-9.6 imported: rocky 9.6 x86_64, by .treeinfo"
    assert lines[1] == f"  SHA-256  {sha(image)}"
    assert "  tree     /media/rocky-9.6/  (6 files, 0 MiB)" in lines
    assert re.search(r"profiles that fit: .*\brocky9\b", done.stdout)
    assert lines[-1].startswith("next: provisioner machine edit MACHINE --profile ")
    shown = here.cli_json("distro", "show", "rocky-9.6")
    assert shown["tree"] == str(here.state / "media/trees" / sha(image))
    again = here.cli("distro", "import", str(image), code=4)
    assert "there is a distro 'rocky-9.6' already" in again.stderr
    assert "--name" in again.stderr
    removed = here.cli("distro", "remove", "rocky-9.6", "--yes")
    assert f"rm -r {shown['tree']}" in removed.stdout
    assert "the tree of the removed distro rocky-9.6 is kept" in here.cli("check", code=None).stdout


def test_other_media_made_by_xorriso(here: Served, tmp_path: Path) -> None:
    for fixture, files in (("ubuntu-24.04.1", CASPER), ("fedora-44", RED_HAT)):
        image = xorriso(tmp_path / f"{fixture}.iso", medium(tmp_path / fixture, fixture, files))
        assert f"distro {fixture} imported" in here.cli("distro", "import", str(image)).stdout
    files = here.cli_json("distro", "show", "ubuntu-24.04.1")["files"]
    assert files["iso"]["sha256"] == sha(tmp_path / "ubuntu-24.04.1.iso")


def test_the_help_has_examples_and_unknown_media_are_explained(here: Served, tmp_path: Path) -> None:
    assert "provisioner distro import Rocky-9.6-x86_64-dvd.iso" in here.cli("distro", "import", "--help").stdout
    image = iso(tmp_path / "strange.iso", {"k": b"1", "i": b"2"})
    error = here.cli("distro", "import", str(image), code=1).stderr
    assert "strange.iso: nothing in it says what it is; looked for .treeinfo" in error
    assert "next: say it: --os rocky --version 9.6" in error
    answers = ["--os", "rhel", "--version", "9.6", "--kernel", "k", "--initrd", "i", "--name", "mine"]
    assert (
        "distro mine imported: rhel 9.6 x86_64, by what was answered"
        in here.cli("distro", "import", str(image), *answers).stdout
    )
    assert left(here) == [sha(image)]


def test_import_is_local_only_and_add_asks_for_what_is_missing(here: Served, tmp_path: Path) -> None:
    remote = Served(here.environment | {"PROVISIONER_URL": "https://localhost:1", "PROVISIONER_TOKEN": "x"}, here.state)
    error = remote.cli("distro", "import", "a.iso", code=None)
    assert error.returncode != 0
    assert "local only: it works with the server's own files" in error.stderr
    error = remote.cli("distro", "add", "x", "--url", "http://mirror/tree", code=1)
    assert "run it on the server" in error.stderr
    missing = here.cli("distro", "add", "x", "--os", "rocky", code=2).stderr
    assert "Missing option '--version' (or '--url', where it is found)" in missing


KILLED = """
import os, signal, sys
from pathlib import Path
from provisioner.services import mediaimport, trees
from provisioner.services.site import Actor, open_site
from provisioner.settings import load

moment = sys.argv[2]

def die(*_):
    print(Path(f"/proc/self/task/{os.getpid()}/children").read_text(), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

def progress(what, done, total):
    if moment in {what.split()[0], f"{what.split()[0]} done" if done == total else ""}:
        die()

settle, record = trees.settle, mediaimport.objects.save
if moment == "settled":
    trees.settle = lambda *arguments: (settle(*arguments), die())
if moment == "saved":
    mediaimport.objects.save = lambda *arguments: (record(*arguments), die())
mediaimport.import_medium(open_site(load()), Actor("t", "t", "t"), Path(sys.argv[1]), progress=progress)
"""


@pytest.mark.parametrize("moment", ["reading", "reading done", "unpacking", "unpacking done", "settled", "saved"])
def test_s44_an_import_killed_at_any_moment_leaves_nothing_to_see(here: Served, tmp_path: Path, moment: str) -> None:
    image = iso(tmp_path / "a.iso", ROCKY | {"big": os.urandom(40 << 20)})
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(image), moment],
        env=os.environ | here.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    born = [int(pid) for pid in done.stdout.split()]
    wait_for(lambda: not any(alive(pid) for pid in born), what="the confined process to end with it")
    assert here.cli_json("distro", "list") == []
    assert (
        left(here) == [sha(image)]
        if moment in {"settled", "saved"}
        else [name[:9] for name in left(here)] == [".incoming"]
    )
    assert "unfinished imports" in here.cli("check", code=None).stdout
    assert left(here) == []
    assert "imported" in here.cli("distro", "import", str(image)).stdout
    assert left(here) == [sha(image)]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_two_imports_of_one_name_at_once_one_wins(here: Served, tmp_path: Path) -> None:
    images = [iso(tmp_path / f"{number}.iso", ROCKY | {"salt": bytes([number])}) for number in range(2)]
    running = [started(here, "distro", "import", str(image)) for image in images]
    ended = [process.communicate() for process in running]
    codes = [process.returncode for process in running]
    assert sorted(codes) == [0, 4], ended
    assert b"name-taken" in ended[codes.index(4)][1]
    assert left(here) == [sha(images[codes.index(0)])]
    same = [started(here, "distro", "import", str(images[0]), "--name", f"n{number}") for number in range(2)]
    assert [process.wait() for process in same] == [0, 0], [process.communicate() for process in same]
    for process in same:
        process.communicate()
    assert sorted(left(here)) == sorted({sha(images[0]), sha(images[codes.index(0)])})


def test_debians_own_netboot_tree_is_imported_armed_and_served(served: Served, tmp_path: Path) -> None:
    if not DEBIANS:
        pytest.skip("debian-installer-12-netboot-amd64 is not installed, nor that of another release")
    release, debian = DEBIANS[0].parts[-3], DEBIANS[0]
    names = (f"debian-{release}", f"debian-{release}.9")
    for what, name in zip((debian, xorriso(tmp_path / "n.iso", debian)), names, strict=True):
        done = served.cli("distro", "import", str(what), "--name", name)
        assert f"distro {name} imported: debian {release} x86_64, by version.info" in done.stdout
        assert f"profiles that fit: debian{release}" in done.stdout
    real = {name: sha(debian / "debian-installer/amd64" / name) for name in ("linux", "initrd.gz")}
    for name in names:
        shown = served.cli_json("distro", "show", name)
        assert [shown["kernel_sha256"], shown["initrd_sha256"]] == list(real.values())
    assert SUBNET
    add = ["machine", "add", "deb01", "--mac", MAC, "--ip", IP, "--profile", f"debian{release}"]
    served.cli(*add, "--param", "mirror=http://mirror.example.com/debian")
    served.cli("build", "start", "deb01")
    script = served.http(f"/boot/ipxe/{MAC}?platform=pcbios", source=IP).text
    for name, expected in real.items():
        url = next(word for word in script.split() if word.endswith(f"/{name}"))
        got = subprocess.run(["curl", "-sSf", url], capture_output=True, check=True).stdout
        assert hashlib.sha256(got).hexdigest() == expected


def test_an_imported_tree_is_served_and_nothing_of_it_that_is_hidden(served: Served, tmp_path: Path) -> None:
    root = medium(tmp_path / "root", "alma-9", RED_HAT)
    text = (root / ".treeinfo").read_text()
    (root / ".treeinfo").write_text(text[text.index("[general]") :])
    (root / ".hidden").write_text("hidden")
    served.cli("distro", "import", str(xorriso(tmp_path / "Alma.iso", root)))
    for path, status in (
        ("images/install.img", 200),
        (".treeinfo", 200),
        (".hidden", 404),
        ("../../keys/master.key", 404),
        ("", 404),
        ("images", 404),
    ):
        assert served.http(f"{served.media}/media/alma-9/{path}").status == status, path
    tree = Path(served.cli_json("distro", "show", "alma-9")["tree"])
    assert served.http(f"{served.media}/media/trees/{tree.name}/.treeinfo").status == 404
    served.cli("distro", "remove", "alma-9", "--yes")
    assert served.http(f"{served.media}/media/alma-9/images/install.img").status == 200
