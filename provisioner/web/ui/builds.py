"""The list of builds."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

from flask import Response

from provisioner.core.lifecycle import BuildState
from provisioner.errors import NotFound
from provisioner.services import listing, overview
from provisioner.web.ui import csvout
from provisioner.web.ui.pages import Pages, Visit

pages = Pages()
_PAGE = 50
COLUMNS = (
    "machine",
    "number",
    "state",
    "profile",
    "attempts",
    "armed_at",
    "built_at",
    "ended_at",
    "seconds",
    "waits_for",
    "outcome",
    "flag",
    "id",
)


@pages.get("/builds", "builds")
def show(visit: Visit) -> Response:
    """All builds, the newest first; filters by state, machine and a part of the name are in the address."""
    filters = {name: visit.arg(name)[:253] for name in ("state", "machine", "q")}
    if visit.arg("format") == "csv":
        return csvout.answer("builds", COLUMNS, _every(visit, filters))
    template = "builds/parts/rows.html" if visit.is_fragment else "builds/list.html"
    return visit.render(template, **_page(visit, filters))


def _page(visit: Visit, filters: dict[str, str]) -> dict[str, Any]:
    cursor = visit.arg("cursor")
    try:
        found = listing.page(visit.site, "builds", limit=_PAGE, cursor=cursor or None, both=True, **filters)
    except NotFound:
        found = {"items": [], "next": None, "previous": None}  # a machine that was never built, or that there is not
    shown = {each["id"]: each for each in overview.told(visit.site, [each["id"] for each in found["items"]])}
    given = {name: value for name, value in filters.items() if value}
    return {
        "found": [shown.get(each["id"], each) for each in found["items"]],
        "page": found,
        "cursor": cursor,
        "counts": overview.counts(visit.site)["builds"],
        "filters": filters,
        "given": given,
        "address": _address(given),
        "tabs": {state: _address(given | {"state": state}) for state in ("", *BuildState)},
    }


def _address(given: dict[str, str]) -> str:
    kept = {name: value for name, value in given.items() if value}
    return f"/builds?{urlencode(kept)}" if kept else "/builds"


def _every(visit: Visit, filters: dict[str, str]) -> Iterator[dict[str, Any]]:
    try:
        yield from listing.every(visit.site, "builds", **filters)
    except NotFound:
        return
