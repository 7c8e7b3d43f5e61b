"""`provisioner serve`: children that die come back, and nothing is left when it ends."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Served, free_port, served_environment, wait_for
from ownservice import own_service
from played import processes

pytestmark = pytest.mark.slow

CHILDREN = ("boot", "media", "admin", "tftp", "tftp-2", "dhcp", "worker")


@pytest.fixture
def service(_template: Path, tmp_path: Path) -> Iterator[Served]:
    """A service of the test's own, since the test breaks it."""
    with own_service(_template, tmp_path, tftp_workers="2") as served:
        yield served


def masters(served: Served) -> dict[str, int]:
    """The direct children by name."""
    assert served.process is not None
    found = {}
    for pid, name in processes(served.state).items():
        try:
            parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
        except OSError:  # it ended since it was listed
            continue
        if name != "serve" and int(parent) == served.process.pid:
            found[name] = pid
    return found


def test_killed_children_come_back_and_ports_stay(service: Served) -> None:
    before = masters(service)
    assert set(before) == set(CHILDREN)
    for pid in before.values():
        os.kill(pid, signal.SIGKILL)
    for setting in ("BOOT", "MEDIA", "HTTP"):
        # The parent holds the listeners: a connection waits for the next child, it is not refused.
        port = int(service.environment[f"PROVISIONER_{setting}_BIND"].rpartition(":")[2])
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    wait_for(lambda: set(masters(service)) == set(CHILDREN) and service._up(), 60, "all children again")
    after = masters(service)
    assert not set(before.values()) & set(after.values())
    assert service.http("/boot/ipxe").status == 200
    assert service.log.read_text().count("child ended") >= len(CHILDREN)


def test_the_admin_address_that_is_printed_opens(_template: Path, tmp_path: Path) -> None:
    """Listening everywhere is shown as an address of this host: nobody's browser opens 0.0.0.0."""
    shutil.copytree(_template, tmp_path / "state")
    environment = served_environment(tmp_path / "state")
    everywhere = environment["PROVISIONER_HTTP_BIND"].replace("127.0.0.1", "0.0.0.0")
    environment["PROVISIONER_HTTP_BIND"] = everywhere
    served = Served(environment, tmp_path / "state", log=tmp_path / "log")
    served.start()
    try:
        line = next(each for each in served.log.read_text().splitlines() if each.startswith("admin plane"))
        url = line.split()[2]
        assert "0.0.0.0" not in url and f"(listens on {everywhere})" in line
        with urllib.request.urlopen(f"{url}healthz", timeout=60) as answer:
            assert answer.status == 200
    finally:
        served.stop()


def test_sigterm_leaves_no_process(service: Served) -> None:
    assert service.process is not None
    everything = processes(service.state)
    assert len(everything) > len(CHILDREN)
    service.process.send_signal(signal.SIGTERM)
    assert service.process.wait(120) == 0
    assert processes(service.state) == {}
    assert "Traceback" not in service.log.read_text()


def test_ctrl_c_ends_it_as_well(service: Served) -> None:
    assert service.process is not None
    service.process.send_signal(signal.SIGINT)
    assert service.process.wait(120) == 0
    assert processes(service.state) == {}


def test_children_end_with_a_killed_parent(service: Served) -> None:
    assert service.process is not None
    service.process.kill()
    service.process.wait(120)
    wait_for(lambda: not processes(service.state), 120, "no process left")
    # and the ports are free again
    service.start()
    assert service.http("/healthz").status == 200


@pytest.mark.parametrize("setting", ["boot_bind", "media_bind", "http_bind", "tftp_bind"])
def test_a_port_in_use_is_said_at_once(_template: Path, tmp_path: Path, setting: str) -> None:
    shutil.copytree(_template, tmp_path / "state")
    environment = served_environment(tmp_path / "state")
    kind = socket.SOCK_DGRAM if setting == "tftp_bind" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind(("127.0.0.1", free_port(kind)))
        if kind == socket.SOCK_STREAM:
            taken.listen()
        port = taken.getsockname()[1]
        variable = f"PROVISIONER_{setting.upper()}"
        served = Served(environment | {variable: f"127.0.0.1:{port}"}, tmp_path / "state")
        done = served.cli("serve", code=1)
    assert f"[port-in-use] {setting}: cannot listen on 127.0.0.1:{port}" in done.stderr
    assert "ss -tulpn" in done.stderr
    assert variable in done.stderr
    assert "Traceback" not in done.stderr
    assert processes(served.state) == {}


def test_a_second_serve_on_the_same_ports_is_refused_and_the_first_lives_on(service: Served) -> None:
    before = masters(service)
    done = service.cli("serve", code=1)
    assert "[port-in-use] boot_bind" in done.stderr
    assert masters(service) == before
    assert service.http("/boot/ipxe").status == 200


@pytest.mark.parametrize("key", ["token.key", "master.key"])
@pytest.mark.parametrize("content", [b"", b" \n", None], ids=["empty", "blank", "missing"])
def test_s12_without_a_usable_key_it_does_not_start(
    _template: Path, tmp_path: Path, key: str, content: bytes | None
) -> None:
    shutil.copytree(_template, tmp_path / "state")
    path = tmp_path / "state/keys" / key
    assert path.is_file()
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    served = Served(served_environment(tmp_path / "state"), tmp_path / "state")
    if key == "master.key":
        # Boots go on without the master key; `check` says that secrets are unusable.
        done = served.cli("check", code=1)
        assert "master.key" in done.stdout
        return
    done = served.cli("serve", code=1)
    assert "[key-unusable]" in done.stderr
    assert "next: " in done.stderr


def test_serve_before_init_says_what_to_do(tmp_path: Path) -> None:
    served = Served(served_environment(tmp_path / "nothing"), tmp_path / "nothing")
    done = served.cli("serve", code=4)
    assert "[state-directory]" in done.stderr
    assert "provisioner init" in done.stderr
    assert not (tmp_path / "nothing").exists()


def test_flags_reach_the_children(_template: Path, tmp_path: Path) -> None:
    """`--state-dir` and `--config` mean the same for every process of the service."""
    shutil.copytree(_template, tmp_path / "state")
    environment = served_environment(tmp_path / "state")
    config = tmp_path / "provisioner.yaml"
    config.write_text(f"boot_bind: {environment.pop('PROVISIONER_BOOT_BIND')}\nboot_url: http://told.example:1\n")
    boot = environment.pop("PROVISIONER_BOOT_URL")
    del environment["PROVISIONER_STATE_DIR"]
    process = subprocess.Popen(
        [sys.executable, "-m", "provisioner", "--config", config, "--state-dir", tmp_path / "state", "serve"],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        served = Served(environment | {"PROVISIONER_BOOT_URL": boot}, tmp_path / "state", process)
        wait_for(served._up, 60, "readiness")
        assert served.tftp
        assert process.stdout is not None
        assert b"http://told.example:1" in process.stdout.readline()
    finally:
        process.terminate()
        assert process.wait(120) == 0
        assert process.stdout is not None
        process.stdout.close()
