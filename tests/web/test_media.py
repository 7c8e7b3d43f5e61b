"""Media by the real curl: ranges, validators, and nothing but what is published (S40, S46)."""

import hashlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from played import curl
from world import ACTOR, KERNEL

from provisioner.services import installables
from provisioner.services.installables import DistroInput

SHA = hashlib.sha256(KERNEL).hexdigest()
STORED = f"/media/sha256/{SHA}/vmlinuz"


@pytest.fixture(scope="module")
def tree(inside: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A local install tree of the distro `local`, with things beside and in it that nobody may fetch."""
    base = tmp_path_factory.mktemp("local")
    root = base / "tree"
    (root / "sub").mkdir(parents=True)
    (root / "sub/file name.txt").write_bytes(b"in a folder")
    (root / "plain").write_bytes(b"0123456789")
    (root / "empty").write_bytes(b"")
    (root / ".hidden").write_bytes(b"canary hidden")
    (root / ".git").mkdir()
    (root / ".git/config").write_bytes(b"canary git")
    (base / "outside").write_bytes(b"canary outside")
    (root / "link-out").symlink_to(base / "outside")
    (root / "link-in").symlink_to("plain")
    (root / "dir-out").symlink_to(base)
    (root / "dir-root").symlink_to("/")
    os.mkfifo(root / "fifo")
    (base / "vmlinuz").write_bytes(KERNEL)
    given = DistroInput("rocky", "9.5", str(base / "vmlinuz"), str(base / "vmlinuz"), str(root))
    installables.add_distro(inside, ACTOR, "local", given)
    remote = replace(given, version="9.4", tree="http://mirror/tree")
    installables.add_distro(inside, ACTOR, "remote", remote)
    return root


def get(served: Any, path: str, *arguments: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body, by curl."""
    done = curl("-i", "--path-as-is", *arguments, served.media + path)
    head, _, body = done.stdout.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return int(first.split()[1]), {key.lower(): value for key, _, value in (x.partition(": ") for x in lines)}, body


def test_the_whole_kernel_byte_exact(served: Any) -> None:
    status, headers, body = get(served, STORED)
    assert (status, hashlib.sha256(body).hexdigest()) == (200, SHA)
    assert (headers["content-length"], headers["accept-ranges"]) == (str(len(KERNEL)), "bytes")
    assert (headers["content-type"], headers["x-content-type-options"]) == ("application/octet-stream", "nosniff")
    assert SHA in headers["etag"]


@pytest.mark.parametrize(
    ("wanted", "begin", "end"),
    [
        ("0-0", 0, 1),
        ("0-99", 0, 100),
        ("3000-3999", 3000, 4000),
        ("6990-", 6990, 7000),
        ("-10", 6990, 7000),
        ("6999-9999999", 6999, 7000),
        ("-9999999", 0, 7000),
    ],
)
def test_ranges(served: Any, wanted: str, begin: int, end: int) -> None:
    status, headers, body = get(served, STORED, "-r", wanted)
    assert (status, body) == (206, KERNEL[begin:end])
    assert headers["content-range"] == f"bytes {begin}-{end - 1}/{len(KERNEL)}"
    assert headers["content-length"] == str(end - begin)


@pytest.mark.parametrize("wanted", ["7000-", "7000-8000", "99999999999999999999-"])
def test_ranges_beyond_the_end_are_416(served: Any, wanted: str) -> None:
    status, headers, body = get(served, STORED, "-r", wanted)
    assert (status, headers["content-range"], body) == (416, f"bytes */{len(KERNEL)}", b"")


@pytest.mark.parametrize(
    "wanted",
    ["bytes=0-1,5-6", "bytes=abc", "bytes=5-1", "lines=1-2", "bytes", "bytes=", "0-5", "bytes=-", "bytes=1-2-3"],
)
def test_a_range_we_do_not_serve_is_ignored(served: Any, wanted: str) -> None:
    """RFC 9110, 14.2: several ranges need not be served, and what is not a range is none; the whole file will do."""
    status, _, body = get(served, STORED, "-H", f"Range: {wanted}")
    assert (status, body) == (200, KERNEL)


def test_head_has_the_headers_and_no_body(served: Any) -> None:
    done = curl("-I", served.media + STORED)
    head = done.stdout.decode().lower()
    assert head.startswith("http/1.1 200")
    assert f"content-length: {len(KERNEL)}\r\n" in head
    assert head.count("\r\n\r\n") == 1


def test_a_connection_lives_on_after_a_304_and_a_range(served: Any) -> None:
    """One connection, several answers: none leaves bytes behind that the next would be taken from."""
    url, etag = served.media + STORED, get(served, STORED)[1]["etag"]
    report = ["-sS", "-w", "|%{http_code} %{num_connects}\n"]
    asked = [*report, "-H", f"If-None-Match: {etag}", url, "--next", *report, "-r", "0-3", url, "--next", *report]
    done = curl(*asked, "-I", "-o", "/dev/null", url, "--next", *report, "-r", "4-6", url)
    assert done.stdout.decode().splitlines() == ["|304 1", "kern|206 0", "|200 0", "el |206 0"]


def test_etags(served: Any) -> None:
    etag = get(served, STORED)[1]["etag"]
    assert get(served, STORED, "-H", f"If-None-Match: {etag}")[::2] == (304, b"")
    assert get(served, STORED, "-H", "If-None-Match: *")[0] == 304
    assert get(served, STORED, "-H", 'If-None-Match: "other"')[0] == 200
    assert get(served, STORED, "-r", "0-3", "-H", f"If-Range: {etag}")[::2] == (206, KERNEL[:4])
    assert get(served, STORED, "-r", "0-3", "-H", 'If-Range: "other"')[::2] == (200, KERNEL)
    # RFC 9110, 13.2.2: If-None-Match is looked at before Range.
    assert get(served, STORED, "-r", "0-3", "-H", f"If-None-Match: {etag}")[0] == 304


def test_a_changed_file_of_a_tree_has_another_etag(served: Any, tree: Path) -> None:
    (tree / "changing").write_bytes(b"one")
    first = get(served, "/media/local/changing")
    (tree / "changing").write_bytes(b"second")
    second = get(served, "/media/local/changing", "-H", f"If-None-Match: {first[1]['etag']}")
    assert (first[2], second[0], second[2]) == (b"one", 200, b"second")


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("plain", b"0123456789"),
        ("sub/file%20name.txt", b"in a folder"),
        ("empty", b""),
        ("link-in", b"0123456789"),
        ("sub//file%20name.txt", b"in a folder"),
        ("/plain", b"0123456789"),
    ],
)
def test_s46_a_local_tree_is_served(served: Any, tree: Path, path: str, content: bytes) -> None:
    status, headers, body = get(served, f"/media/local/{path}")
    assert (status, body, headers["content-length"]) == (200, content, str(len(content)))


def test_double_slashes_everywhere_are_one(served: Any, tree: Path) -> None:
    assert get(served, f"//media//sha256//{SHA}//vmlinuz")[::2] == (200, KERNEL)
    assert get(served, "//media//local///plain")[2] == b"0123456789"


TRAVERSALS = [
    "../outside", "sub/../../outside", "sub/../plain", "..%2foutside", "%2e%2e/outside", "%2e%2e%2foutside",
    "..%5coutside", "..\\outside", "%252e%252e/outside", "....//outside", "./plain", "%2e/plain", ".%2e/outside",
    "..;/outside", "..%00/outside", "plain%00", "plain%00.txt", "%c0%ae%c0%ae/outside", "%ef%bc%8e%ef%bc%8e/outside",
    "%E2%80%A5/outside", "file:///etc/passwd", "C:%5cWindows", "%5c%5chost%5cshare", "dir-root/etc/passwd",
    "dir-root/proc/self/environ", "dir-root/dev/zero", "dir-out/outside", "link-out", "fifo", "a" * 5000, "a/" * 2500,
    ".hidden", ".git/config", "sub/.hidden", "", "sub", "sub/", ".", "..", "%2e", "%20", "plain/", "plain/x",
    "~root/.ssh",
]  # fmt: skip


@pytest.mark.parametrize("path", TRAVERSALS)
def test_s40_s46_only_published_files(served: Any, tree: Path, path: str) -> None:
    status, _headers, body = get(served, f"/media/local/{path}")
    # gunicorn itself refuses request lines beyond 4094 bytes.
    expected = {404} if len(path) < 4000 else {400, 404, 414}
    if path == "plain/":
        expected = {200, 404}
    assert status in expected, body[:200]
    for canary in (b"canary", b"root:", b"PROVISIONER_", b"Traceback"):
        assert canary not in body


@pytest.mark.parametrize(
    "path",
    [
        "/media/",
        "/media",
        "/media/sha256/",
        f"/media/sha256/{SHA}",
        f"/media/sha256/{SHA}/",
        "/media/nothing/plain",
        "/media/remote/plain",
        "/media/../keys/master.key",
        "/media/sha256/../../keys/master.key",
        "/media/sha256/zz/x",
        f"/media/sha256/{SHA[:2]}/{SHA}",
        f"/media/sha256/{SHA.upper()}/vmlinuz",
        "/media/sha256/..%2f..%2fkeys/x",
        "/media/sha256/%2e%2e%2f%2e%2e%2f%2e%2e%2fkeys%2fmaster.key/x",
        "/media//etc/passwd",
        "/etc/passwd",
        "/media/local%2f..%2f..%2fkeys/x",
        "/media/.incoming-1/x",
    ],
)
def test_s41_no_listing_and_nothing_beside(served: Any, tree: Path, path: str) -> None:
    status, headers, body = get(served, path)
    assert status == 404, body[:200]
    assert headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_media_are_only_read(served: Any, tree: Path, method: str) -> None:
    assert get(served, STORED, "-X", method, "-d", "x")[0] == 405
    assert get(served, "/media/local/plain")[2] == b"0123456789"
