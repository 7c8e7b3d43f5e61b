"""What a newcomer gets wrong in the first hour: each mistake has a message with the next step, and changes nothing."""

import csv
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cli.conftest import inside
from conftest import Served

from provisioner.errors import KeyUnusable, StateDirectory, Unavailable
from provisioner.netboot.dhcp.dnsmasq import Paths
from provisioner.netboot.dhcp.status import Status, write_status
from provisioner.services import check, keys, setup, site
from provisioner.settings import Settings

pytestmark = pytest.mark.slow

NOBODY = 65534


@contextmanager
def plain_user() -> Iterator[None]:
    """What follows is done by a user without rights; whoever is one already stays so."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if before == 0:
            os.seteuid(0)


@pytest.fixture
def passable() -> Iterator[Path]:
    """A directory that others may pass through; pytest's own may not be."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o711)
        yield Path(directory)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a file that belongs to somebody else")
def test_who_may_not_read_the_installation_is_told_whose_it_is(passable: Path) -> None:
    keys.create(passable / "state/keys")
    (passable / "state").chmod(0o711)
    (passable / "state/keys").chmod(0o700)
    with plain_user(), pytest.raises(KeyUnusable, match="belongs to another user") as caught:
        site.open_site(Settings(state_dir=passable / "state"))
    assert "sudo" in caught.value.hint
    (passable / "state").chmod(0o700)
    with plain_user(), pytest.raises(StateDirectory, match="belongs to another user") as shut:
        site.open_site(Settings(state_dir=passable / "state"))
    assert "sudo" in shut.value.hint
    with plain_user(), pytest.raises(Unavailable, match="Permission denied"):
        setup.init(Settings(state_dir=passable / "state/mine"), site.Actor("me", "tests", "test"))


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes a plain user")
def test_a_plain_user_on_roots_server_is_not_sent_to_make_a_second_installation(
    passable: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site, "ROOTS_STATE_DIR", passable)
    with plain_user(), pytest.raises(StateDirectory, match="is not initialised") as caught:
        site.open_site(Settings(state_dir=passable / "mine"))
    assert caught.value.hint.startswith(f"for the one in {passable} run this with sudo")
    with pytest.raises(StateDirectory) as root:
        site.open_site(Settings(state_dir=passable / "mine"))
    assert root.value.hint == "run `provisioner init`"


def test_a_secret_whose_file_is_not_there_changes_nothing(ready: Served, tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for file in ("/no/such/file", str(tmp_path), str(tmp_path / "binary")):
        done = ready.cli("machine", "edit", "web01", "--description", "x", "--secret", f"root_password={file}", code=1)
        assert re.search(r"--secret root_password: the secret cannot be read: .*\n  next: check ", done.stderr)
        assert "Traceback" not in done.stderr
    assert ready.cli_json("machine", "show", "web01")["description"] == ""


def test_a_journal_that_cannot_be_written_is_an_error_with_its_path(ready: Served) -> None:
    done = ready.cli("simulate", "1", "--journal", "/no/such/file", code=1)
    assert "/no/such/file: No such file or directory" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_history_says_when_it_shows_only_the_newest(ready: Served) -> None:
    done = ready.cli("history", "--limit", "2")
    assert "these are the 2 newest" in done.stderr
    assert re.search(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ ", done.stdout)
    assert "newest" not in ready.cli("history", "web01").stderr
    assert "." in ready.cli_json("history", "web01")[0]["at"]


def test_dnsmasq_is_found_where_a_plain_users_path_does_not_look(
    ready: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside(ready, tmp_path, lambda world: world.subnet("own", "127.0.9.0/24", dhcp="authoritative"))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    opened = ready.site
    said = [finding.what for finding in check.dhcp_server(opened)]
    opened.engine.dispose()
    assert said == ["DHCP has not taken the newest changes"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a network namespace")
def test_machines_are_told_the_address_that_this_host_has_in_their_network(ready: Served) -> None:
    """A host with a card of its own for the provisioning network, and its default route elsewhere."""
    for url in ("PROVISIONER_BOOT_URL", "PROVISIONER_MEDIA_URL"):
        del ready.environment[url]
    ready.cli("subnet", "add", "rack", "--cidr", "10.0.2.0/24")
    ready.cli("subnet", "add", "far", "--cidr", "10.0.3.0/24")
    ready.cli("machine", "add", "near01", "--mac", "52:54:00:00:00:01", "--ip", "10.0.2.11")
    ready.cli("machine", "add", "far01", "--mac", "52:54:00:00:00:02", "--ip", "10.0.3.11")
    card = "ip link add {0} type veth peer name peer-{0} && ip address add {1}/24 dev {0} && ip link set {0} up && "
    cards = card.format("wan", "192.0.2.5") + card.format("rack", "10.0.2.5") + "ip route add default via 192.0.2.1 && "
    host = ["unshare", "--net", "sh", "-c", cards + 'exec "$@"', "sh", sys.executable, "-m", "provisioner"]
    told = {}
    for name in ("near01", "far01"):
        explained = subprocess.run(
            [*host, "boot", "explain", name, "--arch", "uefi"],
            env=os.environ | ready.environment,
            capture_output=True,
            text=True,
            check=True,
        )
        told[name] = {address for address in ("192.0.2.5", "10.0.2.5") if f"http://{address}:" in explained.stdout}
    assert told == {"near01": {"10.0.2.5"}, "far01": {"192.0.2.5"}}


def test_dhcp_check_says_plainly_that_dnsmasq_does_not_run(ready: Served, tmp_path: Path) -> None:
    inside(ready, tmp_path, lambda world: world.subnet("own", "127.0.9.0/24", dhcp="authoritative"))
    write_status(Paths(ready.state / "dhcp"), Status(error="no interface", hint="give it one"))
    said = ready.cli("dhcp", "check", code=1).stdout.splitlines()
    assert said[:3] == ["dnsmasq does not run; 0 reservations", "no interface", "  next: give it one"]


def test_a_misspelt_setting_or_key_is_said_in_plain_words(ready: Served, tmp_path: Path) -> None:
    ready.environment["PROVISIONER_BOOT_URLL"] = "x"
    assert "setting boot_urll: there is none of this name" in ready.cli("machine", "list", code=2).stderr
    del ready.environment["PROVISIONER_BOOT_URLL"]
    ready.environment["PROVISIONER_BOOT_URL"] = "x"
    assert "setting boot_url: write it as http://ADDRESS:PORT" in ready.cli("machine", "list", code=2).stderr
    del ready.environment["PROVISIONER_BOOT_URL"]
    (tmp_path / "web.yaml").write_text("name: web\nparamters: {a: 1}\n")
    done = ready.cli("profile", "add", "web", "--file", str(tmp_path / "web.yaml"), code=None)
    assert "paramters: there is no such key" in done.stderr


def test_what_dhcp_needs_is_told_when_its_mode_is_chosen_and_when_it_changes(ready: Served) -> None:
    added = ready.cli("subnet", "add", "rack", "--cidr", "127.0.9.0/24", "--dhcp", "proxy").stdout
    assert "nothing to configure" in added
    assert "must point machines here: provisioner dhcp show --subnet rack" in (
        ready.cli("subnet", "edit", "rack", "--dhcp", "external").stdout
    )
    assert "provisioner dhcp check" in ready.cli("subnet", "edit", "rack", "--dhcp", "authoritative").stdout
    assert "dhcp" not in ready.cli("subnet", "edit", "rack", "--domain", "example.com").stdout


def test_hints_of_subnets_and_protected_machines_name_what_is_meant(ready: Served) -> None:
    subnet = ("subnet", "add", "rack", "--cidr", "127.0.9.0/24")
    assert "name one inside" in ready.cli(*subnet, "--gateway", "127.0.8.1", code=1).stderr
    assert "the lower address first" in ready.cli(*subnet, "--range", "127.0.9.9-127.0.9.3", code=1).stderr
    assert "own network" in ready.cli(*subnet, "--range", "127.0.8.3-127.0.8.9", code=1).stderr
    ready.cli("machine", "edit", "web01", "--protected")
    for words in (("build", "start", "web01"), ("machine", "remove", "web01", "--yes")):
        assert "`provisioner machine edit web01 --no-protected`" in ready.cli(*words, code=4).stderr


def test_nothing_is_an_empty_cell_in_csv(ready: Served) -> None:
    (row,) = csv.DictReader(ready.cli("machine", "list", "-o", "csv").stdout.splitlines())
    assert (row["tags"], row["flag"], row["name"], row["protected"]) == ("", "", "web01", "no")
    explained = csv.DictReader(ready.cli("profile", "explain", "web01", "-o", "csv").stdout.splitlines())
    assert {each["overrides"] for each in explained} == {"", "built-in defaults"}
