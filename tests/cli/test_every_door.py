"""R26: every command and operation that changes a profile, template, snippet, parameter or subnet can be rehearsed, and
says then what it would do to machines: here and through the API the same.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from asking import table
from cli.conftest import inside
from conftest import Served
from doors import local, remote
from mediums import RED_HAT, iso, with_texts
from world import MAC, World

from provisioner.cli.root import cli
from provisioner.services import profiles, templates
from provisioner.store.engine import write
from provisioner.store.models import Template

pytestmark = pytest.mark.slow

NOUNS = {"machine", "profile", "template", "subnet", "distro", "image"}
CHANGING = {"add", "edit", "rename", "remove", "import"}
OTHERS = {"apply", "init", "inventory sync netbox"}
EVENTS = "snippets/events.sh.j2"


def commands(command: click.Command = cli, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    """Every command with its words."""
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(cli)):
            yield from commands(command.commands[name], (*path, name))
    else:
        yield " ".join(path), command


def doors_of_content() -> set[str]:
    """Those that change what machines are built from."""
    pairs = {words for words, _ in commands() if len(words.split()) == 2}
    wanted = {words for words in pairs if words.split()[0] in NOUNS and words.split()[1] in CHANGING}
    return wanted | OTHERS


def scenes(tmp: Path) -> dict[str, list[list[str]]]:
    """Ways to go through each door; each changes something."""
    longer = tmp / "more.j2"
    longer.write_text("# {{ machine.name }}\n")
    kernel = tmp / "kernel"
    kernel.write_bytes(b"another kernel")
    rack = tmp / "rack.yaml"
    nics = [{"mac": "52:54:00:00:00:78", "ip": "127.0.2.78"}]
    rack.write_text(
        json.dumps(
            [
                {"name": "web01", "interfaces": [{"mac": MAC, "ip": "127.0.2.11"}], "parameters": {"timezone": "CET"}},
                {"name": "db01", "profile": "rocky9", "interfaces": nics},
            ]
        )
    )
    site = tmp / "site/profiles"
    site.mkdir(parents=True)
    (site / "web.yaml").write_text("name: web\nparent: rocky9\nparameters: {timezone: CET}\n")
    distro = [
        "--os",
        "rocky",
        "--version",
        "9.7",
        "--kernel",
        str(kernel),
        "--initrd",
        str(kernel),
        "--tree",
        "http://m/9.7",
    ]
    return {
        "machine add": [["new", "--mac", "52:54:00:00:00:77", "--ip", "127.0.2.77", "--profile", "rocky9"]],
        "machine edit": [["web01", "--param", "timezone=CET"]],
        "machine rename": [["web01", "web02"]],
        "machine remove": [["web01"]],
        "machine import": [[str(rack)]],
        "profile add": [["rocky9-db", "--parent", "rocky9"]],
        "profile edit": [["rocky9", "--param", "timezone=CET"], ["web", "--param", "timezone=CET"]],
        "profile rename": [["web", "www"]],
        "profile remove": [["idle"]],
        "template add": [["snippets/more.j2", "--file", str(longer)]],
        "template edit": [[EVENTS, "--file", str(longer)]],
        "template rename": [["snippets/idle.j2", "snippets/used.j2"]],
        "template remove": [["snippets/idle.j2"]],
        "subnet add": [["edge", "--cidr", "10.9.0.0/24"]],
        "subnet edit": [["lab", "--param", "timezone=CET"], ["lab", "--gateway", "127.0.2.1"]],
        "subnet rename": [["lab", "hall"]],
        "subnet remove": [["empty"]],
        "distro add": [["rocky-9.7", *distro]],
        "distro import": [[str(iso(tmp / "new.iso", with_texts("rocky-9.6", RED_HAT))), "--name", "rocky-9.8"]],
        "distro edit": [["rocky-9.6", "--kernel", str(kernel)], ["rocky-9.6", "--tree", "http://mirror/9.6"]],
        "distro rename": [["rocky-9.6", "rocky"]],
        "distro remove": [["rocky-9.6"]],
        "image add": [["stem2", "--file", str(kernel), "--os", "debian", "--version", "12", "--root", "1"]],
        "image edit": [["stem", "--version", "12.1"], ["stem", "--file", str(kernel)]],
        "image rename": [["stem", "stem-cell"]],
        "image remove": [["stem"]],
        "apply": [[str(tmp / "site")]],
        "init": [[]],
    }


def furnish(world: World) -> None:
    """A machine, and objects that nothing refers to."""
    world.ready()
    more(world)


def more(world: World) -> None:
    """The same beside a machine that is there."""
    profiles.add(world.site, world.actor, {"name": "web", "parent": "rocky9"})
    profiles.add(world.site, world.actor, {"name": "idle"})
    world.machine("web11", "52:54:00:12:34:11", "127.0.2.12", profile="web")
    templates.add(world.site, world.actor, "snippets/idle.j2", "# nothing\n")
    world.subnet("empty", "127.0.9.0/24")
    file = world.tmp / "stem.raw"
    file.write_bytes(b"image")
    from provisioner.services import installables

    installables.add_image(
        world.site, world.actor, "stem", installables.ImageInput(str(file), "debian", "12", root="1")
    )


def outdated(world: World) -> None:
    """A shipped snippet as an earlier version of the program shipped it."""
    with write(world.site.engine) as session:
        session.query(Template).filter_by(name=EVENTS).one().text += "# as it was\n"


def test_r26_every_door_that_changes_content_takes_dry_run() -> None:
    taking = {words for words, command in commands() if any("--dry-run" in each.opts for each in command.params)}
    assert doors_of_content() - taking == set()
    content = {"machines", "profiles", "templates", "subnets", "distros", "images"}
    held = ("POST", "/subnets/{name}:hold")  # keeps addresses for minutes; changes no object
    for each in table():
        if each.noun in content and each.verb == "write" and (each.method, each.path) != held:
            assert each.tells_radius, each.id


def test_r26_every_door_tells_what_it_would_do_and_does_nothing(empty: Served, tmp_path: Path) -> None:
    inside(empty, tmp_path, furnish)
    inside(empty, tmp_path, outdated)
    here, ways = local(empty), scenes(tmp_path)
    assert ways.keys() | {"inventory sync netbox"} == doors_of_content()
    before = here.run("history", "list", "-o", "json").out
    for words, lines in ways.items():
        for line in lines:
            said = here.run(*words.split(), *line, "--dry-run", code=None)
            refused = said.code == 4 and words in {"distro rename", "distro remove"}
            assert refused or "reaches " in said.out, f"{words} {line}: {said}"
            assert not (said.code and not refused), said
    assert here.run("history", "list", "-o", "json").out == before
    assert not list((tmp_path / "state/media").glob(".incoming*"))


def test_r26_an_import_of_machines_says_what_becomes_of_their_answer_files(empty: Served, tmp_path: Path) -> None:
    inside(empty, tmp_path, furnish)
    said = local(empty).run("machine", "import", scenes(tmp_path)["machine import"][0][0], "--dry-run").out
    assert "reaches 2 machines: 1 would change, 1 added" in said
    assert "+timezone 'CET' --utc" in said
    assert "added: db01" in said


def test_r26_a_new_distro_reaches_the_profiles_that_would_mean_it(empty: Served, tmp_path: Path) -> None:
    inside(empty, tmp_path, furnish)
    here, ways = local(empty), scenes(tmp_path)
    files = sorted(path.name for path in (tmp_path / "state/media").rglob("*"))
    said = here.run("distro", "add", *ways["distro add"][0], "--dry-run").out
    assert "reaches 2 machines: 2 would change" in said
    assert "9.7" in said
    edited = here.run("distro", "edit", *ways["distro edit"][0], "--dry-run").out
    assert "reaches 2 machines: 2 would change" in edited
    assert "/kernel" in edited
    assert sorted(path.name for path in (tmp_path / "state/media").rglob("*")) == files, "read, and not kept"


def test_r26_init_says_what_a_new_version_of_shipped_content_would_do(empty: Served, tmp_path: Path) -> None:
    inside(empty, tmp_path, furnish)
    inside(empty, tmp_path, outdated)
    here = local(empty)
    said = here.run("init", "--dry-run").out
    assert f"edit  template {EVENTS}   (file differs" in said
    assert "reaches 2 machines: 2 would change" in said
    assert said.endswith("1 change of shipped content (dry run: nothing was changed)\n")
    assert "as it was" in here.run("template", "show", EVENTS).out


def test_r26_a_profile_that_is_refused_shows_the_reason_and_the_rest_of_its_reach(
    served: Served, tmp_path: Path
) -> None:
    def scene(world: World) -> None:
        profiles.add(world.site, world.actor, {"name": "lone", "parent": "rocky9"})
        world.machine("odd", "52:54:00:12:34:92", "127.0.2.92", profile="lone", parameters={"locale": "C.UTF-8"})
        world.machine("plain", "52:54:00:12:34:93", "127.0.2.93", profile="lone")

    inside(served, tmp_path, scene)
    line = ("profile", "edit", "lone", "--param", "locale='%end'", "--param", "keyboard=de", "--dry-run")
    here, there = (door.run(*line, code=None).timeless() for door in (local(served), remote(served)))
    assert here == there
    assert here.code == 1
    assert "reaches 2 machines: 1 would fail, 1 would change" in here.out
    assert "fails then: plain" in here.out
    assert "+keyboard --xlayouts='de'" in here.out
    assert "error [template-error] kickstart/el9.ks.j2:" in here.err
    assert "rendered for plain" in here.err
    shown = local(served).run("profile", "show", "lone", "-o", "json").json()
    assert shown["parameters"] == {}


def test_r26_the_same_bytes_through_every_door_here_and_through_the_api(served: Served, tmp_path: Path) -> None:
    def scene(world: World) -> None:
        world.machine()
        more(world)

    inside(served, tmp_path, scene)
    here, there = local(served), remote(served)
    only_here = {"apply", "init", "distro import"}
    for words, lines in scenes(tmp_path).items():
        for line in lines if words not in only_here else ():
            if str(tmp_path) in " ".join(line) and words.split()[0] in {"distro", "image"}:
                continue  # a server takes no file of its client's
            said, far = (door.run(*words.split(), *line, "--dry-run", code=None).timeless() for door in (here, there))
            assert said == far, words
