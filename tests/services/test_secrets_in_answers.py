"""Secrets that stand in an answer by their markers: for whom, and never without the database's record (S23)."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from conftest import both_engines
from sqlalchemy import select
from world import ACTOR, World

from provisioner.core.tokens import Purpose, token
from provisioner.errors import AnswerInvalid, DatabaseUnavailable, SecretGone, TokenRefused
from provisioner.services import arming, attempts, boot, installables, lastgood, machines, profiles, templates
from provisioner.services.boot import BootRequest
from provisioner.services.installables import DistroInput
from provisioner.services.site import Site
from provisioner.store.engine import read, write
from provisioner.store.models import Attempt, Machine
from tests.render.structural import HASH

OURS = ("autoyast/sles15.xml.j2", "esxi/esxi.ks.j2", "ignition/fcos.ign.j2", "ignition/flatcar.ign.j2")


@pytest.mark.parametrize("name", OURS)
def test_the_shipped_templates_pass_the_check_that_saving_does(site: Site, name: str) -> None:
    """Rendered for a made-up machine, with every profile's defaults."""
    text = templates.show(site, name)["text"]
    saved = templates.edit(site, ACTOR, name, text.rstrip("\n") + "\n{## a remark ##}\n")
    assert (saved["draft"], saved["problems"]) == (None, [])


@pytest.mark.slow
def test_s23_only_ignition_and_esxi_may_hold_a_secrets_marker(world: World) -> None:
    world.ready()
    world.secret()
    text = templates.show(world.site, "kickstart/el9.ks.j2")["text"]
    saved = templates.edit(world.site, ACTOR, "kickstart/el9.ks.j2", f"# @@provisioner:secret_root_password@@\n{text}")
    assert saved["draft"] is not None, "kept, and never served"
    assert "only Ignition and ESXi answers may hold one" in str(saved["problems"])
    assert "secret_root" not in str(arming.start(world.site, ACTOR, "web01"))


def test_s23_a_marker_of_a_secret_that_the_machine_lacks_is_not_armed(world: World) -> None:
    flatcar(world, arm=False)
    text = templates.show(world.site, "ignition/flatcar.ign.j2")["text"]
    wanted = text.replace("Install Flatcar to the disk", "@@provisioner:secret_nobody@@")
    assert wanted != text
    templates.add(world.site, ACTOR, "ignition/own.ign.j2", wanted)
    profiles.add(world.site, ACTOR, {"name": "own", "parent": "flatcar", "template": "ignition/own.ign.j2"})
    machines.edit(world.site, ACTOR, "web01", {"profile": "own"})
    with pytest.raises(AnswerInvalid) as caught:
        arming.start(world.site, ACTOR, "web01")
    assert "--secret nobody=FILE" in caught.value.hint


def flatcar(world: World, *, arm: bool = True) -> str:
    """A Flatcar machine whose attempt is open, if it is armed: its answer token."""
    world.subnet()
    for name in ("kernel", "initrd"):
        (world.tmp / name).write_bytes(b"x" * 999)
    given = DistroInput("flatcar", "4152.2.0", str(world.tmp / "kernel"), str(world.tmp / "initrd"))
    installables.add_distro(world.site, ACTOR, "flatcar-4152.2.0", given)
    machine: dict[str, Any] = world.machine(profile="flatcar")
    machines.set_secret(world.site, ACTOR, "web01", "root_password", HASH)
    if not arm:
        return ""
    arming.start(world.site, ACTOR, "web01")
    interface = machine["interfaces"][0]
    boot.boot_script(world.site, BootRequest(interface["mac"], interface["ip"], boot_url="http://127.0.0.1:8080"))
    (uid,) = [path.stem for path in (world.site.settings.state_dir / "attempts").glob("*.json")]
    return token(world.site.keys.token_key, uid, Purpose.ANSWER)


@both_engines
def test_s23_of_two_addresses_that_ask_at_once_one_gets_the_answer(world: World) -> None:
    """Each may be the machine; the other is refused, and the build stops."""
    presented = flatcar(world)
    with write(world.site.engine) as session:
        session.scalars(select(Attempt)).one().addresses = ["127.0.2.11", "127.0.2.12"]

    def ask(number: int) -> str:
        try:
            return attempts.fetch(world.site, presented, "answer", f"127.0.2.{11 + number % 2}").text
        except (SecretGone, TokenRefused):
            return ""

    with ThreadPoolExecutor(8) as pool:
        given = list(pool.map(ask, range(24)))
    sources = {number % 2 for number, text in enumerate(given) if HASH in text}
    assert len(sources) == 1
    with read(world.site.engine) as session:
        assert "possible interception" in session.scalars(select(Machine)).one().flag


def test_s23_while_the_database_is_gone_no_secret_goes_out(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    presented = flatcar(world)

    def gone(*_: object) -> object:
        raise DatabaseUnavailable("it is locked")

    with monkeypatch.context() as patch:
        patch.setattr(attempts, "glance", gone)
        with pytest.raises(DatabaseUnavailable):
            attempts.fetch(world.site, presented, "answer", "127.0.2.11")
        # What has no secret in it is still served.
        assert attempts.fetch(world.site, presented, "handoff", "127.0.2.11").text.startswith("#!/bin/sh")
    kept = next((world.site.settings.state_dir / "attempts").glob("*.json"))
    assert "secret_root_password" in kept.read_text() and HASH not in kept.read_text()
    assert HASH.replace("/", "%2F") not in kept.read_text()
    assert HASH in attempts.fetch(world.site, presented, "answer", "127.0.2.11").text
    assert lastgood.recall(world.site, kept.stem) is not None
