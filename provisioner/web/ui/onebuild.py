"""The page of one build: its way so far, what it was sealed with, what differs from another one, its log."""

from typing import Any

from flask import Response

from provisioner.core import timeline
from provisioner.errors import InvalidInput, NotFound, ProvisionerError
from provisioner.services import arming, builds, listing, resealing
from provisioner.web.ui.machine import RUNNING, build_of, chosen_file
from provisioner.web.ui.pages import Pages, Visit, path

pages = Pages()
_MOST_EVENTS = 200
"""So many of a timeline are shown unless all are asked for: a machine in a loop has thousands."""


@pages.get("/builds/<int:number>", "builds")
def show(visit: Visit, number: int) -> Response:
    """Its timeline, live."""
    return page(visit, number)


def page(visit: Visit, number: int, status: int = 200, error: ProvisionerError | None = None) -> Response:
    """The page of this build; ``error`` is what stood against what somebody just did with it."""
    return visit.render("build/show.html", status, error=error, **now_of(visit, number))


@pages.get("/builds/<int:number>/now", "builds")
def now(visit: Visit, number: int) -> Response:
    """The part that lives. Nothing while all is as known."""
    told = now_of(visit, number)
    if visit.arg("known") == told["mark"]:
        return Response(status=204)
    return visit.render("build/parts/now.html", **told)


def now_of(visit: Visit, number: int) -> dict[str, Any]:
    """What the living part of the page shows."""
    build = builds.show(visit.site, number)
    told = {"build": build} | build_of(visit, build)
    drift = resealing.changed(visit.site, number)
    every = list(zip(build["events"], timeline.durations(build["events"]), strict=True))
    rows = every if visit.arg("all") else every[-_MOST_EVENTS:]
    last = build["events"][-1]["id"] if build["events"] else 0
    mark = f"{last}-{build['state']}-{len(drift['inputs'])}-{'all' if visit.arg('all') else ''}"
    more = {"rows": rows, "hidden": len(every) - len(rows), "drift": drift, "mark": mark, "all": visit.arg("all")}
    return told | more | _place(visit, build)


def _place(visit: Visit, build: dict[str, Any]) -> dict[str, bool]:
    """Whether it is its machine's newest build, and whether it may be offered to repeat it: nothing is under way."""
    try:
        newest = builds.show(visit.site, builds.place(visit.site, build["id"])[0])
    except NotFound:
        return {"newest": False, "repeatable": False}
    return {"newest": newest["id"] == build["id"], "repeatable": newest["state"] not in RUNNING}


@pages.get("/builds/<int:number>/files", "builds")
def files(visit: Visit, number: int) -> Response:
    """What it was sealed with: its files with tokens masked, and every input."""
    build = builds.show(visit.site, number)
    sealed = builds.sealed(visit.site, number)
    shown, kind = chosen_file(visit, sealed["files"], sealed["inputs"]["template"])
    told = {"files": sealed["files"], "inputs": sealed["inputs"], "shown": shown, "kind": kind}
    return visit.render("build/files.html", build=build, **told)


@pages.get("/builds/<int:number>/diff", "builds")
def diff(visit: Visit, number: int) -> Response:
    """What differs between its sealed files and those of another build of the machine, the one before unless named."""
    build = builds.show(visit.site, number)
    others = [each for each in _siblings(visit, build) if each["id"] != number]
    before = next((each for each in others if each["number"] < build["number"]), None)
    other = _number(visit.arg("with")) or (before["id"] if before else 0)
    text = arming.diff(visit.site, number, other) if other else None
    return visit.render("build/diff.html", build=build, others=others, other=other, text=text)


@pages.get("/builds/<int:number>/changes", "builds")
def changes(visit: Visit, number: int) -> Response:
    """Its sealed files beside those that it would be sealed with at this moment."""
    build = builds.show(visit.site, number)
    text, error = "", None
    try:
        text = resealing.difference(visit.site, number)
    except ProvisionerError as refused:
        error = refused
    template = "build/parts/changes.html" if visit.is_fragment else "build/changes.html"
    drift = resealing.changed(visit.site, number)
    return visit.render(template, build=build, text=text, error=error, drift=drift)


@pages.get("/builds/<int:number>/log", "builds")
def log(visit: Visit, number: int) -> Response:
    """Its events with the logs that the installer sent."""
    build = builds.show(visit.site, number)
    rows = [each for each in builds.log(visit.site, number) if each["log"] or each["kind"] in {"failed", "flag"}]
    return visit.render("build/log.html", build=build, rows=rows)


def _siblings(visit: Visit, build: dict[str, Any]) -> list[dict[str, Any]]:
    """The newest builds of the same machine, this one perhaps among them."""
    try:
        found: list[dict[str, Any]] = listing.page(visit.site, "builds", machine=build["machine"], limit=50)["items"]
    except NotFound:
        return []  # it has another name by now
    return found


def _number(text: str) -> int:
    if text and not (text.isascii() and text.isdigit() and len(text) < 19):
        raise InvalidInput(f"{text[:40]!r} is no build", where="with", hint="its id is a number")
    return int(text or 0)


def address(visit: Visit, number: int) -> str:
    """Where a form of a build's leads back to: its machine's page, if it was sent from there."""
    if visit.field("back") == "machine":
        try:
            return path("machines", builds.place(visit.site, number)[0])
        except NotFound:
            pass
    return path("builds", number)
