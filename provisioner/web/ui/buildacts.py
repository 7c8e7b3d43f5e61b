"""What is done to a build: cancel it, let it go on, retry its handoff, seal it again, repeat it."""

from collections.abc import Callable, Mapping
from typing import Any

from flask import Response

from provisioner.errors import ProvisionerError
from provisioner.services import arming, builds, machines, resealing
from provisioner.services.site import Actor, Site
from provisioner.web.ui import machine as machinepage
from provisioner.web.ui import onebuild
from provisioner.web.ui.machineacts import confirm, to_armed
from provisioner.web.ui.pages import Pages, Visit, path

pages = Pages()
_Act = Callable[[Site, Actor, int], dict[str, Any]]
_ACTS: Mapping[str, tuple[_Act, str]] = {
    "cancel": (builds.cancel, "Build {number} of {machine} is cancelled. Its next boot goes to the local disk."),
    "continue": (builds.go_on, "Build {number} of {machine} may make one more attempt. Boot it from the network."),
    "retry-handoff": (
        builds.retry_handoff,
        "Build {number} of {machine} waits for its handoff again: reboot the machine.",
    ),
}


@pages.post("/builds/<int:number>/cancel", "builds")
def cancel(visit: Visit, number: int) -> Response:
    """Cancel it: its tokens are dead."""
    return _act(visit, number, "cancel")


@pages.post("/builds/<int:number>/continue", "builds")
def go_on(visit: Visit, number: int) -> Response:
    """Let it have one more attempt."""
    return _act(visit, number, "continue")


@pages.post("/builds/<int:number>/retry-handoff", "builds")
def retry_handoff(visit: Visit, number: int) -> Response:
    """Take reports of its handoff again."""
    return _act(visit, number, "retry-handoff")


@pages.post("/builds/<int:number>/reseal", "builds")
def reseal(visit: Visit, number: int) -> Response:
    """Arm a build from what is there now in its place."""
    try:
        builds.refuse_hasty(visit.site, visit.actor)
        armed = resealing.again(visit.site, visit.actor, number)
    except ProvisionerError as error:
        return onebuild.page(visit, number, error.status, error)
    return to_armed(visit, armed)


@pages.get("/builds/<int:number>/repeat", "builds", verb="write")
def ask_repeat(visit: Visit, number: int) -> Response:
    """What repeating it means, before anybody can."""
    return _repeating(visit, number)


@pages.post("/builds/<int:number>/repeat", "builds")
def repeat(visit: Visit, number: int) -> Response:
    """Arm a new build from its sealed files."""
    try:
        name, which = builds.place(visit.site, number)
        confirm(visit, machines.show(visit.site, name))
        builds.refuse_hasty(visit.site, visit.actor)
        armed = arming.repeat(visit.site, visit.actor, name, which)
    except ProvisionerError as error:
        return _repeating(visit, number, error.status, error)
    return to_armed(visit, armed)


def _act(visit: Visit, number: int, which: str) -> Response:
    act, said = _ACTS[which]
    try:
        build = act(visit.site, visit.actor, number)
    except ProvisionerError as error:
        return onebuild.page(visit, number, error.status, error)
    there = path("builds", number)
    return visit.redirect(onebuild.address(visit, number), said.format(**build), href=there, link="Its timeline")


def _repeating(visit: Visit, number: int, status: int = 200, error: ProvisionerError | None = None) -> Response:
    build = builds.show(visit.site, number)
    machine = machines.show(visit.site, builds.place(visit.site, number)[0])
    told = {"build": build, "machine": machine, "error": error, "wipes": machine["state"] in machinepage.WIPES}
    typed = {key: visit.field(key) for key in ("reason", "confirm")}
    return visit.render("build/repeat.html", status, typed=typed, **told)
