"""The overview: what is wrong first, then what runs, who arrived, and whether this installation is healthy."""

from typing import Any

from flask import Response

from provisioner.services import health, listing, overview
from provisioner.web.ui import csvout
from provisioner.web.ui.pages import Pages, Visit

pages = Pages()
_ARRIVALS = 5
_FLAGGED = 20
_FINDING = ("level", "what", "why", "remedy")


@pages.get("/", "machines")
def show(visit: Visit) -> Response:
    """All of it at once."""
    parts = _counts(visit) | _attention(visit) | _builds(visit) | _arrivals(visit) | _health(visit, wait=False)
    return visit.render("overview/show.html", **parts)


@pages.get("/overview/counts", "machines")
def counts(visit: Visit) -> Response:
    """How many machines are in each state; before the first build, what to do first."""
    return visit.render("overview/parts/counts.html", **_counts(visit))


@pages.get("/overview/attention", "builds")
def attention(visit: Visit) -> Response:
    """What failed, is stuck or is flagged."""
    return visit.render("overview/parts/attention.html", **_attention(visit))


@pages.get("/overview/builds", "builds")
def builds(visit: Visit) -> Response:
    """Builds under way."""
    return visit.render("overview/parts/builds.html", **_builds(visit))


@pages.get("/overview/arrivals", "discoveries")
def arrivals(visit: Visit) -> Response:
    """Who waits in quarantine."""
    return visit.render("overview/parts/arrivals.html", **_arrivals(visit))


@pages.get("/overview/health", "machines")
def findings(visit: Visit) -> Response:
    """The findings in short; they are looked for if nobody did within the last minute."""
    return visit.render("overview/parts/health.html", **_health(visit, wait=True), asked=True)


@pages.get("/health", "machines")
def check(visit: Visit) -> Response:
    """All findings, with why they matter and the remedy."""
    found = health.look(visit.site, peoples=visit.may("users", "read"), again=visit.arg("again") == "1")
    if visit.arg("format") == "csv":
        return csvout.answer("findings", _FINDING, map(vars, found.findings))
    flagged = overview.flagged(visit.site, _FLAGGED)
    total = overview.counts(visit.site)["flagged"]
    return visit.render("overview/health.html", health=found, flagged=flagged, total_flagged=total)


def _counts(visit: Visit) -> dict[str, Any]:
    return {"counts": overview.counts(visit.site), "steps": overview.first_steps(visit.site)}


def _attention(visit: Visit) -> dict[str, Any]:
    site = visit.site
    flagged = overview.flagged(site)
    return {"failed": overview.failed(site), "stuck": overview.stuck(site), "flagged": flagged}


def _builds(visit: Visit) -> dict[str, Any]:
    return {"under_way": overview.under_way(visit.site), "begun": not overview.first_steps(visit.site)}


def _arrivals(visit: Visit) -> dict[str, Any]:
    found = listing.page(visit.site, "discoveries", limit=_ARRIVALS, sort="-id")
    return {"arrivals": found["items"], "more_arrivals": found["next"] is not None}


def _health(visit: Visit, *, wait: bool) -> dict[str, Any]:
    peoples = visit.may("users", "read")
    return {"health": (health.glance if wait else health.known)(visit.site, peoples=peoples)}
