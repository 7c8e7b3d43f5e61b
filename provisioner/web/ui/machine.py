"""A machine's page and its tabs: what it is, what it does, what it waits for, and what it would be built from."""

import hashlib
import json
from typing import Any

from flask import Response

from provisioner.core import timeline
from provisioner.core.lifecycle import BuildState, MachineState, phase_of
from provisioner.core.names import template_kind
from provisioner.core.waiting import waiting
from provisioner.errors import NotFound, ProvisionerError
from provisioner.services import arming, builds, explain, listing, machines, overview, records, resealing
from provisioner.web.ui import csvout
from provisioner.web.ui.pages import Pages, Visit, path

pages = Pages()
RUNNING = (BuildState.ARMED, BuildState.BOOTING, BuildState.INSTALLING)
WIPES = (MachineState.BUILT, MachineState.CONFIGURED)
"""States in which a machine is somebody's server: whoever wipes it types its name."""
_SHOWN_EVENTS = 8
_TAIL_LINES = 12
_BUILD_COLUMNS = ("number", "state", "profile", "armed_at", "built_at", "ended_at", "seconds", "attempts", "outcome")


@pages.get("/machines/<name>", "machines")
def show(visit: Visit, name: str) -> Response:
    """What it is and does. A MAC address in any spelling leads to its machine."""
    machine = machines.show(visit.site, name)
    if machine["name"] != name:
        return visit.redirect(path("machines", machine["name"]))
    return page(visit, machine)


def page(visit: Visit, machine: dict[str, Any], status: int = 200, error: ProvisionerError | None = None) -> Response:
    """The page of this machine; ``error`` is what stood against what somebody just did with it."""
    values = _values(visit, machine["name"])
    settings = [each for each in values if each["what"] == "field"]
    own = sum(each["what"] == "parameter" for each in values)
    return visit.render(
        "machine/show.html",
        status,
        **now_of(visit, machine),
        **boot_of(visit, machine),
        settings=settings,
        parameters=own,
        facts=machine["facts"],
        error=error,
    )


@pages.get("/machines/<name>/now", "machines")
def now(visit: Visit, name: str) -> Response:
    """The part that lives: its state, its build, what changed since that was armed. Nothing while all is as known."""
    told = now_of(visit, machines.show(visit.site, name))
    if visit.arg("known") == told["mark"]:
        return Response(status=204)
    return visit.render("machine/parts/now.html", renewed=True, **told)


@pages.get("/machines/<name>/boot", "machines")
def boot(visit: Visit, name: str) -> Response:
    """What its next network boot does; ``arch`` is its firmware."""
    machine = machines.show(visit.site, name)
    told = boot_of(visit, machine)
    if visit.arg("known") == told["boot_mark"]:
        return Response(status=204)
    template = "machine/parts/boot.html" if visit.is_fragment else "machine/boot.html"
    return visit.render(template, machine=machine, **told)


@pages.get("/machines/<name>/parameters", "machines")
def parameters(visit: Visit, name: str) -> Response:
    """Each effective value, where it came from and what it overrides."""
    machine = machines.show(visit.site, name)
    values = _values(visit, machine["name"])
    if visit.arg("format") == "csv":
        rows = ("what", "name", "value", "source", "overrides")
        return csvout.answer(f"{machine['name']}-parameters", rows, values)
    return secrets_page(visit, machine, values=values)


def secrets_page(visit: Visit, machine: dict[str, Any], status: int = 200, **more: Any) -> Response:
    """The tab with its parameters and its secrets."""
    more = {"values": None, "error": None, "secret": ""} | more
    values = _values(visit, machine["name"]) if more["values"] is None else more["values"]
    return visit.render("machine/parameters.html", status, machine=machine, **(more | {"values": values}))


@pages.get("/machines/<name>/preview", "machines")
def preview(visit: Visit, name: str) -> Response:
    """The files that a build started at this moment would be sealed with, or why there can be none."""
    machine = machines.show(visit.site, name)
    files: dict[str, str] = {}
    error: ProvisionerError | None = None
    try:
        files = arming.preview(visit.site, machine["name"])
    except ProvisionerError as refused:
        error = refused
    kinds = {each["name"]: each["value"] for each in _values(visit, machine["name"]) if each["what"] == "field"}
    shown, kind = chosen_file(visit, files, str(kinds.get("template") or ""))
    return visit.render("machine/preview.html", machine=machine, files=files, shown=shown, kind=kind, error=error)


@pages.get("/machines/<name>/builds", "builds")
def its_builds(visit: Visit, name: str) -> Response:
    """Its builds, the newest first."""
    machine = machines.show(visit.site, name)
    asked: dict[str, Any] = {"machine": machine["name"]}
    try:
        if visit.arg("format") == "csv":
            rows = listing.every(visit.site, "builds", **asked)
            return csvout.answer(f"{machine['name']}-builds", _BUILD_COLUMNS, rows)
        found = listing.page(visit.site, "builds", cursor=visit.arg("cursor") or None, limit=50, both=True, **asked)
    except NotFound:
        found = {"items": [], "next": None, "previous": None}
    return visit.render("machine/builds.html", machine=machine, builds=found["items"], page=found)


@pages.get("/machines/<name>/history", "history")
def history(visit: Visit, name: str) -> Response:
    """Who changed what about it, and who built it."""
    machine = machines.show(visit.site, name)
    found = records.page(visit.site, object=machine["name"], cursor=visit.arg("cursor") or None, limit=30, both=True)
    rows = [each for each in found["items"] if each["kind"] in {"machine", "build"}]
    return visit.render("machine/history.html", machine=machine, rows=rows, page=found)


def latest(visit: Visit, name: str) -> dict[str, Any] | None:
    """Its newest build with its timeline, or None."""
    try:
        return builds.show(visit.site, name)
    except NotFound:
        return None


def now_of(visit: Visit, machine: dict[str, Any]) -> dict[str, Any]:
    """What the living part of the page shows."""
    build = latest(visit, machine["name"])
    told: dict[str, Any] = {"machine": machine, "build": build, "newest": True, "drift": None}
    if build is not None:
        told |= build_of(visit, build)
        told["drift"] = resealing.changed(visit.site, build["id"]) if told["under_way"] else None
        told["repeatable"] = not (told["under_way"] or machine["protected"] or machine["retired"])
    drift = told["drift"] or {"inputs": [], "error": None}
    known = build and [build["id"], build["events"], build["state"], told["pace"] and told["pace"]["stuck"]]
    return told | {"mark": _mark(machine, known, drift["inputs"], str(drift["error"] or ""))}


def build_of(visit: Visit, build: dict[str, Any]) -> dict[str, Any]:
    """A build with its stages, what it waits for, and the end of the log of what failed."""
    events = build["events"]
    now_in = phase_of(BuildState(build["state"]), was_built=build["built_at"] is not None)
    waits = waiting(now_in, [(each["kind"], each["message"]) for each in events], build["machine"])
    return {
        "under_way": build["state"] in RUNNING,
        "stages": timeline.stages(events, build["state"], was_built=build["built_at"] is not None),
        "recent": list(zip(events, timeline.durations(events), strict=True))[-_SHOWN_EVENTS:],
        "waits": waits.what,
        "cause": waits.where,
        "since": events[-1]["at"] if events else build["armed_at"],
        "halted": waits.person and build["state"] in RUNNING,
        "handoff_failed": build["state"] == BuildState.FAILED and build["built_at"] is not None,
        "pace": overview.build(visit.site, build["id"]) if build["ended_at"] is None else None,
        "tail": _tail(visit, build) if build["state"] == BuildState.FAILED else None,
    }


def boot_of(visit: Visit, machine: dict[str, Any]) -> dict[str, Any]:
    """Its next network boot, for the firmware that the address names, or that it said it has."""
    said = {"efi": "uefi", "pcbios": "bios"}.get(str(machine["facts"].get("platform", "")), "uefi")
    arch = visit.arg("arch") or said
    chain, refused = None, None
    try:
        chain = explain.boot(visit.site, machine["name"], arch)
    except ProvisionerError as error:
        refused = error
    return {"arch": arch, "chain": chain, "no_chain": refused, "boot_mark": _mark([chain, str(refused)])}


def _mark(*seen: Any) -> str:
    """A word that differs when what is shown does."""
    return hashlib.sha256(json.dumps(seen, default=str).encode()).hexdigest()[:16]


def chosen_file(visit: Visit, files: dict[str, str], template: str) -> tuple[str, str]:
    """Which of the files the address asks for, the answer file first, and how it is coloured."""
    first = next((each for each in ("answer", "user-data") if each in files), min(files, default=""))
    name = visit.arg("file") if visit.arg("file") in files else first
    kind = {"ipxe": "", "grub": "", "handoff": "script", "boot.cfg": "ini"}.get(name, "yaml")
    if name in {"answer", "user-data"} and "/" in template:
        kind = template_kind(template)
    return name, kind


def _values(visit: Visit, name: str) -> list[dict[str, Any]]:
    try:
        found: list[dict[str, Any]] = arming.explain(visit.site, name)["values"]
    except ProvisionerError:
        return []  # a reference that broke is told where the build is looked at
    return found


def _tail(visit: Visit, build: dict[str, Any]) -> str:
    """The end of the last log that it sent."""
    logs = [each["log"] for each in builds.log(visit.site, build["id"]) if each["log"]]
    return "\n".join(logs[-1].splitlines()[-_TAIL_LINES:]) if logs else ""
