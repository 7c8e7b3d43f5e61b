"""Watching, history, `check`, `dhcp show` and settings: what an administrator asks a running site."""

import os
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from conftest import Served, served_environment, wait_for
from played import Played
from world import IP, MAC

pytestmark = pytest.mark.slow

SERVERS = {"isc": "hardware ethernet", "kea": '"Dhcp4"', "dnsmasq": "dhcp-host=", "windows": "Add-DhcpServerv4"}


def test_build_show_watch_follows_a_build_to_configured(ready: Served) -> None:
    ready.start()
    try:
        ready.cli("build", "start", "web01")
        watch = subprocess.Popen(
            [sys.executable, "-m", "provisioner", "build", "show", "web01", "--watch"],
            env=os.environ | ready.environment | {"PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        lines: list[str] = []
        assert watch.stdout is not None
        reader = threading.Thread(target=lambda: lines.extend(iter(watch.stdout.readline, "")))  # type: ignore[union-attr]
        reader.start()
        wait_for(lambda: any("power it on" in line for line in lines), what="the watch to wait for the machine")
        machine = Played(ready, ready.site, "web01", MAC, IP)
        tokens = machine.tokens()
        for step in ("disk", "packages", "built"):
            assert machine.event(tokens["event"], step, message=f"step {step}").status == 200
            wait_for(lambda step=step: any(f"step {step}" in line for line in lines), what=f"{step} to be shown")
        report = f"/build/{tokens['handoff']}/configured"
        assert ready.http(report, source=IP, method="POST", form={"status": "ok"}).status == 200
        assert watch.wait(120) == 0
        reader.join(60)
        watch.stdout.close()
        machine.site.engine.dispose()
    finally:
        ready.stop()
    text = "".join(lines)
    assert text.rstrip().endswith("configured")
    steps = ["armed", "script", "answer", "step disk", "step packages", "step built", "waits for the first boot"]
    positions = [text.index(step) for step in steps]
    assert positions == sorted(positions)
    assert "Traceback" not in text


def test_build_show_watch_ends_with_1_when_the_build_ends_otherwise(ready: Served) -> None:
    ready.cli("build", "start", "web01")
    ready.cli("build", "cancel", "web01")
    done = ready.cli("build", "show", "web01", "--watch", code=1)
    assert "cancelled" in done.stdout


def test_s85_history_says_who_what_and_why(ready: Served) -> None:
    ready.environment["SUDO_USER"] = "alice"
    ready.cli("--reason", "ticket 42", "machine", "edit", "web01", "--description", "in rack 7")
    rows = ready.cli_json("history", "web01")
    assert [row["action"] for row in rows] == ["edit", "add"]
    assert (rows[0]["actor"], rows[0]["origin"], rows[0]["reason"]) == ("alice", "cli", "ticket 42")
    assert "description" in rows[0]["changed"]
    assert "ticket 42" in ready.cli("history").stdout
    assert "complete and unchanged" in ready.cli("history", "verify").stdout


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE revision SET actor = 'mallory' WHERE id = 5",
        "UPDATE revision SET after = '{}' WHERE id = 7",
        "DELETE FROM revision WHERE id = 6",
        "UPDATE revision SET id = 9999 WHERE id = 4",
    ],
)
def test_s85_history_verify_finds_a_tampered_row(ready: Served, statement: str) -> None:
    with sqlite3.connect(ready.state / "provisioner.db") as connection:
        assert connection.execute(statement).rowcount == 1
    connection.close()
    done = ready.cli("history", "verify", code=4)
    assert "[conflict] history: " in done.stderr
    assert "backup" in done.stderr
    assert re.search(r"\b[4-9]\b|9999", done.stderr)


def findings(served: Served, code: int) -> str:
    """What `check` says; each finding has a reason and a remedy."""
    text = served.cli("check", code=code).stdout
    assert text.count("  why:    ") == text.count("  remedy: ")
    return text


def test_check_finds_what_is_broken(ready: Served) -> None:
    assert "error" not in findings(ready, 0)
    key = ready.state / "keys/token.key"
    key.chmod(0o644)
    assert f"chmod 600 {key}" in findings(ready, 1)
    key.chmod(0o600)
    ready.cli("subnet", "add", "real", "--cidr", "10.0.2.0/24")
    shown = findings(ready, 1)
    assert "machines in subnet real are told boot_url http://127.0.0.1" in shown
    assert re.search(r"provisioner subnet edit real --boot-url http://ADDRESS:\d+; or set boot_url", shown)
    real = ("--boot-url", "http://10.0.2.5:8080", "--media-url", "http://10.0.2.5:8081")
    ready.cli("subnet", "edit", "real", *real)
    assert "error" not in findings(ready, 0)
    digest = ready.cli_json("distro", "show", "rocky-9.6")["initrd_sha256"]
    (ready.state / "media/sha256" / digest[:2] / digest).unlink()
    assert "the initrd of distro rocky-9.6 is not in the media store" in findings(ready, 1)
    rows = ready.cli("check", "--output", "json", code=1).stdout
    assert '"level": "error"' in rows


def test_check_on_a_fresh_installation_tells_the_next_step(empty: Served) -> None:
    text = findings(empty, 0)
    assert "there is no subnet" in text
    assert "provisioner subnet add" in text


@pytest.mark.parametrize("server", SERVERS)
def test_dhcp_show(ready: Served, server: str) -> None:
    text = ready.cli("dhcp", "show", "--server", server).stdout
    assert SERVERS[server] in text
    assert text.endswith("\n")
    for word in ("undionly.kpxe", "snponly.efi", f"{ready.boot}/boot/ipxe", IP):
        assert word in text
    assert any(mac in text.lower() for mac in (MAC, MAC.replace(":", "-")))
    assert IP not in ready.cli("dhcp", "show", "--server", server, "--no-reservations").stdout


def test_dhcp_show_of_nothing(empty: Served) -> None:
    for words in (("dhcp", "show"), ("dhcp", "show", "--subnet", "lab")):
        done = empty.cli(*words, code=3)
        assert "[not-found]" in done.stderr
        assert "provisioner subnet" in done.stderr


def test_dhcp_check(ready: Served) -> None:
    assert "nothing to check" in ready.cli("dhcp", "check").stdout


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("PROVISIONER_BOOT_BNID", "0.0.0.0:1", "the environment: setting boot_bnid"),
        ("PROVISIONER_BOOT_BIND", "8080", "the environment: setting boot_bind"),
        ("PROVISIONER_BOOT_BIND", "0.0.0.0:99999", "the environment: setting boot_bind"),
        ("PROVISIONER_TLS", "maybe", "the environment: setting tls"),
        ("PROVISIONER_BOOT_URL", "10.0.2.5:8080", "the environment: setting boot_url"),
        ("PROVISIONER_LOCK_SECONDS", "soon", "the environment: setting lock_seconds"),
        ("PROVISIONER_DATABASE_URL", "mysql://x/y", "database_url: "),
        ("PROVISIONER_DATABASE_URL", "nonsense", "database_url: "),
        ("PROVISIONER_TRUSTED_PROXIES", "nonsense", "the environment: setting trusted"),
    ],
)
def test_wrong_settings_in_the_environment(ready: Served, variable: str, value: str, said: str) -> None:
    ready.environment[variable] = value
    done = ready.cli("machine", "list", code=2)
    assert done.stderr.startswith(f"error [settings-invalid] {said}"), done.stderr
    assert "  next: " in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("boot_bnid: 0.0.0.0:1\n", "setting boot_bnid"),
        ("boot_workers: 0\n", "setting boot_workers"),
        ("- a\n- b\n", "not a mapping"),
        ("a: [\n", "not YAML"),
        (None, "does not exist"),
    ],
)
def test_wrong_settings_in_the_file(ready: Served, tmp_path: Path, text: str | None, said: str) -> None:
    config = tmp_path / "provisioner.yaml"
    if text is not None:
        config.write_text(text)
    done = ready.cli("--config", str(config), "machine", "list", code=2)
    assert done.stderr.startswith(f"error [settings-invalid] {config}: "), done.stderr
    assert said in done.stderr
    assert "  next: " in done.stderr


def test_settings_rise_from_file_to_environment_to_flag(ready: Served, tmp_path: Path) -> None:
    config = tmp_path / "provisioner.yaml"
    config.write_text(f"state_dir: {tmp_path / 'from-file'}\ntls: off\n")
    shown = ready.cli("--config", str(config), "machine", "list").stdout
    assert "web01" in shown
    done = ready.cli("--config", str(config), "--state-dir", str(tmp_path / "flag"), "machine", "list", code=4)
    assert str(tmp_path / "flag") in done.stderr
    ready.environment.pop("PROVISIONER_STATE_DIR")
    done = ready.cli("--config", str(config), "machine", "list", code=4)
    assert str(tmp_path / "from-file") in done.stderr


@pytest.fixture
def small(_template: Path, tmp_path: Path) -> Any:
    """An installation on a file system of 24 MiB."""
    state = tmp_path / "small"
    state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", state], check=True)
    try:
        shutil.copytree(_template, state / "state")
        yield Served(served_environment(state / "state"), state / "state", log=tmp_path / "log")
    finally:
        subprocess.run(["umount", "-l", state], check=True)


def fill(path: Path) -> None:
    """Leave no byte free."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 12))
        except OSError:
            return


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_r19_a_full_disk_refuses_changes_and_recovers(small: Served, tmp_path: Path) -> None:
    kernel = tmp_path / "vmlinuz"
    kernel.write_bytes(os.urandom(40 << 20))
    files = ("--kernel", str(kernel), "--initrd", str(kernel))
    distro = ("distro", "add", "rocky-9.6", "--os", "rocky", "--version", "9.6")
    done = small.cli(*distro, *files, code=1)
    assert "[storage-full]" in done.stderr
    assert "next: free some space" in done.stderr
    assert [path for path in (small.state / "media").rglob("*") if path.is_file()] == []
    machine = ("machine", "add", "web01", "--mac", MAC, "--param", f"note={'x' * 20_000}")
    small.start()
    try:
        fill(small.state / "filler")
        done = small.cli(*machine, code=1)
        assert "[storage-full]" in done.stderr
        assert "next: free some space" in done.stderr
        assert small.cli_json("machine", "list") == []
        assert "asking again" in small.http(f"/boot/ipxe/{MAC}").text
        (small.state / "filler").unlink()
        small.cli(*machine)
        assert [row["name"] for row in small.cli_json("machine", "list")] == ["web01"]
        assert "sanboot" in small.http(f"/boot/ipxe/{MAC}").text
    finally:
        small.stop()
    with sqlite3.connect(small.state / "provisioner.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
