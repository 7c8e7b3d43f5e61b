"""Drafts by command, here and through the API, and what machines fetch meanwhile."""

from pathlib import Path

import pytest
from conftest import Served
from doors import Door, local, remote
from world import IP, MAC, token_in

pytestmark = pytest.mark.slow

NAME = "kickstart/web.ks.j2"
GOOD = "text\n# the good one\n"


def test_r24_s38_machines_get_the_last_good_text_by_every_door(served: Served, tmp_path: Path) -> None:
    here = local(served)
    file = tmp_path / "web.ks.j2"
    file.write_text(GOOD)
    here.run("template", "add", NAME, "--file", str(file))
    here.run("profile", "add", "web", "--parent", "rocky9", "--template", NAME)
    here.run("machine", "add", "web01", "--mac", MAC, "--ip", IP, "--profile", "web")
    for door in (here, remote(served)):
        _saved_as_a_draft(door, file)
        file.write_text(GOOD)
        assert "nothing changed" not in door.run("template", "edit", NAME, "--file", str(file)).out
        assert door.run("template", "show", NAME, "--draft", code=3).err.count(f"template {NAME} has no draft") == 1
    file.write_text("{% if %}\n")
    here.run("template", "edit", NAME, "--file", str(file), code=1)
    here.run("build", "start", "web01")
    script = served.http(f"/boot/ipxe/{MAC}", source=IP).text
    answer = served.http(f"/build/{token_in(script, 'answer')}/answer", source=IP)
    assert (answer.status, answer.text) == (200, GOOD)


def _saved_as_a_draft(door: Door, file: Path) -> None:
    revision = door.run("template", "show", NAME, "-o", "json").json()["revision"]
    file.write_text("text\n\nnonsense --x\n")
    rehearsed = door.run("template", "edit", NAME, "--file", str(file), "--dry-run", code=1)
    assert f"template {NAME}: would be kept as a draft; machines still get revision {revision}" in rehearsed.err
    assert door.run("template", "show", NAME).err == ""
    saved = door.run("template", "edit", NAME, "--file", str(file), code=1)
    assert f"problem: {NAME}:3: line 3: " in saved.err
    assert "'nonsense --x'" in saved.err
    assert "  next: mend this line, then save it again" in saved.err
    assert f"template {NAME}: kept as a draft; machines still get revision {revision}" in saved.err
    shown = door.run("template", "show", NAME)
    assert (shown.out, f"problem: {NAME}:3: " in shown.err) == (GOOD, True)
    assert "machines still get the last good text" in shown.err
    assert door.run("template", "show", NAME, "--draft").out == "text\n\nnonsense --x\n"
    (listed,) = [line for line in door.run("template", "list").out.splitlines() if line.startswith(NAME)]
    assert listed.split()[-1] == "yes"
    new = f"kickstart/{'here' if door.here else 'there'}.ks.j2"
    file.write_text("{% if %}")
    added = door.run("template", "add", new, "--file", str(file), code=1)
    assert f"problem: {new}:1: " in added.err
    assert "kept as a draft; no text of it was ever good, so no build can be armed with it" in added.err


def test_check_lists_drafts(served: Served, tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_text("{% if %}")
    here = local(served)
    here.run("template", "add", "script/x.sh", "--file", str(file), code=1)
    found = here.run("check", code=None).out
    assert "warning: template script/x.sh has a draft that fails: script/x.sh:1: " in found
    assert "remedy: provisioner template show script/x.sh --draft" in found
