"""A build is sealed whole when it is armed, or nothing is left of it."""

import dataclasses
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from conftest import both_engines
from forced import in_force_without_validation
from sqlalchemy import func, select
from world import ACTOR, IP, MAC, OTHER_IP, World

from provisioner.errors import (
    AddressTaken,
    BuildNotPossible,
    Conflict,
    IllegalTransition,
    InputsChanged,
    MacTaken,
    MediaMissing,
    MissingParameter,
    Protected,
    ProvisionerError,
    TemplateError,
    UnknownReference,
)
from provisioner.services import arming, builds, machines, media, profiles, records, templates
from provisioner.services.machines import InterfaceInput
from provisioner.services.resolve import BuildRequest
from provisioner.services.site import Site
from provisioner.store.engine import read
from provisioner.store.models import Build, SealedFile, Secret


def nothing_was_left(site: Site) -> None:
    """No build, no file, no secret; the machine is ready."""
    with read(site.engine) as session:
        for model in (Build.id, SealedFile.name, Secret.id):
            assert session.scalar(select(func.count(model))) == 0
    assert machines.show(site, "web01")["state"] in {"ready", "retired"}


def break_template(world: World, text: str) -> None:
    """A profile of web01 whose template is the text."""
    templates.add(world.site, ACTOR, "kickstart/own.ks.j2", "text\n")
    profiles.add(world.site, ACTOR, {"name": "own", "parent": "rocky9", "template": "kickstart/own.ks.j2"})
    machines.edit(world.site, ACTOR, "web01", {"profile": "own"})
    in_force_without_validation(world.site, "kickstart/own.ks.j2", text)


def _no_kernel(world: World) -> None:
    with read(world.site.engine) as session:
        from provisioner.store.models import Distro

        media.path_of(world.site, session.scalars(select(Distro.kernel_sha256)).one()).unlink()


def _edit(**fields: Any) -> Callable[[World], Any]:
    return lambda world: machines.edit(world.site, ACTOR, "web01", fields)


@both_engines
@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (lambda world: break_template(world, "{% if %}"), TemplateError),
        (lambda world: break_template(world, "lang {{ parameters.no_such_parameter }}\n"), MissingParameter),
        (_no_kernel, MediaMissing),
        (_edit(protected=True), Protected),
        (_edit(retired=True), IllegalTransition),
        (_edit(profile=None), BuildNotPossible),
        (_edit(profile="linux"), BuildNotPossible),
        (_edit(profile="debian12"), BuildNotPossible),
        (lambda world: machines.edit(world.site, ACTOR, "web01", {}, [InterfaceInput(MAC)]), BuildNotPossible),
    ],
)
def test_what_is_missing_is_said_at_arming_and_leaves_nothing(
    site: Site, world: World, spoil: Callable[[World], Any], error: type[ProvisionerError]
) -> None:
    world.ready()
    world.secret()
    spoil(world)
    with pytest.raises(error) as caught:
        arming.start(site, ACTOR, "web01")
    assert caught.value.message
    nothing_was_left(site)


@both_engines
def test_an_input_that_changes_while_rendering_is_noticed(
    site: Site, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.ready()
    real = arming.make
    changes = iter(
        [
            lambda: profiles.edit(site, ACTOR, "linux", {"parameters": {"timezone": "Asia/Tokyo"}}),
            lambda: templates.add(site, ACTOR, "snippets/new", "x"),
            lambda: world.distro("rocky-9.7", version="9.7"),
            lambda: machines.edit(site, ACTOR, "web01", {"parameters": {"disk": "/dev/sdb"}}),
            world.secret,
            lambda: world.secret("another at once"),
        ]
    )

    def make_slowly(*args: Any, **kwargs: Any) -> Any:
        made = real(*args, **kwargs)
        next(changes)()
        return made

    monkeypatch.setattr(arming, "make", make_slowly)
    for _ in range(6):
        with pytest.raises(InputsChanged, match="changed while the build was prepared"):
            arming.start(site, ACTOR, "web01")
        nothing_was_left(site)


@both_engines
def test_of_parallel_starts_one_arms_one_build(site: Site, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.ready()
    made = arming.make(site, _gathered(site), number=1, secrets=())
    monkeypatch.setattr(arming, "make", lambda *_args, **_kwargs: dataclasses.replace(made))

    def start(_: int) -> str:
        try:
            return str(arming.start(site, ACTOR, "web01")["number"])
        except Conflict as error:
            return type(error).__name__

    with ThreadPoolExecutor(8) as pool:
        results = Counter(pool.map(start, range(8)))
    assert results["1"] == 1, results
    assert len(builds.listing(site)) == 1
    assert machines.show(site, "web01")["state"] == "building"
    assert records.verify(site) == []


def _gathered(site: Site) -> Any:
    with read(site.engine) as session:
        return arming.gather(session, machines.find(session, "web01"), BuildRequest())


@both_engines
@pytest.mark.parametrize("same", ["mac", "ip", "name"])
def test_r12_parallel_machines_with_one_address_are_one_machine(site: Site, world: World, same: str) -> None:
    world.subnet()

    def add(number: int) -> str:
        mac = MAC if same == "mac" else f"52:54:00:bb:00:{number:02x}"
        ip = IP if same == "ip" else f"127.0.2.{20 + number}"
        name = "web" if same == "name" else f"web{number}"
        spelled = mac.replace(":", "-").upper() if number % 2 else mac
        try:
            return str(machines.add(site, ACTOR, name, [InterfaceInput(spelled, ip)], {})["name"])
        except Conflict as error:
            return type(error).__name__

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(add, range(8)))
    assert sum(result.startswith("web") for result in results) == 1, results
    assert set(results) - {"MacTaken", "AddressTaken", "NameTaken", "Conflict"} == {
        machine["name"] for machine in machines.listing(site)
    }
    assert records.verify(site) == []


@both_engines
def test_a_new_card_takes_over_the_address_and_two_cards_may_swap(site: Site, world: World) -> None:
    world.subnet()
    world.machine(profile=None)
    new = "52:54:00:99:99:99"
    assert machines.edit(site, ACTOR, "web01", {}, [InterfaceInput(new, IP)])["interfaces"][0]["mac"] == new
    machines.edit(site, ACTOR, "web01", {}, [InterfaceInput(new, IP), InterfaceInput(MAC, OTHER_IP)])
    shown = machines.edit(site, ACTOR, "web01", {}, [InterfaceInput(new, OTHER_IP), InterfaceInput(MAC, IP)])
    assert [each["ip"] for each in shown["interfaces"]] == [OTHER_IP, IP]
    with pytest.raises(MacTaken):
        machines.add(site, ACTOR, "web02", [InterfaceInput(MAC)], {})
    with pytest.raises(AddressTaken):
        machines.add(site, ACTOR, "web02", [InterfaceInput("52:54:00:99:99:98", IP)], {})


@both_engines
def test_repeat_takes_the_sealed_files_and_diff_shows_what_a_new_start_changes(site: Site, world: World) -> None:
    world.armed()
    first = builds.sealed(site, "web01")["files"]
    builds.cancel(site, ACTOR, "web01")
    machines.edit(site, ACTOR, "web01", {"parameters": {"timezone": "Asia/Tokyo"}})
    assert arming.repeat(site, ACTOR, "web01")["number"] == 2
    assert builds.sealed(site, "web01")["files"] == first
    assert arming.diff(site, "web01") == ""
    builds.cancel(site, ACTOR, "web01")
    arming.start(site, ACTOR, "web01")
    lines = arming.diff(site, "web01", 1, 3).splitlines()
    assert any(line.startswith("+") and "Asia/Tokyo" in line for line in lines)
    with pytest.raises(IllegalTransition):
        arming.repeat(site, ACTOR, "web01")
    machines_name = machines.rename(site, ACTOR, "web01", "web09")["name"]
    assert [each["number"] for each in builds.listing(site, machines_name)] == [3, 2, 1]


def test_a_request_may_not_smuggle_in_what_profiles_may_not_hold(site: Site, world: World) -> None:
    world.ready()
    for request in (
        BuildRequest(parameters={"x": "@@provisioner:boot_url@@"}),
        BuildRequest(kernel_options=["a b"]),
        BuildRequest(parameters={"x": float("nan")}),
    ):
        with pytest.raises(ProvisionerError):
            arming.start(site, ACTOR, "web01", request)
    nothing_was_left(site)
    with pytest.raises(UnknownReference):
        machines.edit(site, ACTOR, "web01", {"profile": "nope"})
