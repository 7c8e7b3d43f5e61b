"""`distro add --url`: trees on a mirror, and mirrors that mean no good (S45, S60)."""

import hashlib
import http.server
import io
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from email.message import Message
from pathlib import Path
from typing import Any, ClassVar

import pytest
from mediums import FIXTURES, RED_HAT
from world import ACTOR

from provisioner.core.mediatree import Answers
from provisioner.errors import InvalidInput, MediaMissing, NameTaken
from provisioner.services import fetching, installables, media, mediaimport
from provisioner.services.site import Site
from provisioner.store.models import Distro

pytestmark = pytest.mark.slow

KERNEL = RED_HAT["images/pxeboot/vmlinuz"]
RELEASE = "Origin: Debian\nLabel: Debian\nSuite: oldstable\nVersion: 12.12\nCodename: bookworm\nSHA256:\n"
NETBOOT = "/debian/dists/bookworm/main/installer-amd64/current/images/netboot/debian-installer/amd64"


class Mirror(http.server.BaseHTTPRequestHandler):
    """A mirror with some trees, and some paths that misbehave."""

    files: ClassVar[dict[str, bytes]] = {}
    moved: ClassVar[dict[str, str]] = {}
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.path in self.moved:
            self.send_response(302)
            self.send_header("Location", self.moved[self.path])
            self.end_headers()
            return
        content = self.files.get(self.path)
        self.send_response(404 if content is None else 200)
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        self.wfile.write(content or b"")

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def mirror() -> Iterator[str]:
    """A mirror's URL."""
    Mirror.files = {f"/rocky/{path}": content for path, content in RED_HAT.items()}
    Mirror.files["/rocky/.treeinfo"] = (FIXTURES / "rocky-9.6/.treeinfo").read_bytes()
    Mirror.files["/debian/dists/bookworm/Release"] = RELEASE.encode()
    Mirror.files |= {f"{NETBOOT}/linux": b"debian kernel", f"{NETBOOT}/initrd.gz": b"debian initrd"}
    Mirror.moved, Mirror.asked = {}, []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Mirror)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def add(site: Site, url: str, name: str = "new", **answers: str) -> Any:
    return mediaimport.add_from_url(site, ACTOR, name, url, Answers(**answers))


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_a_tree_says_itself_where_its_kernel_is(site: Site, mirror: str) -> None:
    distro, medium = add(site, f"{mirror}/rocky/")
    assert (distro["os"], distro["version"], distro["tree"]) == ("rocky", "9.6", f"{mirror}/rocky")
    assert (distro["kernel_sha256"], distro["kernel_name"]) == (sha(KERNEL), "vmlinuz")
    assert media.path_of(site, sha(KERNEL)).read_bytes() == KERNEL
    assert medium.found_by == ".treeinfo"
    assert "/rocky/images/install.img" not in Mirror.asked, "only kernel and initrd are fetched"


def test_a_tree_whose_web_server_hides_dotfiles(site: Site, mirror: str) -> None:
    Mirror.files["/rocky/treeinfo"] = Mirror.files.pop("/rocky/.treeinfo")
    assert add(site, f"{mirror}/rocky")[1].found_by == "treeinfo"


@pytest.mark.parametrize(("path", "answers"), [("/debian/dists/bookworm", {}), ("/debian", {"version": "12"})])
def test_debian_is_found_by_its_release(site: Site, mirror: str, path: str, answers: dict[str, str]) -> None:
    distro, _ = add(site, mirror + path, **answers)
    assert (distro["os"], distro["tree"]) == ("debian", f"{mirror}/debian")
    assert distro["version"] == answers.get("version", "12.12")
    assert distro["kernel_sha256"] == sha(b"debian kernel")
    assert mediaimport.fitting(site, "new") == ("debian12",)


def test_s45_a_kernel_unlike_the_trees_checksum_is_refused(site: Site, mirror: str) -> None:
    Mirror.files["/rocky/.treeinfo"] = (FIXTURES / "alma-9/.treeinfo").read_bytes()
    with pytest.raises(MediaMissing, match=r"vmlinuz has the SHA-256 .*says 553e7134"):
        add(site, f"{mirror}/rocky")
    assert installables.listing(site, Distro) == []


def test_what_is_no_tree_says_what_was_looked_for(site: Site, mirror: str) -> None:
    with pytest.raises(MediaMissing, match=r"has none of \.treeinfo, treeinfo, media\.1/media and dists") as caught:
        add(site, f"{mirror}/nothing")
    assert "BaseOS/x86_64/os" in caught.value.hint
    Mirror.files["/ubuntu/dists/stable/Release"] = b"Origin: Ubuntu\nVersion: 24.04\n"
    with pytest.raises(InvalidInput, match="'Ubuntu', not Debian") as caught:
        add(site, f"{mirror}/ubuntu")
    assert "distro import ISO" in caught.value.hint


def test_the_name_is_looked_at_before_anything_is_fetched(site: Site, mirror: str) -> None:
    add(site, f"{mirror}/rocky")
    asked = len(Mirror.asked)
    with pytest.raises(NameTaken):
        add(site, f"{mirror}/rocky")
    assert len(Mirror.asked) == asked


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc",
        "ftp://mirror/x",
        "gopher://mirror",
        "/etc",
        "http://",
        "http://mirror/a b",
        "http://m/x?y",
        "javascript:1",
    ],
)
def test_s60_only_http_urls_of_directories(site: Site, url: str) -> None:
    with pytest.raises(InvalidInput, match="is not the URL of a tree"):
        add(site, url)


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://127.0.0.1/", "data:,x"])
def test_s60_redirects_lead_to_no_other_protocol(site: Site, mirror: str, target: str) -> None:
    Mirror.moved["/rocky/images/pxeboot/vmlinuz"] = target
    with pytest.raises(MediaMissing, match=r"which is not followed|is not allowed"):
        add(site, f"{mirror}/rocky")
    assert installables.listing(site, Distro) == []


def test_s60_redirects_do_not_leave_tls() -> None:
    asked = urllib.request.Request("https://mirror/vmlinuz")
    for target in ("http://mirror/vmlinuz", "https://other/vmlinuz"):
        try:
            fetching._Redirects().redirect_request(asked, io.BytesIO(), 302, "Found", Message(), target)
        except urllib.error.URLError:
            assert target.startswith("http:")
        else:
            assert target.startswith("https:")


def test_s60_redirects_are_few(site: Site, mirror: str) -> None:
    Mirror.moved = {f"/rocky/{number}": f"{mirror}/rocky/{number + 1}" for number in range(9)}
    Mirror.moved["/rocky/images/pxeboot/vmlinuz"] = f"{mirror}/rocky/7"
    Mirror.files["/rocky/9"] = b"moved twice"
    assert add(site, f"{mirror}/rocky")[0]["kernel_sha256"] == sha(b"moved twice")
    Mirror.moved["/rocky/images/pxeboot/vmlinuz"] = f"{mirror}/rocky/0"
    with pytest.raises(MediaMissing, match=r"infinite loop"):
        add(site, f"{mirror}/rocky", "other")


def test_s60_what_is_fetched_is_limited_in_size(site: Site, mirror: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Mirror.files["/rocky/.treeinfo"] += b"; " + b"x" * (64 << 10)
    with pytest.raises(MediaMissing, match="longer than 65536 bytes"):
        add(site, f"{mirror}/rocky")
    Mirror.files["/rocky/.treeinfo"] = (FIXTURES / "rocky-9.6/.treeinfo").read_bytes()
    monkeypatch.setattr(mediaimport, "_LARGEST", len(KERNEL) - 1)
    with pytest.raises(MediaMissing, match=f"longer than {len(KERNEL) - 1} bytes"):
        add(site, f"{mirror}/rocky")
    assert list(Path(site.media_dir).glob(".incoming*")) == []


def test_s60_what_trickles_is_given_up(site: Site, mirror: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "_LONGEST_SECONDS", -1)
    with pytest.raises(MediaMissing, match="not whole within"):
        add(site, f"{mirror}/rocky")
    monkeypatch.setattr(fetching, "_SMALL_SECONDS", -1)
    with pytest.raises(MediaMissing, match="not whole within"):
        add(site, f"{mirror}/rocky")


def test_s60_hostile_release_files_name_no_other_place(site: Site, mirror: str) -> None:
    Mirror.files["/debian/dists/bookworm/Release"] = b"Origin: Debian\nVersion: 12\nCodename: ../../../x\n"
    with pytest.raises(InvalidInput, match="its codename is"):
        add(site, f"{mirror}/debian/dists/bookworm")
