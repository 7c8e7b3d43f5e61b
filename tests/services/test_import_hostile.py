"""`distro import` of images that nobody honest made: refused or neutralised, and nothing is left (S40, S44, S45)."""

import os
import random
import stat
import struct
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mediums import FIXTURES, RED_HAT, SECTOR, both_endian, iso, put, record_of
from world import ACTOR

from provisioner.core.mediatree import Answers, identify
from provisioner.errors import InvalidInput, MediaMissing, ProgramMissing, ProvisionerError
from provisioner.services import installables, mediaimport, trees, unpacking
from provisioner.services.site import Site
from provisioner.store.models import Distro

pytestmark = pytest.mark.slow

HONEST = RED_HAT | {".treeinfo": (FIXTURES / "rocky-9.6/.treeinfo").read_bytes()}


def all_paths(root: Path) -> set[str]:
    return {str(path) for path in root.rglob("*")}


@pytest.fixture(autouse=True)
def nothing_beside(site: Site, tmp_path: Path) -> Iterator[None]:
    """Whatever a test imports, no file appears outside the media store, nor above the test's directory."""
    (tmp_path / "canary").write_text("untouched")
    above = {path.name for path in tmp_path.parent.iterdir()}
    before = all_paths(site.settings.state_dir)
    yield
    assert (tmp_path / "canary").read_text() == "untouched"
    assert {path.name for path in tmp_path.parent.iterdir()} == above
    grown = all_paths(site.settings.state_dir) - before
    assert [path for path in grown if not path.startswith(str(site.media_dir))] == []


def refused(site: Site, image: Path, words: str) -> ProvisionerError:
    """The error of an import that must fail and leave nothing."""
    with pytest.raises((InvalidInput, MediaMissing), match=words) as caught:
        mediaimport.import_medium(site, ACTOR, image)
    nothing_left(site)
    return caught.value


def nothing_left(site: Site) -> None:
    assert [path.name for path in trees.directory(site).iterdir() if path.name != ".lock"] == []
    assert installables.listing(site, Distro) == []


def taken(site: Site, image: Path) -> tuple[Path, mediaimport.Imported]:
    imported = mediaimport.import_medium(site, ACTOR, image)
    return Path(imported.distro["tree"]), imported


def renamed(image: Path, old: bytes, new: bytes) -> Path:
    """The image with one Rock Ridge name written over by another as long."""
    assert len(old) == len(new)
    data = image.read_bytes()
    assert data.count(old) == 1
    put(image, data.index(old), new)
    return image


@pytest.mark.parametrize(
    "name",
    [
        b"../evil1",
        b"/etc/evl",
        b"a/../../",
        b"bell\x07\x1b[3",
        b"nul\0nul\0",
        b"back\\sla",
        b"\xff\xfe\xff\xfe\xff\xfe\xff\xfe",
    ],
)
def test_s44_names_that_lead_out_or_are_no_text(site: Site, tmp_path: Path, name: bytes) -> None:
    image = iso(tmp_path / "a.iso", HONEST | {"EVILFILE": b"evil"})
    error = refused(site, renamed(image, b"EVILFILE", name), "no honest tree has|no ISO image")
    assert "nothing was imported" in error.hint


def test_s44_a_file_and_a_directory_called_dot_dot(site: Site, tmp_path: Path) -> None:
    refused(site, renamed(iso(tmp_path / "a.iso", HONEST | {"QZ": b"evil"}), b"QZ", b".."), "no honest tree has")
    files = HONEST | {"QZ/evil": b"evil"}
    refused(site, renamed(iso(tmp_path / "b.iso", files), b"QZ", b".."), "no honest tree has")


def test_s44_a_link_and_a_directory_of_one_name_write_nothing_through(site: Site, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    image = iso(tmp_path / "a.iso", HONEST | {"QZDIR/evil": b"evil"}, links={"QXDIR": str(target)})
    refused(site, renamed(image, b"QZDIR", b"QXDIR"), "'QXDIR' twice|no ISO image")
    assert list(target.iterdir()) == []


def test_s44_links_that_lead_out_are_left_out(site: Site, tmp_path: Path) -> None:
    links = {"shadow": "/etc/shadow", "up": "../../../../etc", "in": "images", "trick": "in/../../x"}
    root, imported = taken(site, iso(tmp_path / "a.iso", HONEST, links=links))
    assert [name for name in links if (root / name).is_symlink()] == ["in"]
    assert list(imported.written.left_out) == ["shadow", "trick", "up"]


def test_s44_hard_links_are_one_file_and_lead_nowhere(site: Site, tmp_path: Path) -> None:
    def link(made: Any) -> None:
        for number in range(50):
            old = made.full_path_from_dirrecord(made.get_record(rr_path="/images/install.img"))
            made.add_hard_link(iso_old_path=old, iso_new_path=f"/L{number}.;1", rr_name=f"link{number}")

    root, imported = taken(site, iso(tmp_path / "a.iso", HONEST, change=link))
    first = (root / "images/install.img").stat()
    assert {(root / f"link{number}").stat().st_ino for number in range(50)} == {first.st_ino}
    assert imported.written.size < first.st_size * 2


@pytest.mark.parametrize("kind", [stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK])
def test_s44_devices_are_left_out(site: Site, tmp_path: Path, kind: int) -> None:
    image = iso(tmp_path / "a.iso", HONEST | {"QZDEVICE": b"x"})
    set_mode(image, b"QZDEVICE", kind | 0o666)
    root, imported = taken(site, image)
    assert not (root / "QZDEVICE").exists()
    assert list(imported.written.left_out) == ["QZDEVICE"]


def test_s44_setuid_is_taken_away(site: Site, tmp_path: Path) -> None:
    image = iso(tmp_path / "a.iso", HONEST | {"QZSETUID": b"#!/bin/sh\n"})
    set_mode(image, b"QZSETUID", stat.S_IFREG | 0o6777)
    root, _ = taken(site, image)
    assert (root / "QZSETUID").stat().st_mode & 0o7777 == 0o644


def set_mode(image: Path, name: bytes, mode: int) -> None:
    """Give the record of that Rock Ridge name another mode in its PX field."""
    start = record_of(image, name)
    data = image.read_bytes()
    field = data.index(b"PX", start)
    put(image, field + 4, both_endian(mode))


def test_s44_overlapping_extents_are_a_bomb(site: Site, tmp_path: Path) -> None:
    names = [f"QZBOMB{number:02d}" for number in range(20)]
    files = HONEST | {name: os.urandom(SECTOR) for name in names} | {"large": os.urandom(40 * SECTOR)}
    image = iso(tmp_path / "a.iso", files)
    size = image.stat().st_size
    for name in names:
        start = record_of(image, name.encode())
        extent = struct.unpack("<I", image.read_bytes()[start + 2 : start + 6])[0]
        put(image, start + 10, both_endian(size - extent * SECTOR))
    refused(site, image, r"its files together would have \d+ bytes, more than")


def test_s44_a_file_beyond_the_end_is_a_truncated_image(site: Site, tmp_path: Path) -> None:
    for offset, number in ((2, 1 << 28), (10, 1 << 30)):
        image = iso(tmp_path / f"{offset}.iso", HONEST | {"QZBEYOND": b"x" * 5000})
        put(image, record_of(image, b"QZBEYOND") + offset, both_endian(number))
        refused(site, image, "truncated|no ISO image that can be read")


@pytest.mark.parametrize("left", [0, 1, 2048, 32768, 33000, 36864, 0.5, 0.9, -2048])
def test_s44_truncated_images_are_noticed(site: Site, tmp_path: Path, left: float) -> None:
    image = iso(tmp_path / "a.iso", HONEST)
    size = image.stat().st_size
    os.truncate(image, int(size * left) if 0 < left < 1 else int(left) if left >= 0 else size + int(left))
    refused(site, image, "truncated|no ISO image that can be read")


def test_s44_an_image_shorter_than_it_says_is_truncated_though_its_files_are_whole(site: Site, tmp_path: Path) -> None:
    image = iso(tmp_path / "a.iso", HONEST)
    put(image, 16 * SECTOR + 80, both_endian(image.stat().st_size // SECTOR + 1))
    refused(site, image, "it says that it has")


def test_s44_directories_in_a_loop(site: Site, tmp_path: Path) -> None:
    image = iso(tmp_path / "a.iso", HONEST | {"QZLOOP/inner/file": b"x"})
    outer, inner = record_of(image, b"QZLOOP"), record_of(image, b"inner")
    put(image, inner + 2, image.read_bytes()[outer + 2 : outer + 10])
    refused(site, image, "no ISO image that can be read|twice|too deep")


def test_s44_two_files_of_one_rock_ridge_name(site: Site, tmp_path: Path) -> None:
    image = iso(tmp_path / "a.iso", HONEST | {"QZFIRST": b"one", "QXOTHER": b"two"})
    refused(site, renamed(image, b"QXOTHER", b"QZFIRST"), "'QZFIRST' twice|no ISO image")


def test_s44_rock_ridge_names_count_and_joliet_ones_are_not_read(site: Site, tmp_path: Path) -> None:
    import io

    import pycdlib

    made = pycdlib.PyCdlib()
    made.new(interchange_level=3, rock_ridge="1.09", joliet=3)
    for directory in ("images", "images/pxeboot", "AppStream", "AppStream/repodata"):
        short = "/" + "/".join(f"D{hash(part) % 10**6}" for part in directory.split("/"))
        made.add_directory(iso_path=short, rr_name=directory.rpartition("/")[2], joliet_path=f"/{directory}")
    for number, (path, content) in enumerate(HONEST.items()):
        above, _, name = path.rpartition("/")
        short = "".join(f"/D{hash(part) % 10**6}" for part in above.split("/") if part)
        made.add_fp(io.BytesIO(content), len(content), f"{short}/F{number}.;1", rr_name=name, joliet_path=f"/{path}")
    made.add_fp(io.BytesIO(b"evil"), 4, joliet_path="/only-joliet")
    made.write(str(tmp_path / "a.iso"))
    made.close()
    root, _ = taken(site, tmp_path / "a.iso")
    assert {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()} == set(HONEST)


def test_s44_too_many_entries(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "MOST_ENTRIES", 100)
    monkeypatch.setattr(mediaimport, "MOST_ENTRIES", 100)
    files = HONEST | {f"many/{number}": b"" for number in range(100)}
    refused(site, iso(tmp_path / "a.iso", files), "more than 100 files")
    for path, content in files.items():
        (tmp_path / "d" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "d" / path).write_bytes(content)
    refused(site, tmp_path / "d", "more than 100 files")


@pytest.mark.full
def test_s44_a_million_entries_end_at_the_limits_of_memory_and_time(site: Site, tmp_path: Path) -> None:
    image = tmp_path / "million.iso"
    million(image, 1_000_000)
    with pytest.raises(
        InvalidInput, match=r"larger than those of any honest|more time or memory than any honest|more than 200000"
    ):
        mediaimport.import_medium(site, ACTOR, image)
    nothing_left(site)


def million(image: Path, count: int) -> None:
    """An image byte by byte: one directory with so many files, all of them of no bytes."""
    records = bytearray()
    for number in range(-2, count):
        name = b"\0" if number == -2 else b"\1" if number == -1 else b"F%07d.;1" % number
        length = 33 + len(name) + (len(name) + 1) % 2
        flags = 2 if number < 0 else 0
        where = both_endian(20) + both_endian(0)
        record = bytes([length, 0]) + where + bytes([126, 1, 1, 0, 0, 0, 0, flags, 0, 0, 1, 0, 0, 1, len(name)]) + name
        record = record.ljust(length, b"\0")
        if len(records) % SECTOR + length > SECTOR:
            records += bytes(-len(records) % SECTOR)
        records += record
    records += bytes(-len(records) % SECTOR)
    size, path_table = len(records), b"\x01\x00" + struct.pack("<I", 20) + b"\x01\x00\x00\x00"
    root = (
        bytes([34, 0]) + both_endian(20) + both_endian(size) + bytes([126, 1, 1, 0, 0, 0, 0, 2, 0, 0, 1, 0, 0, 1, 1, 0])
    )
    sectors = 20 + size // SECTOR
    pvd = b"\x01CD001\x01\0" + b" " * 64 + bytes(8) + both_endian(sectors) + bytes(32)
    pvd += (
        b"\x01\0\0\x01" * 2 + b"\0\x08\x08\0" + both_endian(10) + struct.pack("<II", 18, 0) + struct.pack(">II", 19, 0)
    )
    pvd += root + b" " * (128 * 4 + 37 * 3) + (b"0" * 16 + b"\0") * 4 + b"\x01\0"
    with image.open("wb") as file:
        file.write(bytes(16 * SECTOR) + pvd.ljust(SECTOR, b"\0") + b"\xffCD001\x01".ljust(SECTOR, b"\0"))
        file.write(path_table.ljust(SECTOR, b"\0"))
        file.write((b"\x01\x00" + struct.pack(">I", 20) + b"\0\x01\0\0").ljust(SECTOR, b"\0"))
        file.write(records)


@pytest.mark.parametrize("content", [b"", b"\x7fELF" * 9999, b"\x1f\x8b" + b"\0" * 9999, b"<html>404 Not Found</html>"])
def test_what_is_no_image_is_said_to_be_none(site: Site, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.iso").write_bytes(content)
    refused(site, tmp_path / "a.iso", r"a\.iso: it is no ISO image that can be read")


def test_s40_devices_and_pipes_are_no_media(site: Site, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (Path("/dev/zero"), tmp_path / "pipe"):
        refused(site, path, "neither a file nor a directory")
    refused(site, tmp_path / "absent.iso", "No such file")


@pytest.mark.parametrize("seed", range(12))
def test_s44_damaged_images_never_do_more_than_fail(site: Site, tmp_path: Path, seed: int) -> None:
    mutate(site, tmp_path, seed)


@pytest.mark.full
@pytest.mark.parametrize("seed", range(1000, 1400))
def test_s44_many_damaged_images(site: Site, tmp_path: Path, seed: int) -> None:
    mutate(site, tmp_path, seed)


def mutate(site: Site, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    names = chance.choice(["rr", "joliet", "udf"])
    links = {"link": "images"} if names == "rr" else {}
    image = iso(tmp_path / "a.iso", HONEST | {"sub/dir/file": b"x" * 3000}, names=names, links=links)
    size = image.stat().st_size
    for _ in range(chance.choice([1, 4, 30])):
        put(image, chance.randrange(32768, min(size, 200_000)), chance.randbytes(chance.choice([1, 2, 8])))
    try:
        imported = mediaimport.import_medium(site, ACTOR, image)
    except ProvisionerError as error:
        assert error.code in {"invalid-input", "media-missing"}, error
        nothing_left(site)
    else:
        root = Path(imported.distro["tree"])
        assert sum(path.lstat().st_size for path in root.rglob("*") if path.is_file()) <= size


def test_s45_an_image_that_is_changed_while_it_is_read_is_noticed(site: Site, tmp_path: Path) -> None:
    image = iso(tmp_path / "a.iso", HONEST)
    evil = image.read_bytes().replace(RED_HAT["images/install.img"], b"evil-2 " * 4000)
    assert evil != image.read_bytes()

    def swap(what: str, done: int, total: int) -> None:
        if what.startswith("reading") and done == total:
            with image.open("r+b") as file:
                file.write(evil)

    with pytest.raises(InvalidInput, match="somebody changed the image while it was read"):
        mediaimport.import_medium(site, ACTOR, image, progress=swap)
    nothing_left(site)


def test_s44_the_process_that_reads_has_no_rights_and_nothing_runs(site: Site, tmp_path: Path) -> None:
    image = iso(tmp_path / "a.iso", HONEST | {"big": os.urandom(40 << 20)})
    seen: dict[str, str] = {}

    def look(what: str, done: int, total: int) -> None:
        if not what.startswith("unpacking") or done == total or seen:
            return
        child = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()[-1]
        lines = Path(f"/proc/{child}/status").read_text().splitlines()
        seen.update((key, value.strip()) for key, _, value in (line.partition(":") for line in lines))
        limits = Path(f"/proc/{child}/limits").read_text()
        seen["size"] = next(line for line in limits.splitlines() if "file size" in line).split()[3]
        seen["environment"] = Path(f"/proc/{child}/environ").read_text() if os.geteuid() == 0 else ""
        seen["net"] = str(Path(f"/proc/{child}/ns/net").readlink()) if os.geteuid() == 0 else ""

    mediaimport.import_medium(site, ACTOR, image, progress=look)
    assert (seen["NoNewPrivs"], seen["Seccomp"]) == ("1", "2")
    assert int(seen["size"]) == image.stat().st_size
    if os.geteuid() == 0:
        assert seen["Uid"].split() == ["65534"] * 4
        assert seen["Gid"].split() == ["65534"] * 4
        assert seen["Groups"] == ""
        assert int(seen["CapEff"], 16) == 0
        assert seen["environment"] == ""
        assert seen["net"] != str(Path("/proc/self/ns/net").readlink())


def test_s44_in_the_jail_there_are_no_sockets_no_programs_and_no_large_files(tmp_path: Path) -> None:
    script = textwrap.dedent("""
        import errno, os, socket, sys
        from provisioner.services import unpackjail
        unpackjail.enter(1000, os.getppid())
        def tried(what, *arguments):
            try:
                what(*arguments)
            except OSError as error:
                return errno.errorcode[error.errno]
            return "done"
        with open(sys.argv[1], "wb", buffering=0) as file:
            file.write(b"x" * 1000)
            print(tried(file.write, b"x"))
        print(tried(socket.socket), tried(socket.socketpair), tried(os.execv, "/bin/true", ["true"]))
        print(os.getuid(), tried(os.setuid, 0), tried(os.fork) if os.getuid() == 65534 else "")
        """)
    tmp_path.chmod(0o777)
    target = tmp_path / "file"
    target.touch()
    target.chmod(0o666)
    # A descriptor, as the importer has: nobody may not walk to pytest's directories.
    handle = os.open(target, os.O_WRONLY)
    done = subprocess.run(
        [sys.executable, "-c", script, f"/dev/fd/{handle}"],
        capture_output=True,
        text=True,
        pass_fds=[handle],
        check=False,
        cwd=Path(__file__).parents[2],
    )
    os.close(handle)
    assert done.stdout.splitlines()[:2] == ["EFBIG", "EPERM EPERM EPERM"], done.stderr
    if os.geteuid() == 0:
        assert done.stdout.splitlines()[2] == "65534 EPERM EAGAIN"


def test_s44_a_kernel_that_became_a_link_is_not_followed(site: Site, tmp_path: Path) -> None:
    root = tmp_path / "staged"
    root.mkdir()
    (root / "vmlinuz").symlink_to(tmp_path / "canary")
    medium = identify(["vmlinuz", "i"], {}, answers=Answers(os="rhel", version="9", kernel="vmlinuz", initrd="i"))
    with pytest.raises(InvalidInput, match="vmlinuz is a link"):
        mediaimport._ingested(site, root, "kernel", "vmlinuz", medium, None)


def test_without_pycdlib_the_error_says_what_to_install(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ProgramMissing) as caught:
        mediaimport.import_medium(site, ACTOR, iso(tmp_path / "a.iso", HONEST))
    assert "pip install 'provisioner[iso]'" in caught.value.hint
    nothing_left(site)
