"""The answer for images, run by the ramdisk's own shell against a small server; disk and files are in tmp_path."""

import gzip
import hashlib
import http.server
import lzma
import re
import shutil
import subprocess
import threading
import urllib.parse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from provisioner.core import storage
from provisioner.errors import ProvisionerError
from provisioner.render.confined import Job, render

KICKSTARTS = Path(__file__).resolve().parents[2] / "kickstarts"
HANDOFF = "#!/bin/sh\necho handed over\n"
CRYPT = "$6$salt/.x$a1B2c3./"
RAW = bytes(range(256)) * 4096  # 1 MiB
PACKED = gzip.compress(RAW, mtime=0)  # packed once: a gzip header holds the time
BUSYBOX = shutil.which("busybox")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BUSYBOX is None, reason="needs busybox (apt-get install busybox-static)"),
]

# What must not happen on the host that runs the test, or cannot; busybox finds functions before its applets.
# Time passes faster, but not so fast that a busy host looks like a silent server to the watch (sleep 2).
STAND_INS = """
blockdev() { case $1 in --getsize64) cat "$2.size" ;; esac; }
mount() { [ -f "$3" ]; }
umount() { :; }
modprobe() { :; }
findfs() { [ "$1" = LABEL=stem-root ] && echo "$FOUND"; }
dmesg() { echo 'last words of the kernel'; }
sleep() { [ "$1" = 2 ] && command sleep 0.5 || command sleep 0.05; }
"""


@dataclass
class Script:
    """What the server answers: a list of statuses a path, the last one for ever; and what it was asked."""

    statuses: dict[str, list[int]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    posts: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    cut: int = 0  # how many transfers of the image break off

    def status(self, path: str) -> int:
        left = self.statuses.get(path, [200])
        return left.pop(0) if len(left) > 1 else left[0]

    def steps(self) -> list[str]:
        return [form["step"] for path, form in self.posts if path == "/event"]

    def last(self) -> dict[str, str]:
        return self.posts[-1][1]


class Handler(http.server.BaseHTTPRequestHandler):
    script: Script

    def log_message(self, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode("ascii")
        status = self.script.status(self.path)
        form = dict(urllib.parse.parse_qsl(body, keep_blank_values=True, strict_parsing=True))
        self.script.posts.append((self.path, form))
        self._send(status, CRYPT.encode() if self.path.startswith("/secret/") else b"ok\n")

    def do_GET(self) -> None:
        body = self.script.files[self.path]
        cut = self.path == "/image" and self.script.cut > 0
        self.script.cut -= cut
        self._send(self.script.status(self.path), body, len(body) // 2 if cut else len(body))

    def _send(self, status: int, body: bytes, sent: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:sent])


@dataclass
class Rack:
    """A machine made of files, and the server that it talks to."""

    directory: Path
    script: Script
    url: str

    def add_disk(self, name: str, size: int, *, removable: bool = False, content: bytes = b"old system") -> Path:
        disk, entry = self.directory / "dev" / name, self.directory / "block" / name
        (entry / f"{name}2").mkdir(parents=True)
        (entry / f"{name}2/partition").write_text("2\n")
        for fact, value in {"size": size // 512, "removable": int(removable), "ro": 0}.items():
            (entry / fact).write_text(f"{value}\n")
        disk.write_bytes(content)
        (disk.parent / f"{name}.size").write_text(str(size))
        (disk.parent / f"{name}2").write_bytes(b"")
        return disk

    def run(self, **changes: Any) -> subprocess.CompletedProcess[str]:
        text = self.relocate(answer(self.url, **changes))
        (self.directory / "answer").write_text(f"FOUND={self.directory}/dev/vda2\n{STAND_INS}\n{text}")
        assert BUSYBOX is not None
        return subprocess.run(
            [BUSYBOX, "sh", str(self.directory / "answer")],
            env={"PATH": str(self.directory / "bin"), "TMPDIR": str(self.directory)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def relocate(self, text: str) -> str:
        """The script with every path of the machine moved into the test's directory: it writes to raw disks."""
        here = str(self.directory)
        text = text.replace('readlink -f "$wanted"', 'echo "$wanted"')
        for before, after in {
            "/sys/block": f"{here}/block",
            "${provisioner_sys:-/sys}": here,
            'echo "/dev/${1##*/}"': f'echo "{here}/dev/${{1##*/}}"',
            '"/dev/" $(NF': f'"{here}/dev/" $(NF',
            "root=/mnt": f"root={here}/root",
            '-b "$': '-f "$',
            "reboot -f": f"touch {here}/rebooted",
            "killall": ":",
        }.items():
            assert before in text
            text = text.replace(before, after)
        lines = [line for line in text.replace(here, ".").splitlines() if not line.lstrip().startswith("#")]
        # What is left are a pattern of sed, and the name of the one disk that a test asks for.
        assert not re.search(r"[^a-z.^]/(dev/(?!null|urandom|zero|vdb)|sys/|mnt)", "\n".join(lines))
        return text


@pytest.fixture
def rack(tmp_path: Path) -> Iterator[Rack]:
    script = Script(files={"/image": PACKED, "/handoff": HANDOFF.encode()})
    handler = type("Bound", (Handler,), {"script": script})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    for name in ("dev", "block", "bin", "root/etc/ssh", "root/var/lib/dbus"):
        (tmp_path / name).mkdir(parents=True)
    root = tmp_path / "root/etc"
    (root / "shadow").write_text("root:*:19000:0:99999:7:::\nrooty:!:19000::::::\n")
    (root / "shadow").chmod(0o640)
    (root / "hosts").write_text("127.0.0.1 localhost\n127.0.1.1 golden\n")
    (root / "machine-id").write_text("0123\n")
    (root / "ssh/ssh_host_ed25519_key").write_text("key\n")
    yield Rack(tmp_path, script, f"http://127.0.0.1:{server.server_port}")
    server.shutdown()
    thread.join()
    server.server_close()


def answer(
    url: str,
    *,
    packed: bytes = b"",
    disk: str = "auto",
    image: dict[str, Any] | None = None,
    more: dict[str, Any] | None = None,
    handoff_secrets: Sequence[str] = (),
) -> str:
    packed = packed or PACKED
    context: dict[str, Any] = {
        "machine": {"name": "web01", "hostname": "web01", "fqdn": "web01.example.com", "interfaces": []},
        "image": {
            "url": f"{url}/image",
            "sha256": hashlib.sha256(packed).hexdigest(),
            "size": len(packed),
            "format": "raw.gz",
            "root": "LABEL=stem-root",
            **(image or {}),
        },
        "storage": storage.layout({"disk": disk, **(more or {})}),
        "parameters": {"disk": disk},
        "urls": {name: f"{url}/{name}" for name in ("event", "secret", "handoff", "configured")},
        "secrets": ["root_password"],
        "handoff": {"tool": "pretend", "secrets": list(handoff_secrets)},
        "build": {"number": 3},
    }
    sources = {
        str(path.relative_to(KICKSTARTS)): path.read_text()
        for path in (KICKSTARTS / "script/deploy-image.sh.j2", *(KICKSTARTS / "snippets").glob("*"))
    }
    (text,) = render([Job("script/deploy-image.sh.j2", context)], sources)
    if isinstance(text, ProvisionerError):
        raise text
    return text


@pytest.mark.parametrize("shell", [["bash", "-n"], ["busybox", "sh", "-n"]], ids=["bash", "busybox"])
@pytest.mark.parametrize("image_format", ["raw", "raw.gz", "raw.xz", "raw.zst"])
def test_the_rendered_script_is_a_shell_script(shell: list[str], image_format: str) -> None:
    text = answer("http://192.0.2.1", image={"format": image_format})
    result = subprocess.run(shell, input=text, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


def test_a_machine_is_made_from_the_image(rack: Rack) -> None:
    disk = rack.add_disk("vda", 8 << 20)
    result = rack.run()
    assert result.returncode == 0, result.stdout
    assert disk.read_bytes() == RAW
    assert rack.script.steps()[0] == "disk"
    assert rack.script.steps()[-1] == "built"
    root = rack.directory / "root/etc"
    assert (root / "hostname").read_text() == "web01\n"
    assert (root / "hosts").read_text() == "127.0.0.1 localhost\n127.0.1.1 web01.example.com web01\n"
    assert (root / "machine-id").read_text() == ""
    assert not list((root / "ssh").iterdir())
    assert (root / "provisioner/handoff.sh").read_text() == HANDOFF
    assert (root / "provisioner/handoff.sh").stat().st_mode & 0o777 == 0o700
    wanted = root / "systemd/system/multi-user.target.wants/provisioner-handoff.service"
    assert "ExecStart=/etc/provisioner/first-boot.sh\n" in wanted.read_text()
    assert (rack.directory / "rebooted").exists()


def test_the_root_password_is_set_and_never_shown(rack: Rack) -> None:
    rack.add_disk("vda", 8 << 20)
    result = rack.run()
    shadow = rack.directory / "root/etc/shadow"
    assert shadow.read_text() == f"root:{CRYPT}:19000:0:99999:7:::\nrooty:!:19000::::::\n"
    assert shadow.stat().st_mode & 0o777 == 0o640
    assert CRYPT not in result.stdout + result.stderr
    left = [path for path in rack.directory.rglob("*") if path.is_file() and path != shadow]
    assert not [path for path in left if CRYPT.encode() in path.read_bytes()]


def test_auto_takes_the_smallest_fixed_disk_that_is_large_enough(rack: Rack) -> None:
    small = rack.add_disk("sda", 1 << 19)
    usb = rack.add_disk("sdb", 2 << 20, removable=True)
    large = rack.add_disk("sdc", 64 << 20)
    fits = rack.add_disk("vda", 4 << 20)
    result = rack.run(image={"raw_size": len(RAW)})
    assert fits.read_bytes() == RAW, result.stdout
    assert [disk.read_bytes() for disk in (small, usb, large)] == [b"old system"] * 3


def test_no_write_before_the_server_has_taken_the_step_disk(rack: Rack) -> None:
    disk = rack.add_disk("vda", 8 << 20)
    rack.script.statuses["/event"] = [403]
    result = rack.run()
    assert result.returncode == 1
    assert disk.read_bytes() == b"old system"
    assert "nothing was written" in result.stdout


def test_a_server_that_is_down_for_a_while_is_waited_for(rack: Rack) -> None:
    disk = rack.add_disk("vda", 8 << 20)
    rack.script.statuses["/event"] = [503, 503, 200]
    result = rack.run()
    assert result.returncode == 0, result.stdout
    assert rack.script.steps()[:3] == ["disk", "disk", "disk"]
    assert disk.read_bytes() == RAW


def test_built_is_repeated_until_it_is_acknowledged(rack: Rack) -> None:
    rack.add_disk("vda", 8 << 20)
    rack.script.statuses["/event"] = [200, 500, 503, 429, 200]
    result = rack.run(image={"size": len(PACKED) * 1000})  # no progress events
    assert result.returncode == 0, result.stdout
    assert rack.script.steps() == ["disk", "built", "built", "built", "built"]


def test_a_transfer_that_breaks_off_is_repeated(rack: Rack) -> None:
    disk = rack.add_disk("vda", 8 << 20)
    rack.script.cut = 1
    result = rack.run()
    assert result.returncode == 0, result.stdout
    assert disk.read_bytes() == RAW
    assert "broke off" in result.stdout


def test_a_wrong_checksum_fails_the_build_and_leaves_nothing_bootable(rack: Rack) -> None:
    disk = rack.add_disk("vda", 8 << 20)
    result = rack.run(image={"sha256": "0" * 64})
    assert result.returncode == 1
    assert rack.script.steps()[-1] == "failed"
    assert "could not be written" in rack.script.last()["message"]
    assert "last words of the kernel" in rack.script.last()["log"]
    assert len(rack.script.last()["log"]) <= 64 << 10
    assert disk.read_bytes()[:512] == bytes(512)
    assert not (rack.directory / "rebooted").exists()


@pytest.mark.parametrize("missing", ["handoff", "secret/root_password"])
def test_what_is_missing_is_noticed_while_the_old_disk_is_whole(rack: Rack, missing: str) -> None:
    disk = rack.add_disk("vda", 8 << 20)
    rack.script.statuses[f"/{missing}"] = [410]
    result = rack.run()
    assert result.returncode == 1
    assert disk.read_bytes() == b"old system"
    assert rack.script.steps() == ["failed"]


def test_the_secrets_of_the_handoff_are_in_the_new_system_for_root_alone(rack: Rack) -> None:
    rack.add_disk("vda", 8 << 20)
    assert rack.run(handoff_secrets=("a-key", "b-key")).returncode == 0
    directory = rack.directory / "root/etc/provisioner/secrets"
    assert directory.stat().st_mode & 0o777 == 0o700
    assert {each.name: each.read_text() for each in directory.iterdir()} == dict.fromkeys(
        ("a-key", "b-key"), f"{CRYPT}\n"
    )
    assert {each.stat().st_mode & 0o777 for each in directory.iterdir()} == {0o600}
    assert not list(rack.directory.glob("tmp*/secrets"))


def test_a_secret_of_the_handoff_that_is_refused_leaves_the_old_disk_whole(rack: Rack) -> None:
    disk = rack.add_disk("vda", 8 << 20)
    rack.script.statuses["/secret/b-key"] = [410]
    assert rack.run(handoff_secrets=("a-key", "b-key")).returncode == 1
    assert disk.read_bytes() == b"old system"
    assert rack.script.steps() == ["failed"]


def test_a_lost_reply_to_the_unwrap_is_asked_for_with_the_same_nonce(rack: Rack) -> None:
    rack.add_disk("vda", 8 << 20)
    rack.script.statuses["/secret/root_password"] = [503, 200]
    assert rack.run().returncode == 0
    nonces = [form["nonce"] for path, form in rack.script.posts if path.startswith("/secret/")]
    assert len(nonces) == 2
    assert nonces[0] == nonces[1]
    assert re.fullmatch(r"[0-9a-f]{32}", nonces[0])


def test_a_label_that_another_disk_has_too_is_not_guessed(rack: Rack) -> None:
    rack.add_disk("vda", 64 << 20)
    rack.add_disk("vdb", 8 << 20)
    result = rack.run(disk="/dev/vdb")
    assert result.returncode == 1
    assert "is also on" in rack.script.last()["message"]


@pytest.mark.parametrize(("image_format", "packed"), [("raw", RAW), ("raw.xz", lzma.compress(RAW))])
def test_other_formats_and_a_root_named_by_its_number(rack: Rack, image_format: str, packed: bytes) -> None:
    disk = rack.add_disk("vda", 8 << 20)
    rack.script.files["/image"] = packed
    result = rack.run(packed=packed, image={"format": image_format, "root": "2"})
    assert result.returncode == 0, result.stdout
    assert disk.read_bytes() == RAW


def test_a_format_that_the_ramdisk_cannot_unpack_fails_before_any_write(rack: Rack) -> None:
    disk = rack.add_disk("vda", 8 << 20)
    assert rack.run(image={"format": "raw.zst"}).returncode == 1
    assert disk.read_bytes() == b"old system"
    assert "raw.zst" in rack.script.last()["message"]


def test_an_image_whose_root_nobody_named_fails_before_any_write(rack: Rack) -> None:
    disk = rack.add_disk("vda", 8 << 20)
    assert rack.run(image={"root": ""}).returncode == 1
    assert disk.read_bytes() == b"old system"
    assert "--root" in rack.script.last()["message"]


@pytest.mark.parametrize(("statuses", "calls", "done"), [("0", 1, True), ("1 1 0", 3, True), ("3 0", 1, False)])
def test_the_first_boot_repeats_what_was_not_reported_and_nothing_else(
    rack: Rack, statuses: str, calls: int, done: bool
) -> None:
    rack.add_disk("vda", 8 << 20)
    assert rack.run().returncode == 0
    home = rack.directory / "root/etc/provisioner"
    (home / "statuses").write_text("\n".join(statuses.split()) + "\n")
    (home / "handoff.sh").write_text(
        f"#!/bin/sh\necho called >>{home}/calls\n"
        f"status=$(head -n 1 {home}/statuses)\nsed -i 1d {home}/statuses\nexit $status\n"
    )
    (home / "handoff.sh").chmod(0o700)
    text = (home / "first-boot.sh").read_text().replace("/etc/", f"{rack.directory}/root/etc/")
    stand_ins = f"sleep() {{ :; }}\nsystemctl() {{ echo $* >>{home}/systemctl; }}\n"
    result = subprocess.run(["sh", "-c", stand_ins + text], capture_output=True, text=True, check=False)
    assert (result.returncode == 0) is done, result.stderr
    assert len((home / "calls").read_text().splitlines()) == calls
    assert (home / "handoff.sh").exists() is not done
    assert (home / "systemctl").exists() is done


def test_a_machine_without_a_large_enough_disk_says_so(rack: Rack) -> None:
    rack.add_disk("sda", 1 << 19)
    assert rack.run(image={"raw_size": len(RAW)}).returncode == 1
    said = rack.script.last()["message"]
    assert said.startswith(
        "no disk fits the rule: the smallest fixed disk that is large enough; the image needs 1 MiB."
    )


def test_a_rule_chooses_among_the_disks_for_images_too(rack: Rack) -> None:
    for name, solid in (("sda", False), ("sdb", True), ("sdc", True)):
        rack.add_disk(name, 8 << 20 if name != "sdc" else 16 << 20)
        (rack.directory / "block" / name / "queue").mkdir()
        (rack.directory / "block" / name / "queue/rotational").write_text(f"{int(not solid)}\n")
    assert rack.run(disk="largest-ssd", image={"root": "2"}).returncode == 0
    assert (rack.directory / "dev/sdc").read_bytes() == RAW


def test_what_an_image_cannot_have_is_refused(rack: Rack) -> None:
    with pytest.raises(ProvisionerError, match="an image brings its own partitions"):
        answer(rack.url, disk="auto", more={"raid1": True})
