"""`machine import` shows what it will do, and does that; `machine export` is the way back."""

import json
from pathlib import Path
from typing import Any

import pytest
from bulkworlds import applied, bodies, snapshots, subnets_of
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, Phase, given, settings
from world import ACTOR

from provisioner.cli.root import cli
from provisioner.core import importing
from provisioner.services import plans
from provisioner.services.site import Site, open_site
from provisioner.settings import Settings

FILE = """\
name,mac,ip,mac2,ip2,profile,tags,param.timezone,description
web01,52:54:00:12:34:56,127.0.2.11,52:54:00:12:34:57,127.0.2.12,rocky9,web rack12,Europe/Berlin,'=1+1
web02,5254.0012.3458,127.0.2.13,,,,,,Grüße
"""


@pytest.fixture
def lab(site: Site) -> Site:
    """A site with the subnets."""
    subnets_of(site)
    return site


def run(site: Site, *words: str, stdin: str | None = None, colour: bool = False) -> Result:
    """A command of that installation, in this process."""
    return CliRunner().invoke(cli, ["--state-dir", str(site.settings.state_dir), *words], input=stdin, color=colour)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """FILE, as a file."""
    path = tmp_path / "rack12.csv"
    path.write_text(FILE, encoding="utf-8")
    return path


def test_it_shows_the_plan_asks_and_applies(lab: Site, file: Path) -> None:
    refused = run(lab, "machine", "import", str(file), stdin="n\n")
    assert refused.exit_code == 1
    assert snapshots(lab) == []
    assert (
        "+ web01  52:54:00:12:34:56 127.0.2.11, 52:54:00:12:34:57 127.0.2.12  profile rocky9  #rack12  #web"
        in refused.stdout
    )
    assert "2 machines: 2 to add, 0 to change\n" in refused.stdout
    done = run(lab, "machine", "import", str(file), stdin="y\n")
    assert (done.exit_code, done.stdout.splitlines()[-1]) == (0, "machines added: 2, changed: 0")
    assert [each["description"] for each in snapshots(lab)] == ["=1+1", "Grüße"]
    again = run(lab, "machine", "import", str(file))
    assert (again.exit_code, again.stdout) == (0, "2 machines: 0 to add, 0 to change, 2 unchanged\n")
    file.write_text("".join(FILE.splitlines(keepends=True)[:2]), encoding="utf-8")
    one = run(lab, "machine", "import", str(file))
    assert one.stdout == "1 machine: 0 to add, 0 to change, 1 unchanged\n"


def test_changes_and_refusals_are_shown_in_their_colours(lab: Site, file: Path) -> None:
    run(lab, "machine", "import", str(file), "--yes")
    text = (
        FILE.replace("Europe/Berlin", "UTC").replace("127.0.2.13", "127.0.2.300") + "web03,52:54:00:00:00:03,,,,,,,\n"
    )
    file.write_text(text, encoding="utf-8")
    shown = run(lab, "machine", "import", str(file), "--yes", colour=True)
    assert shown.exit_code == 4
    assert "\x1b[33m    parameters/timezone: Europe/Berlin -> UTC" in shown.stdout
    assert "\x1b[32m+ web03" in shown.stdout
    assert (
        "\x1b[31m! web02 (line 3 interfaces/0/ip): '127.0.2.300' is not an IP address [address-malformed]"
        in shown.stdout
    )
    assert "3 machines: 1 to add, 1 to change, 1 refused" in shown.stdout
    assert "error [plan-refused]" in shown.stderr
    assert len(snapshots(lab)) == 2, "nothing of it was done"


def test_a_dry_run_changes_nothing(lab: Site, file: Path) -> None:
    shown = run(lab, "machine", "import", str(file), "--dry-run")
    assert (shown.exit_code, shown.stdout.splitlines()[-1]) == (0, "(dry run: nothing was changed)")
    assert snapshots(lab) == []


@pytest.mark.parametrize(
    ("words", "stdin", "code", "said"),
    [
        (("nope.csv",), None, 3, "there is no file nope.csv"),
        (("-",), "x", 1, "does not say what it is"),
        (("-", "--format", "csv"), FILE, 1, "nobody can be asked"),
        (("-", "--format", "json", "--dry-run"), "[", 1, "standard input:1:2: broken JSON"),
        (("-", "--format", "csv", "--yes"), "name,colour\n", 1, "unknown column 'colour'"),
    ],
)
def test_what_cannot_be_read_is_said(
    lab: Site, words: tuple[str, ...], stdin: str | None, code: int, said: str
) -> None:
    shown = run(lab, "machine", "import", *words, stdin=stdin)
    assert (shown.exit_code, shown.stdout) == (code, "")
    assert said in shown.stderr
    assert "next: " in shown.stderr


def test_standard_input_and_missing_machines(lab: Site) -> None:
    body = [
        {"name": f"m{n}", "inventory": f"rack/{n}", "interfaces": [{"mac": f"52:54:00:00:00:0{n}"}]} for n in (1, 2)
    ]
    assert run(lab, "machine", "import", "-", "--format", "json", "--yes", stdin=json.dumps(body)).exit_code == 0
    words = ("machine", "import", "-", "--format", "json", "--yes", "--flag-missing", "rack/")
    shown = run(lab, *words, stdin=json.dumps(body[:1]))
    assert "? m2 is not in the file; it stays" in shown.stdout
    assert len(snapshots(lab)) == 2


def test_the_example_of_the_help_works(lab: Site, tmp_path: Path) -> None:
    lines = [each.strip() for each in run(lab, "machine", "import", "--help").stdout.splitlines()]
    start = lines.index("$ cat rack12.csv") + 1
    text = "\n".join(lines[start : start + 2]).replace("10.0.2.", "127.0.2.").replace("10.0.3.", "127.0.2.1")
    (tmp_path / "x.csv").write_text(text, encoding="utf-8")
    assert run(lab, "machine", "import", str(tmp_path / "x.csv"), "--yes").exit_code == 0


@pytest.mark.parametrize("form", ["csv", "yaml", "json"])
def test_export_to_a_file_and_back(lab: Site, file: Path, tmp_path: Path, form: str) -> None:
    run(lab, "machine", "import", str(file), "--yes")
    path = tmp_path / f"out.{form}"
    assert run(lab, "machine", "export", str(path)).exit_code == 0
    assert path.read_text(encoding="utf-8") == run(lab, "machine", "export", "--format", form).stdout
    again = run(lab, "machine", "import", str(path))
    assert again.stdout == "2 machines: 0 to add, 0 to change, 2 unchanged\n"


@settings(
    max_examples=8, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate]
)
@given(body=bodies())
def test_the_plan_of_an_export_is_empty(_template: Path, tmp_path_factory: Any, body: list[dict[str, Any]]) -> None:
    import shutil

    state = tmp_path_factory.mktemp("export") / "state"
    shutil.copytree(_template, state)
    site = open_site(Settings(state_dir=state, boot_url="http://127.0.0.1:8080"))
    subnets_of(site)
    applied(site, body)
    for form in importing.FORMATS:
        text = importing.write(plans.export(site), form)
        machines = importing.read(text.encode(), form, "f").machines
        plan = plans.plan(site, ACTOR, machines)
        assert (plan["created"], plan["changed"], plan["refused"]) == ([], [], []), (form, text)
        # And into an empty installation it brings the same machines.
    shown = snapshots(site)
    shutil.rmtree(state)
    shutil.copytree(_template, state)
    fresh = open_site(Settings(state_dir=state, boot_url="http://127.0.0.1:8080"))
    subnets_of(fresh)
    applied(fresh, importing.read(importing.write(shown, "csv").encode(), "csv", "f").machines)
    assert snapshots(fresh) == shown
    site.engine.dispose()
    fresh.engine.dispose()
