"""What is done to one machine: protect, retire, set a secret, remove; and arming its build, which wipes it."""

from collections.abc import Mapping
from typing import Any

from flask import Response

from provisioner.errors import InvalidInput, ProvisionerError
from provisioner.services import arming, builds, machines
from provisioner.services.resolve import BuildRequest
from provisioner.web.ui import notices
from provisioner.web.ui.forms import parameters
from provisioner.web.ui.machine import RUNNING, WIPES, latest, page, secrets_page
from provisioner.web.ui.pages import Pages, Visit, path

pages = Pages()
_ACTS: Mapping[str, tuple[dict[str, bool], str]] = {
    "protect": ({"protected": True}, "{} is protected: no build, no wipe, no power-off."),
    "unprotect": ({"protected": False}, "{} is not protected any more: it can be built."),
    "retire": ({"retired": True}, "{} is retired: it boots its disk and is not built."),
    "restore": ({"retired": False}, "{} is back in service."),
    "ready": ({"ready": True}, "{} is ready: its next boot goes to its disk."),
}


@pages.post("/machines/<name>/act", "machines")
def act(visit: Visit, name: str) -> Response:
    """Protect it, retire it, make it ready, or take its flag down."""
    wanted = visit.field("act")
    try:
        if wanted == "clear-flag":
            machines.clear_flag(visit.site, name)
            said = f"The flag of {name} is down. Its events keep what raised it."
            return visit.redirect(path("machines", name), said)
        if wanted not in _ACTS:
            raise InvalidInput(f"{wanted[:40]!r} is not a thing to do", hint="use the buttons of the machine's page")
        fields, said = _ACTS[wanted]
        machines.edit(visit.site, visit.actor, name, fields, expect=visit.field("revision") or None)
    except ProvisionerError as error:
        return page(visit, machines.show(visit.site, name), error.status, error)
    return visit.redirect(path("machines", name), said.format(name), href=path("machines", name, "history"))


@pages.post("/machines/<name>/secret", "machines")
def secret(visit: Visit, name: str) -> Response:
    """Give it a secret, or take one away."""
    which, removed = visit.field("secret").strip(), bool(visit.field("remove"))
    expect = visit.field("revision") or None
    try:
        if not removed and not visit.field("value"):
            raise InvalidInput("the secret is empty", where="value", hint="type it, or take the secret away instead")
        value = None if removed else visit.field("value")
        machines.set_secret(visit.site, visit.actor, name, which, value, expect=expect)
    except ProvisionerError as error:
        error.where = error.where or "secret"
        return secrets_page(visit, machines.show(visit.site, name), error.status, error=error, secret=which)
    said = f"{name} has no secret {which} any more." if removed else f"The secret {which} of {name} is set."
    return visit.redirect(path("machines", name, "parameters"), said)


@pages.get("/machines/<name>/remove", "machines", verb="write")
def ask_remove(visit: Visit, name: str) -> Response:
    """What removing it means, and a last question."""
    return _removal(visit, machines.show(visit.site, name))


@pages.post("/machines/<name>/remove", "machines")
def remove(visit: Visit, name: str) -> Response:
    """Remove it."""
    machine = machines.show(visit.site, name)
    try:
        machines.remove(visit.site, visit.actor, machine["name"], expect=visit.field("revision") or None)
    except ProvisionerError as error:
        return _removal(visit, machine, error.status, error)
    said = f"{machine['name']} is removed. Its builds and its history stay."
    return visit.redirect("/machines", said, href=f"/history?object=machine/{machine['name']}")


def _removal(
    visit: Visit, machine: dict[str, Any], status: int = 200, error: ProvisionerError | None = None
) -> Response:
    return visit.render("machine/remove.html", status, machine=machine, error=error)


@pages.get("/machines/<name>/build", "builds", verb="write")
def ask_build(visit: Visit, name: str) -> Response:
    """What a build would do to which machine, before anybody can start one."""
    return _building(visit, machines.show(visit.site, name))


@pages.post("/machines/<name>/build", "builds")
def build(visit: Visit, name: str) -> Response:
    """Arm a build."""
    machine = machines.show(visit.site, name)
    try:
        confirm(visit, machine)
        builds.refuse_hasty(visit.site, visit.actor)
        armed = arming.start(visit.site, visit.actor, machine["name"], _request(visit))
    except ProvisionerError as error:
        return _building(visit, machine, error.status, error)
    return to_armed(visit, armed)


def confirm(visit: Visit, machine: Mapping[str, Any]) -> None:
    """Raise InvalidInput where somebody's server would be wiped and its name was not typed."""
    if machine["state"] in WIPES and visit.field("confirm").strip().lower() != machine["name"]:
        raise InvalidInput(
            f"{machine['name']} is {machine['state']}: somebody may be using it, and a build wipes it",
            where="confirm",
            hint=f"type {machine['name']} if that is what you mean",
        )


def to_armed(visit: Visit, armed: dict[str, Any]) -> Response:
    """To the machine's page, which says that its build is armed, and what the validator remarked."""
    for warning in armed["warnings"][:3]:
        notices.say(f"The validator remarks: {warning}", level="warning")
    said = f"Build {armed['number']} of {armed['machine']} is armed. Boot the machine from the network."
    there = path("builds", armed["id"])
    return visit.redirect(path("machines", armed["machine"]), said, href=there, link=f"Build {armed['number']}")


def _building(
    visit: Visit, machine: dict[str, Any], status: int = 200, error: ProvisionerError | None = None
) -> Response:
    last = latest(visit, machine["name"])
    typed = {key: visit.field(key) for key in ("parameters", "kernel_options", "reason", "confirm")}
    running = last if last is not None and last["state"] in RUNNING else None
    told = {"machine": machine, "last": last, "running": running, "typed": typed, "error": error}
    return visit.render("machine/build.html", status, **told, wipes=machine["state"] in WIPES)


def _request(visit: Visit) -> BuildRequest:
    return BuildRequest(parameters(visit.field("parameters")), visit.field("kernel_options").split())
