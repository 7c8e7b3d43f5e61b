"""R26 on the command line: --dry-run says what a change would do to machines, here and through the API."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from cli.conftest import inside
from click.testing import CliRunner
from conftest import Served
from doors import Door, local, remote
from world import World

from provisioner.cli.root import cli
from provisioner.services import arming

pytestmark = pytest.mark.slow

EVENTS = "snippets/events.sh.j2"


def scene(world: World) -> None:
    """Five machines alike, the second being built, and one that has no profile."""
    for number in range(11, 16):
        world.machine(f"web{number}", f"52:54:00:12:35:{number}", f"127.0.2.{number}")
    world.machine("bare", "52:54:00:12:35:99", "127.0.2.99", profile=None)
    arming.start(world.site, world.actor, "web12")


@pytest.fixture
def here(empty: Served, tmp_path: Path) -> Door:
    """Commands on a host with that scene; nothing runs."""

    def setting(world: World) -> None:
        world.subnet()
        world.distro()
        scene(world)

    inside(empty, tmp_path, setting)
    return local(empty)


def edited(door: Door, tmp_path: Path, change: Callable[[str], str]) -> str:
    """A file with the snippet of events, changed."""
    file = tmp_path / "events.sh.j2"
    file.write_text(change(door.run("template", "show", EVENTS).out))
    return str(file)


def test_r26_a_group_is_printed_once_with_an_example_and_the_first_names(here: Door) -> None:
    said = here.run("profile", "edit", "rocky9", "--param", "timezone=Europe/Berlin", "--dry-run").out
    assert "reaches 5 machines: 5 would change" in said
    assert "5 machines alike, web11, web12, web13 and 2 more; of web11:" in said
    assert said.count("+timezone 'Europe/Berlin' --utc") == 1
    assert "1 machine has a build under way that keeps what it was sealed with: web12; `build cancel`" in said
    assert said.endswith("(dry run: nothing was changed)\n")
    assert "bare" not in said
    assert here.run("profile", "show", "rocky9", "-o", "json").json()["parameters"] == {}


def test_r26_errors_come_first_and_one_kind_of_mistake_once(here: Door, tmp_path: Path) -> None:
    here.run("machine", "edit", "web15", "--param", "rack=7")
    file = edited(here, tmp_path, lambda text: text + "# {{ parameters.rack }}\n")
    said = here.run("template", "edit", EVENTS, "--file", file, "--dry-run", code=None).out
    assert "reaches 5 machines: 4 would fail, 1 would change" in said
    fails, change = said.index("fails then: web11, web12, web13 and 1 more"), said.index("web15:")
    assert fails < change
    assert re.search(rf"\[parameter-missing\] {EVENTS}:\d+: no value for parameters.rack\n    next: set it", said)


def test_a_change_that_nothing_depends_on_says_so_and_one_that_changes_nothing_too(here: Door) -> None:
    assert "reaches no machine" in here.run("profile", "edit", "ubuntu2404", "--param", "a=1", "--dry-run").out
    described = here.run("profile", "edit", "rocky9", "--description", "For people", "--dry-run").out
    assert "reaches 5 machines: 5 would " in described
    said = here.run("subnet", "edit", "lab", "--dhcp", "external", "--dry-run").out
    assert "reaches 6 machines: 1 cannot be rendered now either, 5 would stay as now" in said
    assert here.run("subnet", "edit", "lab", "--dhcp", "off", "--dry-run").out == "nothing would change\n"


def test_output_json_names_every_machine(here: Door) -> None:
    told = here.run("subnet", "edit", "lab", "--param", "timezone=CET", "--dry-run", "-o", "json").json()
    (group,) = told["radius"]["groups"]
    assert group["machines"] == [f"web{number}" for number in range(11, 16)]
    assert told["before"]["parameters"] == {}
    assert told["after"]["parameters"] == {"timezone": "CET"}
    assert set(told["radius"]["seconds"]) == {"rendering", "validating"}


def test_lines_that_go_are_red_and_lines_that_come_green(here: Door) -> None:
    line = ["machine", "edit", "web11", "--param", "timezone=CET", "--dry-run"]
    done = CliRunner().invoke(cli, line, env=dict(here.environment), color=True)
    assert "\x1b[31m-timezone 'UTC' --utc\x1b[0m" in done.output
    assert "\x1b[32m+timezone 'CET' --utc\x1b[0m" in done.output


def test_a_rename_and_a_new_machine_say_what_they_reach(here: Door) -> None:
    renamed = here.run("machine", "rename", "web11", "web99", "--dry-run").out
    assert "+network --hostname='web99'" in renamed
    row = ("--mac", "52:54:00:00:00:77", "--ip", "127.0.2.77", "--profile", "rocky9", "--dry-run")
    assert "reaches 1 machine: 1 added" in here.run("machine", "add", "new", *row).out
    assert "reaches" not in here.run("user", "rename", "admin", "root", "--dry-run").out


def test_apply_says_what_a_directory_would_do(here: Door, tmp_path: Path) -> None:
    folder = tmp_path / "site/kickstarts/snippets"
    folder.mkdir(parents=True)
    file = edited(here, tmp_path, lambda text: text + "# more\n")
    (folder / "events.sh.j2").write_text(Path(file).read_text())
    said = here.run("apply", str(tmp_path / "site"), "--dry-run").out
    assert "5 machines alike, web11, web12, web13 and 2 more" in said
    assert "+# more" in said


@pytest.mark.slow
def test_r26_the_same_bytes_here_and_through_the_api(served: Served, tmp_path: Path) -> None:
    site = served.site
    scene(World(site, tmp_path))
    site.engine.dispose()
    doors = local(served), remote(served)
    file = edited(doors[0], tmp_path, lambda text: text + "# {{ machine.name }}\n")
    broken = tmp_path / "broken"
    broken.write_text(Path(file).read_text() + "{{ parameters.rack }}")
    for line in (
        ["profile", "edit", "rocky9", "--param", "timezone=CET", "--dry-run"],
        ["template", "edit", EVENTS, "--file", file, "--dry-run"],
        ["template", "edit", EVENTS, "--file", str(broken), "--dry-run"],
        ["subnet", "edit", "lab", "--gateway", "127.0.2.1", "--dry-run"],
        ["machine", "edit", "web11", "--profile", "stem-cell", "--dry-run"],
        ["machine", "remove", "web13", "--dry-run"],
        ["distro", "remove", "rocky-9.6", "--dry-run"],
    ):
        here, there = (door.run(*line, code=None) for door in doors)
        assert here == there
        assert "reach" in here.out or here.code
