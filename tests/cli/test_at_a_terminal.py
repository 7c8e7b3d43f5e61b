"""What people read at a terminal of 80 columns, and what a question that nobody answers says."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from cli.conftest import inside
from conftest import Served
from sqlalchemy import select
from world import ACTOR, World

from provisioner.services import builds
from provisioner.store.engine import write
from provisioner.store.models import Build

pytestmark = pytest.mark.slow


def lines(served: Served, *words: str, columns: int = 80) -> list[str]:
    """The lines that a command writes to a terminal that is so wide."""
    command = shlex.join([sys.executable, "-m", "provisioner", *words])
    environment = os.environ | served.environment | {"COLUMNS": str(columns), "TERM": "xterm"}
    done = subprocess.run(
        ["script", "-qec", command, "/dev/null"],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
        timeout=120,
    )
    return [line.rstrip() for line in re.sub(r"\x1b\[[\d;]*m", "", done.stdout.decode()).splitlines()]


def test_a_list_of_profiles_has_a_line_for_each(empty: Served) -> None:
    profiles = empty.cli_json("profile", "list")
    head, *rows = lines(empty, "profile", "list")
    assert head.split() == ["NAME", "PARENT", "INSTALLS", "TEMPLATE", "HANDOFF"]
    assert [row.split()[0] for row in rows] == [each["name"] for each in profiles]
    assert all(len(row) <= 80 for row in rows)
    by_name = {row.split()[0]: re.split("  +", row) for row in rows}
    assert by_name["rocky9"] == ["rocky9", "linux", "rocky 9 x86_64", "kickstart/el9.ks.j2", "-"]
    assert by_name["stem-cell"][2] == "debian 12 stem-cell"
    assert by_name["linux"][2:] == ["-", "-", "none"]
    assert "Rocky Linux 9, minimal" in "\n".join(lines(empty, "profile", "list", columns=140))
    piped = empty.cli("profile", "list").stdout
    assert "DESCRIPTION" in piped.splitlines()[0] and "Rocky Linux 9, minimal" in piped


def test_an_image_and_a_distro_by_name_are_told_apart(ready: Served) -> None:
    ready.cli("profile", "add", "one", "--distro", "rocky-9.6")
    ready.cli("profile", "add", "two", "--image", "version=12,os=debian")
    by_name = {row.split()[0]: re.split("  +", row) for row in lines(ready, "profile", "list")}
    assert by_name["one"][2] == "rocky-9.6"
    assert by_name["two"][2] == "image debian 12"


def test_a_tree_is_cut_on_the_left_at_a_terminal_alone(ready: Served) -> None:
    tree = "http://mirror.example.com/pub/rocky/9.6/BaseOS/x86_64/os"
    ready.cli("distro", "edit", "rocky-9.6", "--tree", tree)
    head, row = lines(ready, "distro", "list")
    assert max(len(head), len(row)) <= 80
    assert re.search(r" …\S*/x86_64/os$", row)
    assert lines(ready, "distro", "list", columns=200)[1].endswith(f" {tree}")
    assert tree in ready.cli("distro", "list").stdout
    ready.cli("distro", "remove", "rocky-9.6", "--yes")
    assert lines(ready, "distro", "list")[0].startswith("No distros yet")


def many_builds(world: World) -> None:
    """53 builds of web01."""
    world.armed()
    builds.cancel(world.site, ACTOR, "web01")
    with write(world.site.engine) as session:
        first = session.scalars(select(Build)).one()
        for number in range(2, 54):
            session.add(
                Build(
                    machine_id=first.machine_id,
                    machine_name="web01",
                    number=number,
                    state="cancelled",
                    sealed=first.sealed,
                )
            )


def test_the_newest_builds_are_listed_and_how_to_see_all(empty: Served, tmp_path: Path) -> None:
    inside(empty, tmp_path, many_builds)
    for words in (("build", "list"), ("build", "list", "web01")):
        shown = empty.cli(*words)
        assert [row.split()[1] for row in shown.stdout.splitlines()[1:]] == [str(each) for each in range(53, 3, -1)]
        assert f"provisioner {' '.join(words)} --all" in shown.stderr
        whole = empty.cli(*words, "--all")
        assert (len(whole.stdout.splitlines()), whole.stderr) == (54, "")
        assert len(empty.cli_json(*words)) == 53
        assert len(empty.cli(*words, "-o", "csv").stdout.splitlines()) == 54


@pytest.mark.parametrize("answer", ["n\n", ""], ids=["no", "nobody"])
def test_a_question_that_nobody_says_yes_to_names_the_option(ready: Served, answer: str) -> None:
    refused = ready.cli("machine", "remove", "web01", stdin=answer, code=1)
    assert "nothing was changed" in refused.stderr and "--yes" in refused.stderr
    ready.cli("machine", "show", "web01")


def six_machines(world: World) -> None:
    """Machines n1 to n6 in the subnet `lab`."""
    world.subnet()
    for number in range(1, 7):
        world.machine(f"n{number}", f"52:54:00:00:00:0{number}", f"127.0.2.{number + 20}")


def test_more_names_than_are_shown_are_said_to_be_more(empty: Served, tmp_path: Path) -> None:
    inside(empty, tmp_path, six_machines)
    empty.cli("machine", "edit", "n1", "--add-interface", "52:54:00:00:01:01,127.0.2.41")
    refused = empty.cli("subnet", "remove", "lab", "--yes", code=4)
    assert "has machines: n1, n2, n3, n4, n5 and more" in refused.stderr
    refused = empty.cli("profile", "remove", "rocky9", "--yes", code=4)
    assert "is assigned to n1, n2, n3, n4, n5 and more" in refused.stderr
    empty.cli("machine", "remove", "n6", "--yes")
    refused = empty.cli("subnet", "remove", "lab", "--yes", code=4)
    assert "has machines: n1, n2, n3, n4, n5\n" in refused.stderr


def test_a_missing_distro_is_imported_or_added(empty: Served, tmp_path: Path) -> None:
    inside(empty, tmp_path, six_machines)
    refused = empty.cli("build", "start", "n1", code=4)
    assert "[build-not-possible]" in refused.stderr
    assert "provisioner distro import ISO" in refused.stderr and "provisioner distro add --help" in refused.stderr


def test_a_file_that_cannot_be_read_is_told_in_words(ready: Served, tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for file, why in (
        ("none", "there is no such file"),
        (".", "it is a directory"),
        ("binary", "it is not UTF-8 text"),
    ):
        path = str(tmp_path / file)
        for words in (
            ("profile", "add", "x", "--file", path),
            ("machine", "edit", "web01", "--secret", f"root_password={path}"),
            ("webhook", "add", "x", "--url", "http://127.0.0.1:1/", "--secret-file", path),
        ):
            refused = ready.cli(*words, code=1)
            assert why in refused.stderr and "Errno" not in refused.stderr
