"""The history of everything: who changed what, when, from where, and why."""

from typing import Any
from urllib.parse import urlencode

from flask import Response

from provisioner.core.policy import READ
from provisioner.services import listing, records
from provisioner.web.ui import csvout
from provisioner.web.ui.pages import Pages, Visit

pages = Pages()
_FILTERS = ("object", "kind", "actor", "since", "until", "q")
_COLUMNS = ("id", "at", "actor", "origin", "kind", "name", "action", "changed", "reason", "request")
_PAGES = {
    "machine": "/machines/",
    "profile": "/profiles/",
    "template": "/templates/",
    "subnet": "/networks/",
    "distro": "/distros/",
}


@pages.get("/history", "history")
def index(visit: Visit) -> Response:
    """Changes, the newest first, by filters that stand in the address."""
    filters: dict[str, Any] = {name: visit.arg(name) for name in _FILTERS if visit.arg(name)}
    if visit.arg("format") == "csv":
        rows = (each | {"changed": [one["pointer"] for one in each["changes"]]} for each in _every(visit, filters))
        return csvout.answer("history", _COLUMNS, rows)
    page = records.page(visit.site, cursor=visit.arg("cursor") or None, both=True, **filters)
    return visit.render(
        "records/list.html",
        rows=page["items"],
        page=page,
        filters=filters,
        address=f"/history?{urlencode(filters)}",
        kinds=records.KINDS,
        places=_PAGES,
    )


@pages.get("/history/verify", "history")
def verify(visit: Visit) -> Response:
    """Whether the chain of hashes holds."""
    return visit.render("records/verify.html", problems=records.verify(visit.site))


@pages.get("/history/<int:number>", "history")
def show(visit: Visit, number: int) -> Response:
    """One change, field by field."""
    return visit.render("records/show.html", row=records.show(visit.site, number), places=_PAGES)


def _every(visit: Visit, filters: dict[str, Any]) -> Any:
    visit.principal.require("history", READ)
    return listing.every(visit.site, "history", **filters)
