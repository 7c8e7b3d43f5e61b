"""What a newcomer sees: help, empty lists, and output that programs read."""

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner
from sqlalchemy import QueuePool

from provisioner.cli.common import Context
from provisioner.cli.root import cli
from provisioner.services.site import Site

pytestmark = pytest.mark.slow


def commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command with the words that reach it."""
    yield path, command
    if isinstance(command, click.Group):
        for name, sub in command.commands.items():
            yield from commands(sub, (*path, name))


ALL = dict(commands(cli))
LISTS = [path for path in ALL if path and path[-1] == "list"]


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_help_of_every_command(path: tuple[str, ...]) -> None:
    """Each says what it does; one with required options shows an example, and so does each that is about a build."""
    shown = CliRunner().invoke(cli, [*path, "--help"], prog_name="provisioner")
    assert shown.exit_code == 0, shown.output
    command = ALL[path]
    assert command.help
    assert command.help.splitlines()[0].strip()
    required = [each for each in command.params if isinstance(each, click.Option) and each.required]
    assert not required or "Example" in command.help or path[-1] == "edit", shown.output
    example = shown.output.partition("Example")[2]
    assert path[:1] != ("build",) or len(path) == 1 or f"provisioner {' '.join(path)} " in example
    for option in command.params:
        if isinstance(option, click.Option) and not option.hidden and option.name != "help":
            assert option.help or option.type.name == "choice", f"{path} {option.name}"


def test_help_by_the_real_program(empty: Any) -> None:
    for words in ((), ("machine",), ("machine", "add"), ("build", "show")):
        for flag in ("--help", "-h"):
            shown = empty.cli(*words, flag).stdout
            assert shown.startswith("Usage: ")
    first = empty.cli("--help").stdout
    for command in ("init", "serve", "subnet add", "distro add", "machine add", "build start", "build show"):
        assert f"provisioner {command}" in first


@pytest.mark.parametrize("path", LISTS, ids=" ".join)
def test_lists_in_every_form_and_empty_ones_say_what_to_do(empty: Any, path: tuple[str, ...]) -> None:
    table = empty.cli(*path).stdout
    rows = json.loads(empty.cli(*path, "--output", "json").stdout)
    if not rows:
        assert "No " in table
        assert "provisioner " in table
    else:
        assert len(table.splitlines()) == len(rows) + 1
    assert yaml.safe_load(empty.cli(*path, "-o", "yaml").stdout) == rows
    parsed = list(csv.reader(io.StringIO(empty.cli(*path, "-o", "csv").stdout)))
    assert len(parsed) == len(rows) + 1
    assert {len(line) for line in parsed} == {len(parsed[0])}


def test_objects_in_every_form(ready: Any) -> None:
    ready.cli("build", "start", "web01")
    nouns = {"machine": "web01", "subnet": "lab", "profile": "rocky9", "distro": "rocky-9.6", "build": "web01"}
    for noun, name in nouns.items():
        shown = ready.cli_json(noun, "show", name)
        assert name in {shown.get("name"), shown.get("machine")}
        assert set(yaml.safe_load(ready.cli(noun, "show", name, "-o", "yaml").stdout)) == set(shown)
        parsed = list(csv.DictReader(io.StringIO(ready.cli(noun, "show", name, "-o", "csv").stdout)))
        assert len(parsed) == 1
        assert set(parsed[0]) == set(shown)
    assert ready.cli("boot", "explain", "web01", "-o", "yaml").stdout.startswith("mac: ")


def test_s54_csv_holds_no_formula(ready: Any) -> None:
    ready.cli("machine", "edit", "web01", "--description", "=cmd|calc", "--serial", "@x")
    row = next(csv.DictReader(io.StringIO(ready.cli("machine", "show", "web01", "-o", "csv").stdout)))
    assert (row["description"], row["serial"]) == ("'=cmd|calc", "'@x")


SPELLINGS = ("52:54:00:12:34:56", "52-54-00-12-34-56", "525400123456", "5254.0012.3456", "01-52-54-00-12-34-56")


@pytest.mark.parametrize("text", [*SPELLINGS, "52:54:00:12:34:56".upper(), "WEB01"])
def test_r12_names_and_macs_in_any_spelling(ready: Any, text: str) -> None:
    if text == SPELLINGS[0]:
        ready.cli("build", "start", text.upper())
    for words in (("machine", "show"), ("boot", "explain")):
        shown = ready.cli_json(*words, text)
        assert "web01" in {shown.get("name"), shown.get("machine")}
    done = ready.cli("build", "show", text, code=0 if text == SPELLINGS[0] else 3)
    assert ("armed" in done.stdout) == (text == SPELLINGS[0])


@pytest.mark.parametrize(
    "words",
    [
        ("machine", "add", "web02", "--mac", "52:54:00:00:00:02", "--ip", "127.0.2.12"),
        ("machine", "edit", "web01", "--profile", "debian12", "--param", "timezone=Europe/Berlin"),
        ("machine", "remove", "web01"),
        ("subnet", "add", "lab2", "--cidr", "127.0.3.0/24"),
        ("subnet", "edit", "lab", "--domain", "lab.example"),
        ("profile", "add", "rocky9-web", "--parent", "rocky9"),
        ("profile", "edit", "rocky9", "--param", "timezone=Europe/Berlin"),
    ],
    ids=lambda words: "-".join(words[:2]),
)
def test_dry_run_shows_the_change_and_changes_nothing(contents: Any, ready: Any, words: tuple[str, ...]) -> None:
    before = contents(ready)
    shown = ready.cli(*words, "--dry-run").stdout.splitlines()
    assert shown[-1] == "(dry run: nothing was changed)"
    change, reach = shown[: shown.index("")], shown[shown.index("") + 1]
    assert change
    assert all(line.startswith(("+", "-")) for line in change)
    assert reach.startswith(("reaches no machine", "reaches 1 machine: "))
    assert len(shown) > 1
    assert contents(ready) == before


def test_dry_run_of_what_would_be_refused_is_refused(ready: Any) -> None:
    done = ready.cli("machine", "add", "web02", "--mac", "52:54:00:12:34:56", "--dry-run", code=4)
    assert "[mac-taken]" in done.stderr


@pytest.mark.parametrize(
    "words",
    [(), ("machine",), ("machine", "nonsense"), ("nonsense",), ("machine", "show"), ("machine", "list", "-o", "x")],
)
def test_usage_errors_have_exit_code_2(empty: Any, words: tuple[str, ...]) -> None:
    done = empty.cli(*words, code=2)
    assert "Usage: provisioner" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("by", ["client", "site"])
def test_a_command_lets_go_of_the_database_that_it_opened(site: Site, by: str) -> None:
    """Python 3.13 warns of connections that nobody closes."""
    here = Context(flags={"state_dir": site.settings.state_dir})
    assert getattr(here, by)
    engine = here.site.engine
    assert isinstance(engine.pool, QueuePool)
    assert engine.pool.checkedin() == 1
    here.close()
    assert engine.pool.checkedin() == 0
