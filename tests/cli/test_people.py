"""`provisioner user` and `token`, as an administrator on the server's host uses them."""

import csv
import io
import json
import os
import pty
import re
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hashes import FOREIGN

from provisioner.core.policy import Role
from provisioner.errors import NotLoggedIn
from provisioner.services import logins, people, records, tokens

pytestmark = pytest.mark.slow
PASSWORD = "correct horse battery"


def who(served: Any, bearer: str) -> Any:
    """What the credential stands for."""
    site = served.site
    try:
        return tokens.authenticate(site, bearer, "192.0.2.7")
    finally:
        site.engine.dispose()


def lets_in(served: Any, name: str, password: str) -> bool:
    site = served.site
    try:
        return bool(logins.login(site, name, password, "192.0.2.7"))
    except NotLoggedIn:
        return False
    finally:
        site.engine.dispose()


def everything(served: Any) -> tuple[Any, ...]:
    """Users, tokens, and the whole history."""
    site = served.site
    try:
        return people.listing(site), tokens.listing(site), records.listing(site, limit=1000)
    finally:
        site.engine.dispose()


def test_a_made_password_is_printed_once_and_lets_in(empty: Any) -> None:
    shown = empty.cli("user", "add", "jane", "--role", "operator").stdout
    password = re.search(r"^user jane added, operator\n  password, once: (\S{20})$", shown, re.MULTILINE)
    assert password is not None, shown
    assert lets_in(empty, "jane", password[1])
    for form in ("table", "json", "yaml", "csv"):
        for words in (("user", "list"), ("user", "show", "jane")):
            assert password[1] not in empty.cli(*words, "-o", form).stdout
    made = json.loads(empty.cli("user", "add", "joe", "--role", "viewer", "-o", "json").stdout)
    assert lets_in(empty, "joe", made["password"])
    assert made["password"] not in str(everything(empty))


def test_a_password_from_a_file_from_standard_input_or_anew(empty: Any, tmp_path: Path) -> None:
    """It is never printed and never on the command line; a line's end does not belong to it."""
    (tmp_path / "password").write_text(f"{PASSWORD}\r\n")
    shown = empty.cli("user", "add", "jane", "--role", "admin", "--password-file", str(tmp_path / "password")).stdout
    assert PASSWORD not in shown
    assert lets_in(empty, "jane", PASSWORD)
    empty.cli("user", "password", "jane", "--password-file", "-", stdin="another horse, another battery\n")
    assert not lets_in(empty, "jane", PASSWORD)
    assert lets_in(empty, "jane", "another horse, another battery")
    assert len(json.loads(empty.cli("user", "sessions", "jane", "-o", "json").stdout)) == 1
    made = empty.cli("user", "password", "jane").stdout.split()[-1]
    assert empty.cli("user", "sessions").stdout == "Nobody is logged in\n"
    assert lets_in(empty, "jane", made)


def test_s15_a_hash_from_elsewhere_in_a_file_or_sent_in(empty: Any, tmp_path: Path) -> None:
    secret, stored = FOREIGN["sha512"]
    (tmp_path / "hash").write_text(f"{stored}\n")
    shown = empty.cli("user", "add", "ada", "--role", "author", "--password-hash", str(tmp_path / "hash"))
    assert (shown.stdout, stored in str(everything(empty))) == ("user ada added, author\n", False)
    assert lets_in(empty, "ada", secret)
    assert empty.cli("history", "user/ada").stdout.count("the same password, hashed as new ones are") == 1
    secret, stored = FOREIGN["bcrypt"]
    empty.cli("user", "edit", "ada", "--password-hash", "-", stdin=stored)
    assert lets_in(empty, "ada", secret)
    weak = empty.cli("user", "edit", "ada", "--password-hash", "-", stdin="$1$salt$qjXMvbEw8oaL.CzflDtaK/", code=1)
    assert "MD5 crypt is broken" in weak.stderr
    assert "next: leave the hash out and set a password" in weak.stderr
    seen = empty.cli("user", "add", "joe", "--role", "viewer", "--password-hash", stored, code=2)
    assert "others see command lines" in seen.stderr
    assert stored not in seen.stderr
    empty.cli("user", "add", "joe", "--role", "viewer", "--password-hash", "-", "--ask", code=2, stdin=stored)


@pytest.mark.parametrize("text", ["", "\n", "short\n", "jane\n", "x" * 10**6, "\udcff" * 20 + "\n", "a" * 40])
def test_s12_bad_passwords_are_refused(empty: Any, text: str, tmp_path: Path) -> None:
    before = everything(empty)
    (tmp_path / "password").write_bytes(text.encode(errors="surrogateescape"))
    words = ("user", "add", "jane", "--role", "admin", "--password-file", str(tmp_path / "password"))
    done = empty.cli(*words, code=1)
    assert done.stderr.startswith("error [invalid-input] password: ")
    assert "\n  next: " in done.stderr
    assert "Traceback" not in done.stderr
    assert everything(empty) == before


def test_a_password_asked_for_on_a_terminal_is_not_echoed(empty: Any) -> None:
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "provisioner", "user", "add", "jane", "--role", "viewer", "--ask"],
        env=os.environ | empty.environment,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    shown, typed = b"", 0
    while True:
        ready, _, _ = select.select([master], [], [], 60)
        assert ready, shown
        try:
            part = os.read(master, 1000)
        except OSError:  # the other side is closed
            break
        if not part:
            break
        shown += part
        if shown.count(b": ") > typed and typed < 2:
            typed += 1
            os.write(master, f"{PASSWORD}\n".encode())
    os.close(master)
    assert process.wait(60) == 0, shown
    assert PASSWORD.encode() not in shown
    assert b"user jane added, viewer" in shown
    assert lets_in(empty, "jane", PASSWORD)


def test_a_token_is_shown_once_and_opens_what_it_says(empty: Any) -> None:
    words = ("token", "add", "inventory", "--role", "operator", "--scope", "builds", "--scope", "machines")
    shown = empty.cli(*words, "--days", "90").stdout
    found = re.match(
        r"token inventory, once: (pvt_[0-9a-f]{16}_\S{43})\n  operator, machines builds only, as admin", shown
    )
    assert found is not None, shown
    principal = who(empty, found[1])
    assert (principal.who, principal.role, principal.scope) == ("admin", Role.OPERATOR, ("machines", "builds"))
    made = json.loads(empty.cli("token", "add", "ci", "--never", "-o", "json").stdout)
    assert made["expires_at"] is None
    assert who(empty, made["token"]).role is Role.ADMIN
    for form in ("table", "json", "yaml", "csv"):
        for words in (("token", "list"), ("token", "show", "ci"), ("history",)):
            text = empty.cli(*words, "-o", form).stdout
            assert made["token"].split("_", 2)[2] not in text
            assert found[1].split("_", 2)[2] not in text
    row = next(csv.DictReader(io.StringIO(empty.cli("token", "list", "--user", "admin", "-o", "csv").stdout)))
    assert (row["name"], row["state"], row["last_used_from"]) == ("ci", "active", "192.0.2.7")
    empty.cli("token", "edit", "inventory", "--all", "--role", "viewer", "--expires", "2099-12-31")
    assert who(empty, found[1]).scope == ()
    empty.cli("token", "rename", "inventory", "netbox")
    assert who(empty, found[1]).token == "netbox"
    assert "+state: revoked" in empty.cli("token", "revoke", "netbox").stdout
    empty.cli("token", "remove", "ci", "--yes")
    for bearer in (found[1], made["token"]):
        with pytest.raises(NotLoggedIn):
            who(empty, bearer)


def test_s17_disabling_a_user_by_command_ends_a_session_at_the_next_request(empty: Any) -> None:
    empty.cli("user", "add", "jane", "--role", "author", "--password-file", "-", stdin=PASSWORD)
    site = empty.site
    session = logins.login(site, "jane", PASSWORD, "192.0.2.7")["token"]
    assert tokens.authenticate(site, session, "192.0.2.7").who == "jane"
    assert "+disabled: true" in empty.cli("--reason", "left", "user", "edit", "jane", "--disabled").stdout
    with pytest.raises(NotLoggedIn):
        tokens.authenticate(site, session, "192.0.2.7")
    row = records.listing(site)[0]
    assert (row["kind"], row["name"], row["changed"], row["reason"]) == ("user", "jane", ["disabled"], "left")
    site.engine.dispose()
    empty.cli("user", "edit", "jane", "--enabled", "--expires", "2099-12-31T12:00:00+02:00", "--role", "viewer")
    assert empty.cli_json("user", "show", "jane")["expires_at"] == "2099-12-31T10:00:00+00:00"
    empty.cli("user", "edit", "jane", "--never")
    empty.cli("user", "rename", "jane", "jean")
    empty.cli("user", "remove", "jean", "--yes")
    assert empty.cli("user", "show", "jean", code=3).stderr.startswith("error [not-found]")


REFUSED = [
    (("user", "remove", "admin", "--yes"), 4, "admin is the last administrator", "user add NAME --role admin"),
    (("user", "edit", "admin", "--disabled"), 4, "admin is the last administrator", "user add NAME --role admin"),
    (("user", "edit", "admin", "--expires", "2099-01-01"), 4, "admin is the last administrator", "user add"),
    (("user", "edit", "admin", "--expires", "soon"), 1, "'soon' is not a date", "2030-12-31"),
    (("user", "add", "Jane", "--role", "viewer"), 1, "'Jane' is not a name", "lower-case"),
    (("user", "add", "admin", "--role", "viewer"), 4, "there is a user 'admin' already", "another name"),
    (("user", "show", "admn"), 3, "there is no user 'admn'", "did you mean admin?"),
    (("token", "add", "x", "--user", "nobody"), 1, "there is no user 'nobody'", "user list"),
    (("token", "add", "x", "--days", "0"), 1, "'0' is not a number of days", "1 to"),
    (("token", "add", "x", "--expires", "2020-01-01"), 1, "is past", "token revoke"),
    (("token", "show", "x"), 3, "there is no token 'x'", "token add"),
]


@pytest.mark.parametrize(
    ("words", "code", "said", "hint"), REFUSED, ids=lambda value: "-".join(value) if isinstance(value, tuple) else ""
)
def test_refusals_say_the_next_step(empty: Any, words: tuple[str, ...], code: int, said: str, hint: str) -> None:
    before = everything(empty)
    done = empty.cli(*words, code=code)
    assert said in done.stderr
    assert re.search(rf"^  next: .*{re.escape(hint)}", done.stderr, re.MULTILINE), done.stderr
    assert everything(empty) == before


@pytest.mark.parametrize(
    "words",
    [
        ("user", "add", "jane", "--role", "root"),
        ("user", "add", "jane", "--role", "admin", "--ask", "--password-file", "/dev/null"),
        ("user", "add", "jane", "--role", "admin", "--password-file", "/no/such/file"),
        ("user", "edit", "admin", "--expires", "2099-01-01", "--never"),
        ("token", "add", "x", "--days", "5", "--never"),
        ("token", "add", "x", "--days", "5", "--expires", "2099-01-01"),
        ("token", "add", "x", "--scope", "everything"),
        ("token", "edit", "x", "--scope", "machines", "--all"),
    ],
    ids=lambda words: "-".join(words[-3:]).replace("/", ""),
)
def test_what_contradicts_itself_is_wrong_usage(empty: Any, words: tuple[str, ...]) -> None:
    assert "Usage: provisioner" in empty.cli(*words, code=2).stderr


REHEARSED = [
    ("user", "add", "jane", "--role", "viewer"),
    ("user", "edit", "joe", "--role", "viewer"),
    ("user", "rename", "joe", "jim"),
    ("user", "remove", "joe"),
    ("token", "add", "cd"),
    ("token", "edit", "ci", "--days", "3"),
    ("token", "revoke", "ci"),
    ("token", "rename", "ci", "cd"),
    ("token", "remove", "ci"),
]


def test_dry_run_shows_the_change_and_changes_nothing(empty: Any) -> None:
    empty.cli("user", "add", "joe", "--role", "operator")
    empty.cli("token", "add", "ci", "--user", "joe")
    before = everything(empty)
    for words in REHEARSED:
        shown = empty.cli(*words, "--dry-run").stdout.splitlines()
        assert shown[-1] == "(dry run: nothing was changed)", words
        assert len(shown) > 1
        assert all(line.startswith(("+", "-")) for line in shown[:-1])
        assert "pvt_" not in "".join(shown), "a token that is not there"
    assert everything(empty) == before
