"""A site's own content in a git checkout: plan, differences, reasons, and the same bytes back."""

import os
import pty
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import Served

pytestmark = pytest.mark.slow

OWN = """\
# The web tier; comments stay.
name: web
parent:   rocky9
parameters: {timezone:  Europe/Berlin}
"""


def git(directory: Path, *words: str) -> str:
    """A git command in the directory; the user's own settings do not matter."""
    environment = os.environ | {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    who = ("-c", "user.name=Tester", "-c", "user.email=tester@example.com", "-c", "protocol.file.allow=always")
    done = subprocess.run(
        ["git", *who, "-C", str(directory), *words], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A clone of a site's repository."""
    origin = tmp_path / "origin"
    for name, text in {
        "profiles/tiers/web.yml": OWN,
        "kickstarts/snippets/motd": "Grüße\r\n",
        "README.md": "# Our site\n",
    }.items():
        (origin / name).parent.mkdir(parents=True, exist_ok=True)
        (origin / name).write_bytes(text.encode())
    git(origin, "init", "-q", "-b", "main")
    git(origin, "add", ".")
    git(origin, "commit", "-q", "-m", "Content")
    git(tmp_path, "clone", "-q", str(origin), "site")
    return tmp_path / "site"


def reasons(served: Served) -> set[str]:
    """The reasons of the history's entries about the profile."""
    return {row["reason"] for row in served.cli_json("history", "web")}


def test_a_git_checkout_is_planned_applied_and_exported_with_the_same_bytes(empty: Served, checkout: Path) -> None:
    planned = empty.cli("apply", str(checkout), "--dry-run").stdout
    assert "add   profile web   (new: profiles/tiers/web.yml)" in planned
    assert "    +# The web tier; comments stay.\n" in planned
    assert "    +Grüße\\r\n" in planned
    assert "2 changes (dry run: nothing was changed)" in planned
    empty.cli("profile", "show", "web", code=3)
    done = empty.cli("apply", str(checkout), "--reason", "ticket 4711").stdout
    assert done.endswith("2 changes applied\n"), "a script is not asked"
    assert reasons(empty) == {"ticket 4711"}
    assert empty.cli("apply", str(checkout)).stdout == "nothing to change\n"
    empty.cli("export", str(checkout))
    assert git(checkout, "status", "--porcelain", "--untracked-files=no") == ""
    assert not (checkout / "profiles/web.yaml").exists()

    own = checkout / "profiles/tiers/web.yml"
    own.write_text(OWN.replace("Berlin", "Paris"))
    edited = empty.cli("--reason", "moved", "apply", str(checkout)).stdout
    assert "edit  profile web   (file differs: profiles/tiers/web.yml)" in edited
    assert "    -parameters: {timezone:  Europe/Berlin}\n    +parameters: {timezone:  Europe/Paris}\n" in edited
    assert reasons(empty) == {"ticket 4711", "moved"}

    own.unlink()
    assert empty.cli("apply", str(checkout)).stdout == "nothing to change\n", "nothing is removed unless asked for"
    removed = empty.cli("apply", str(checkout), "--prune").stdout
    assert "remove profile web   (not in the directory: profiles/web.yaml)" in removed
    empty.cli("profile", "show", "web", code=3)
    assert f"apply {checkout}" in reasons(empty)
    assert "rocky9" in empty.cli("profile", "list").stdout, "shipped content stays"


def test_errors_read_as_those_of_a_compiler(ready: Served, checkout: Path) -> None:
    own = checkout / "profiles/tiers/web.yml"
    for text, line, words in (
        ("name: web\nparent: rocky9\nparameters: {a: [1\n", 4, "broken YAML"),
        ("name: web\nparnet: rocky9\n", 2, "parnet"),
        ("name: web\n\nparent: plan-nine\n", 3, "there is no profile 'plan-nine'"),
        ("name: web\ntemplate: kickstart/none.j2\n", 2, "there is no template"),
        ("name: rocky9\nparent: web\n", 0, "stands in"),
        ("name: web\nparent: web\n", 2, "would inherit from itself"),
        ("name: web\nparent: rocky9\nparameters: {disk: {serial: ''}}\n", 3, "cannot be a disk's serial"),
    ):
        own.write_text(text)
        (checkout / "profiles/also.yaml").write_text("name: rocky9\nparent: linux\n" if not line else "name: also\n")
        failed = ready.cli("apply", str(checkout), code=None)
        assert failed.returncode == 1
        assert f"profiles/tiers/web.yml:{line or 1}: " in failed.stderr, failed.stderr
        assert words in failed.stderr and "next: " in failed.stderr
    (checkout / "profiles/also.yaml").unlink()
    own.write_text("name: web\nparent: rocky9\ntemplate: kickstart/own.ks.j2\n")
    (checkout / "kickstarts/kickstart").mkdir()
    (checkout / "kickstarts/kickstart/own.ks.j2").write_text("lang C\n{{ parameters.nobody_gives_this }}\n")
    # Another machine may have it, so that is a warning while no real machine has the profile.
    warned = ready.cli("apply", str(checkout), "--dry-run").stdout
    assert "warning: kickstarts/kickstart/own.ks.j2:2: no value for parameters.nobody_gives_this" in warned
    (checkout / "kickstarts/kickstart/own.ks.j2").write_text("lang C\n{% if %}\n")
    failed = ready.cli("apply", str(checkout), code=1)
    assert "kickstarts/kickstart/own.ks.j2:2: " in failed.stderr
    assert "add   template kickstart/own.ks.j2" in failed.stdout, "the plan is shown all the same"
    ready.cli("profile", "show", "web", code=3)


def test_what_is_still_used_is_not_pruned_and_all_of_it_is_named(ready: Served, checkout: Path) -> None:
    ready.cli("apply", str(checkout))
    ready.cli("profile", "add", "child", "--parent", "web")
    ready.cli("machine", "edit", "web01", "--profile", "child")
    (checkout / "profiles/tiers/web.yml").write_text("name: other\nparent: rocky9\n")
    failed = ready.cli("apply", str(checkout), "--prune", "--yes", code=4)
    assert "profile child by machine web01" in failed.stderr
    ready.cli("machine", "edit", "web01", "--profile", "rocky9")
    assert "3 changes applied" in ready.cli("apply", str(checkout), "--prune", "--yes").stdout


def test_profile_explain_tells_the_whole_chain(ready: Served, checkout: Path) -> None:
    ready.cli("apply", str(checkout))
    links = "links=[{name: bond0, kind: bond, over: all}]"
    ready.cli("machine", "edit", "web01", "--profile", "web", "--kernel-option", "!quiet", "--param", links)
    table = [line.split() for line in ready.cli("profile", "explain", "web01").stdout.splitlines()]
    assert ["parameter", "timezone", "Europe/Berlin", "profile", "web", "profile", "linux"] in table
    assert ["removed", "kernel", "option", "-", "quiet", "machine", "web01", "profile", "linux"] in table
    (row,) = [line for line in table if line[:2] == ["parameter", "links"]]
    assert " ".join(row[2:]) == '[{"name": "bond0", "kind": "bond", "over": "all"}] machine web01 profile linux'
    values = {row["name"]: row for row in ready.cli_json("profile", "explain", "web01")}
    assert values["links"]["value"] == [{"name": "bond0", "kind": "bond", "over": "all"}]
    assert (values["disk"]["value"], values["disk"]["source"]) == ("auto", "profile linux")


def test_a_dry_run_shows_which_machines_it_reaches(ready: Served, checkout: Path) -> None:
    ready.cli("apply", str(checkout))
    ready.cli("machine", "edit", "web01", "--profile", "web")
    own = checkout / "profiles/tiers/web.yml"
    own.write_text(OWN.replace("Berlin", "Paris"))
    shown = ready.cli("apply", str(checkout), "--dry-run").stdout
    assert "web01" in shown
    assert "Europe/Paris" in shown.split("parameters: {timezone:  Europe/Paris}", 1)[1], "in the answer file too"
    assert "Europe/Berlin" in ready.cli("profile", "explain", "web01").stdout


@pytest.mark.parametrize(("answer", "applied"), [("n\n", False), ("y\n", True)])
def test_on_a_terminal_somebody_is_asked(empty: Served, checkout: Path, answer: str, applied: bool) -> None:
    master, terminal = pty.openpty()
    process: Any = subprocess.Popen(
        [sys.executable, "-m", "provisioner", "apply", str(checkout)],
        env=os.environ | empty.environment | {"TERM": "dumb"},
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    shown, asked = b"", False
    while True:
        assert select.select([master], [], [], 120)[0], shown
        try:
            chunk = os.read(master, 65536)
        except OSError:  # the terminal is closed when the command ends
            break
        shown += chunk
        if b"Apply this plan?" in shown and not asked:
            asked = True
            os.write(master, answer.encode())
    os.close(master)
    assert process.wait(60) == (0 if applied else 1)
    assert asked
    assert b"\x1b[32m" in shown, "colours on a terminal"
    empty.cli("profile", "show", "web", code=0 if applied else 3)
    # With --yes nobody is asked; a script is not asked anyhow.
    assert empty.cli("apply", str(checkout), "--yes").returncode == 0
