"""Other people's clients, and what only a namespace of its own can show."""

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from provisioner.netboot.tftp import Content, Limits, OpenFile, Request
from tests.netboot.tftp_client import Running, need, running

SIZES = (0, 1, 511, 512, 513, 1428, 14280, 100_000)


def content_of(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def resolve(asked: Request) -> Content | None:
    kind, _, size = asked.name.rpartition("-")
    return content_of(int(size)) if kind == "sized" else None


def fetched(command: list[str], into: Path) -> bytes:
    subprocess.run(command, check=True, timeout=60, capture_output=True)
    return into.read_bytes()


@pytest.fixture
def tftp() -> Iterator[Running]:
    with running(resolve, limits=Limits()) as server:
        yield server


@pytest.mark.slow
@pytest.mark.parametrize("blksize", [8, 512, 1428, 8192, 65464])
def test_t07_curl_gets_every_size_byte_exact(tftp: Running, tmp_path: Path, blksize: int) -> None:
    into = tmp_path / "got"
    for size in SIZES[1:]:  # curl takes "tsize 0" in an OACK for an error; it gets the empty file without options
        url = f"tftp://127.0.0.1:{tftp.address[1]}/sized-{size}"
        command = [need("curl"), "-sS", "--tftp-blksize", str(blksize), "-o", str(into), url]
        into.write_bytes(b"")
        assert fetched(command, into) == content_of(size)


@pytest.mark.slow
def test_t10_curl_without_options(tftp: Running, tmp_path: Path) -> None:
    into = tmp_path / "got"
    for size in SIZES:
        into.write_bytes(b"")
        url = f"tftp://127.0.0.1:{tftp.address[1]}//sized-{size}"
        assert fetched([need("curl"), "-sS", "--tftp-no-options", "-o", str(into), url], into) == content_of(size)


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["blksize 1428"], ["blksize 65464"], ["blksize 1024", "windowsize 8"]])
def test_t07_t14_atftp_gets_every_size_byte_exact(tftp: Running, tmp_path: Path, options: list[str]) -> None:
    into = tmp_path / "got"
    chosen = [word for option in ["tsize", "timeout 2", *options] for word in ("--option", option)]
    for size in SIZES:
        into.unlink(missing_ok=True)
        where = ["-g", "-r", f"sized-{size}", "-l", str(into), "127.0.0.1", str(tftp.address[1])]
        assert fetched([need("atftp"), *chosen, *where], into) == content_of(size)


@pytest.mark.slow
def test_t07_tftp_hpa_gets_every_size_byte_exact(tftp: Running, tmp_path: Path) -> None:
    into = tmp_path / "got"
    for size in SIZES:
        command = [need("tftp"), "-m", "binary", "127.0.0.1", str(tftp.address[1]), "-c", "get", f"sized-{size}"]
        assert fetched([*command, str(into)], into) == content_of(size)


@pytest.mark.slow
def test_t20_tftp_hpa_cannot_write(tftp: Running, tmp_path: Path) -> None:
    (tmp_path / "up").write_bytes(b"upload")
    port = str(tftp.address[1])
    done = subprocess.run(
        [need("tftp"), "-m", "binary", "127.0.0.1", port, "-c", "put", str(tmp_path / "up"), "up"],
        check=False,
        timeout=60,
        capture_output=True,
        text=True,
    )
    assert "this server takes no files" in done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("program", ["curl", "atftp"])
def test_r09_more_than_65535_blocks(tmp_path: Path, program: str) -> None:
    source, into = tmp_path / "source", tmp_path / "got"
    source.write_bytes(content_of(33 << 20))

    def big(_: Request) -> Content:
        return OpenFile(os.open(source, os.O_RDONLY), 33 << 20)

    with running(big, limits=Limits()) as tftp:
        port = str(tftp.address[1])
        commands = {
            "curl": ["-sS", "-o", str(into), f"tftp://127.0.0.1:{port}/big"],
            "atftp": ["-g", "-r", "big", "-l", str(into), "127.0.0.1", port],
        }
        assert fetched([need(program), *commands[program]], into) == source.read_bytes()


_ASK_IN_NAMESPACE = """
import sys
from tests.netboot.tftp_client import Client, from_dict, running
with running(from_dict({"x": bytes(5000)}), bind=sys.argv[1]) as tftp, Client((sys.argv[2], tftp.address[1])) as client:
    client.ask("x", {"blksize": 65464})
    print(client.receive().options["blksize"])
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mtu", "bind", "host", "blksize"),
    [
        (1500, "0.0.0.0:0", "127.0.0.1", "1468"),
        (1280, "0.0.0.0:0", "127.0.0.1", "1248"),
        (1500, "[::]:0", "::1", "1448"),
        (1280, "[::]:0", "127.0.0.1", "1248"),
    ],
)
def test_t05_r07_blksize_fits_the_routes_mtu(mtu: int, bind: str, host: str, blksize: str) -> None:
    script = f'ip link set lo mtu {mtu} up && exec "$0" -c "$1" {bind} {host}'
    done = subprocess.run(
        ["unshare", "-n", "sh", "-c", script, sys.executable, _ASK_IN_NAMESPACE],
        check=False,
        timeout=60,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout.strip() == blksize, done.stderr
