"""The history, what was then, and lists of machines, as somebody types them."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cli.conftest import inside
from conftest import Served
from sqlalchemy import text
from world import World

from provisioner.store.engine import write


def instant() -> str:
    """This moment, as somebody in full would write it."""
    return datetime.now(UTC).isoformat()


def test_the_history_of_a_machine_is_told_through_its_rename_with_reasons_and_fields(ready: Served) -> None:
    ready.cli("machine", "edit", "web01", "--description", "front")
    ready.cli("--reason", "ticket 7", "machine", "rename", "web01", "db01")
    for asked in (["db01"], ["machine/web01"], ["list", "web01"]):
        rows = ready.cli_json("history", *asked)
        assert [(row["action"], row["name"], row["changed"]) for row in rows] == [
            ("edit", "db01", ["name"]),
            ("edit", "web01", ["description"]),
            ("add", "web01", []),
        ]
    assert rows[0]["reason"] == "ticket 7"
    shown = ready.cli("history", "show", str(rows[1]["id"])).stdout
    assert "edit machine web01\n  /description\n" in shown
    assert "    + front\n" in shown
    assert ready.cli_json("history", "show", str(rows[0]["id"]))["changes"] == [
        {"pointer": "/name", "before": "web01", "after": "db01"}
    ]
    assert "+ web01" in ready.cli("history", "show", str(rows[2]["id"])).stdout
    assert ready.cli_json("history", "--kind", "machine", "--limit", "1")[0]["id"] == rows[0]["id"]
    assert ready.cli_json("history", "--actor", "nobody") == []
    assert "No change is chosen" in ready.cli("history", "--actor", "nobody").stdout
    assert ready.cli_json("history", "db01", "--until", "2020-01-01") == []
    assert len(ready.cli_json("history", "db01", "--since", "2020-01-01")) == 3
    ready.cli("history", "show", "99999", code=3)
    assert "'last week' is no moment" in ready.cli("history", "--since", "last week", code=1).stderr


def test_verify_says_what_somebody_did_behind_its_back(ready: Served) -> None:
    assert "complete and unchanged" in ready.cli("history", "verify").stdout
    site = ready.site
    with write(site.engine) as session:
        session.execute(text("UPDATE revision SET actor = 'nobody' WHERE id = 3"))
    site.engine.dispose()
    assert "revision 3 was edited" in ready.cli("history", "verify", code=4).stderr


def test_a_machine_a_profile_and_a_rendering_are_shown_as_they_were(empty: Served, tmp_path: Path) -> None:
    inside(empty, tmp_path, World.ready)
    first = instant()
    empty.cli("machine", "edit", "web01", "--description", "changed", "--param", "timezone=Asia/Tokyo")
    empty.cli("profile", "edit", "rocky9", "--description", "changed")
    assert empty.cli_json("machine", "show", "web01", "--as-of", first)["description"] == ""
    assert empty.cli_json("machine", "show", "52-54-00-12-34-56", "--as-of", first)["name"] == "web01"
    assert empty.cli_json("profile", "show", "rocky9", "--as-of", first)["description"] != "changed"
    then = empty.cli("render", "web01", "--as-of", first, "--file", "answer")
    assert "rendered from the machine, profile, subnets" in then.stderr
    assert "Asia/Tokyo" not in then.stdout
    assert "Asia/Tokyo" in empty.cli("render", "web01", "--file", "answer").stdout
    empty.cli("build", "start", "web01")
    sealed = instant()
    empty.cli("machine", "edit", "web01", "--param", "timezone=UTC")
    told = json.loads(empty.cli("render", "web01", "--as-of", sealed, "-o", "json").stdout)
    assert (told["source"], told["build"]) == ("build", 1)
    assert "Asia/Tokyo" in told["files"]["answer"]
    assert "sealed files of build 1" in empty.cli("render", "web01", "--as-of", sealed).stderr
    assert empty.cli_json("machine", "show", "web01", "--as-of", sealed)["state"] == "building"


def test_a_day_or_time_is_one_of_this_host_and_what_was_not_there_says_when_it_was_added(ready: Served) -> None:
    ready.environment["TZ"] = "Pacific/Kiritimati"  # fourteen hours ahead: its today ends before UTC's does
    missing = ready.cli("machine", "show", "web01", "--as-of", "2020-02-01 12:00", code=3).stderr
    assert "there was no machine 'web01' at 2020-01-31T22:00:00+00:00" in missing
    assert "it was added at 20" in missing
    assert "is no moment" in ready.cli("machine", "show", "web01", "--as-of", "yesterday", code=1).stderr
    assert "still to come" in ready.cli("render", "web01", "--as-of", "2999-01-01", code=1).stderr
    ready.cli("render", "web01", "--as-of", "2020-01-01", "--param", "a=1", code=2)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ([], ["db01", "web01", "web02"]),
        (["--limit", "2"], ["db01", "web01"]),
        (["--sort", "-name", "--limit", "1"], ["web02"]),
        (["--tag", "prod"], ["db01", "web02"]),
        (["--profile", "rocky9", "--search", "web"], ["web01"]),
        (["--search", "00-00-0"], ["db01", "web02"]),
        (["--subnet", "lab", "--state", "ready", "--no-flagged"], ["db01", "web01"]),
        (["--state", "failed"], []),
    ],
)
def test_machines_are_listed_by_filters(empty: Served, tmp_path: Path, asked: list[str], found: list[str]) -> None:
    def scene(world: World) -> None:
        world.ready()
        world.machine("db01", "52:54:00:00:00:01", "127.0.2.21", profile=None, tags=["prod"])
        world.machine("web02", "52:54:00:00:00:02", None, profile=None, tags=["prod"])

    inside(empty, tmp_path, scene)
    assert [row["name"] for row in empty.cli_json("machine", "list", *asked)] == found
    if not found:
        assert "`provisioner machine list` has all" in empty.cli("machine", "list", *asked).stdout


def test_a_list_that_cannot_be_says_what_can(ready: Served) -> None:
    assert "sort by name, state" in ready.cli("machine", "list", "--sort", "password_hash", code=1).stderr
    assert "there is no profile 'nosuch'" in ready.cli("machine", "list", "--profile", "nosuch", code=1).stderr
