"""Rack mode: whoever stands at a rack with a phone names the machines that wait, builds them, and sees them go."""

from collections.abc import Mapping
from typing import Any

from flask import Response

from provisioner.errors import InvalidInput, NotFound, ProvisionerError
from provisioner.services import arming, builds, listing, machines, overview, quarantine, rack
from provisioner.web.ui import conflicts, csvout, notices
from provisioner.web.ui.pages import Pages, Visit, path

pages = Pages()
_ADDED = 20
_PAGE = 50
_COLUMNS = (
    "mac",
    "vendor",
    "product",
    "serial",
    "uuid",
    "address",
    "switch",
    "switch_port",
    "first_seen",
    "last_seen",
    "times",
    "conflict",
)


@pages.get("/rack", "discoveries")
def show(visit: Visit) -> Response:
    """Who waits, in order of arrival, and what became of those that this user built."""
    if visit.arg("format") == "csv":
        found = listing.every(visit.site, "discoveries", sort="id", q=visit.arg("q")[:200])
        return csvout.answer("discoveries", _COLUMNS, (each | _switch(each) for each in found))
    template = "rack/parts/waiting.html" if visit.is_fragment else "rack/list.html"
    return visit.render(template, **_waiting(visit), **_mine(visit))


@pages.get("/rack/mine", "builds")
def mine(visit: Visit) -> Response:
    """The part of the list that shows this user's builds."""
    return visit.render("rack/parts/mine.html", **_mine(visit))


@pages.get("/rack/new/<mac>", "discoveries")
def ask(visit: Visit, mac: str) -> Response:
    """One that waits: what it is, and the form that names it."""
    try:
        found = rack.waiting(visit.site, mac)
    except NotFound:
        return _gone(visit, mac)
    return _form(visit, found, rack.suggestion(visit.site, visit.principal.who))


@pages.post("/rack/new/<mac>", "machines")
def take(visit: Visit, mac: str) -> Response:
    """Name it; ``do`` is build or add."""
    typed = {"name": visit.field("name").strip(), "address": visit.field("ip").strip()}
    typed["profile"] = visit.field("profile")
    building = visit.field("do") == "build"
    try:
        if building:
            visit.principal.require("builds", "write")
            _sure(visit, typed["profile"])
        made = rack.take(visit.site, visit.actor, mac, typed["name"], typed["address"], typed["profile"])
    except ProvisionerError as error:
        error.where = error.where.removeprefix("/interfaces/0")
        return _again(visit, mac, typed, error)
    return _build(visit, made["name"]) if building else _named(visit, made["name"], f"{made['name']} is added.")


@pages.post("/rack/new/<mac>/join", "machines")
def join(visit: Visit, mac: str) -> Response:
    """Its card belongs to a machine that is registered."""
    name = visit.field("machine")
    try:
        rack.join(visit.site, visit.actor, mac, name, visit.field("revision") or None)
    except ProvisionerError as error:
        return _again(visit, mac, rack.suggestion(visit.site, visit.principal.who), error)
    return _named(visit, name, f"The network card {mac} belongs to {name} from now on.")


@pages.post("/rack/new/<mac>/forget", "discoveries")
def forget(visit: Visit, mac: str) -> Response:
    """Out of quarantine; it comes back when it asks again."""
    quarantine.forget(visit.site, mac)
    return visit.redirect("/rack", f"{mac} is forgotten. It comes back if it asks again.")


@pages.get("/rack/machine/<name>", "machines")
def machine(visit: Visit, name: str) -> Response:
    """One that has a name: its build as it goes on, or the form that starts one."""
    return _machine(visit, name)


@pages.get("/rack/machine/<name>/now", "builds")
def now(visit: Visit, name: str) -> Response:
    """The part of it that lives."""
    return visit.render("rack/parts/now.html", machine=machines.show(visit.site, name), build=_latest(visit, name))


@pages.post("/rack/machine/<name>", "builds")
def build(visit: Visit, name: str) -> Response:
    """Give it the name and the profile that were chosen, and build it."""
    wanted = {"profile": visit.field("profile"), "name": visit.field("name").strip() or name}
    try:
        found = machines.show(visit.site, name)
        _sure(visit, wanted["profile"])
        change = {key: value for key, value in wanted.items() if value != found[key]}
        if not change:
            return _start(visit, name)
        visit.principal.require("machines", "write")
        made = machines.edit(visit.site, visit.actor, name, change, expect=visit.field("revision") or None)
    except ProvisionerError as error:
        return _machine(visit, name, error, wanted)
    return _build(visit, made["name"])


def _sure(visit: Visit, profile: str) -> None:
    """Raise unless a profile was chosen and the wiping of the disks was agreed to."""
    if not profile:
        raise InvalidInput("choose what it becomes", where="profile", hint="or add it without building it")
    if visit.field("sure") != "on":
        raise InvalidInput("the build wipes its disks", where="sure", hint="tick this if that is meant")


def _build(visit: Visit, name: str) -> Response:
    """Build the machine that was named a moment ago; it stays so whatever becomes of that."""
    try:
        return _start(visit, name)
    except ProvisionerError as error:
        said = f"{name} is named, and its build could not start: {error.message}. {error.hint}"
        notices.say(said, level="warning")
        return visit.redirect(path("rack", "machine", name))


def _start(visit: Visit, name: str) -> Response:
    builds.refuse_hasty(visit.site, visit.actor)
    started = arming.start(visit.site, visit.actor, name)
    for warning in started["warnings"]:
        notices.say(warning, level="warning")
    return _named(visit, name, f"Build {started['number']} of {name} is armed.")


def _named(visit: Visit, name: str, said: str) -> Response:
    return visit.redirect(path("rack", "machine", name), said, href=path("machines", name), link=f"All of {name}")


def _switch(found: Mapping[str, Any]) -> dict[str, Any]:
    """Where it is plugged in, if it said so."""
    return {key: found["facts"].get(key) for key in ("switch", "switch_port")}


def _waiting(visit: Visit) -> dict[str, Any]:
    order = "oldest" if visit.arg("order") == "oldest" else "newest"
    q, cursor = visit.arg("q")[:200], visit.arg("cursor")
    sort = "id" if order == "oldest" else "-id"
    found = listing.page(visit.site, "discoveries", limit=_PAGE, cursor=cursor or None, sort=sort, both=True, q=q)
    added = (
        {"items": [], "next": None}
        if found["previous"]
        else listing.machines(visit.site, limit=_ADDED, state="discovered", q=q)
    )
    return {"waiting": found, "added": added, "order": order, "q": q, "cursor": cursor} | {
        "discovery": visit.site.settings.discovery
    }


def _mine(visit: Visit) -> dict[str, Any]:
    return {"mine": rack.mine(visit.site, visit.principal.who)}


def _again(visit: Visit, mac: str, typed: dict[str, Any], error: ProvisionerError) -> Response:
    """The form with what was typed; somebody may have taken the machine meanwhile."""
    try:
        found = rack.waiting(visit.site, mac)
    except NotFound:
        return _gone(visit, mac)
    return _form(visit, found, typed, error)


def _gone(visit: Visit, mac: str) -> Response:
    """To the machine that it is by now. Raises NotFound."""
    name = rack.owner(visit.site, mac)
    if name is None:
        raise NotFound(f"{mac} does not wait (any more)", hint="it comes back when it asks again; see Rack mode")
    return visit.redirect(path("rack", "machine", name), f"{mac} does not wait any more: it is {name} by now.")


def _form(
    visit: Visit, found: dict[str, Any], typed: dict[str, Any], error: ProvisionerError | None = None
) -> Response:
    status = error.status if error else 200
    known = rack.profiles(visit.site)
    return visit.render("rack/new.html", status, found=found, typed=typed, profiles=known, error=error)


def _machine(
    visit: Visit, name: str, error: ProvisionerError | None = None, typed: dict[str, str] | None = None
) -> Response:
    found = machines.show(visit.site, name)
    if typed is None:
        unnamed = rack.is_unnamed(found)
        next_name = rack.suggestion(visit.site, visit.principal.who)["name"] if unnamed else ""
        typed = {"profile": found["profile"] or "", "name": next_name or found["name"]}
    return visit.render(
        "rack/machine.html",
        error.status if error else 200,
        machine=found,
        build=_latest(visit, found["name"]),
        profiles=rack.profiles(visit.site),
        typed=typed,
        unnamed=rack.is_unnamed(found),
        error=error,
        theirs=conflicts.theirs(visit.site, "machine", found["name"], visit.field("revision")) if error else [],
    )


def _latest(visit: Visit, name: str) -> dict[str, Any] | None:
    try:
        return overview.build(visit.site, name)
    except NotFound:
        return None
