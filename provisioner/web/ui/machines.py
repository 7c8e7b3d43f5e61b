"""The list of machines: filters, columns, pages, and what is chosen in it."""

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from flask import Response, request

from provisioner.core import importing
from provisioner.core.lifecycle import MachineState
from provisioner.errors import InvalidInput, ProvisionerError
from provisioner.services import listing, plans, selection
from provisioner.web.ui import csvout
from provisioner.web.ui.pages import Pages, Visit

pages = Pages()
FILTERS = ("q", "state", "profile", "subnet", "tag", "protected", "flagged")
COLUMNS = {
    "state": "State",
    "profile": "Profile",
    "ips": "IP addresses",
    "macs": "MAC addresses",
    "subnets": "Subnets",
    "tags": "Tags",
    "serial": "Serial number",
    "uuid": "UUID",
    "model": "Model",
    "inventory": "Inventory",
    "description": "Description",
    "created_at": "Added",
    "updated_at": "Changed",
}
SORTABLE = ("name", "state", "profile", "created_at", "updated_at")
LIMITS = (25, 50, 100, 200)
_USUAL = ("state", "profile", "ips", "macs", "tags")
_USUAL_LIMIT = 50
_COOKIE = "machine-columns"
_YEAR = 365 * 24 * 3600
_TRUTH = {"true": True, "false": False}
_MOST_LIVE = 500


@dataclass(frozen=True)
class Asked:
    """A list as its address asks for it; the address is all there is to share."""

    filters: Mapping[str, str]
    sort: str = "name"
    columns: tuple[str, ...] = _USUAL
    limit: int = _USUAL_LIMIT

    def address(self, **changes: Any) -> str:
        """The address of its first page; a filter of None is left out."""
        filters = {**self.filters, **{key: value for key, value in changes.items() if key in FILTERS}}
        given = [(key, filters[key]) for key in FILTERS if filters.get(key)]
        sort = changes.get("sort", self.sort)
        given += [("sort", sort)] if sort != "name" else []
        given += [("limit", str(self.limit))] if self.limit != _USUAL_LIMIT else []
        given += [("show", column) for column in self.columns] if self.columns != _USUAL else []
        return "/machines" + (f"?{urlencode(given)}" if given else "")

    def turned(self, column: str) -> str:
        """The address sorted by this column, backwards if it is already."""
        return self.address(sort=f"-{column}" if self.sort == column else column)

    @property
    def conditions(self) -> dict[str, Any]:
        """The filters as services take them. Raises InvalidInput."""
        return conditions(self.filters)


def conditions(filters: Mapping[str, str]) -> dict[str, Any]:
    """Filters from an address as `listing.machines` takes them. Raises InvalidInput."""
    found: dict[str, Any] = {key: value for key, value in filters.items() if value}
    for key in ("protected", "flagged"):
        if key in found:
            if found[key] not in _TRUTH:
                raise InvalidInput(f"{found[key][:40]!r} is neither true nor false", where=key, hint="choose again")
            found[key] = _TRUTH[found[key]]
    return found


@pages.get("/machines", "machines")
def show(visit: Visit) -> Response:
    """A page of machines, or all that match as CSV."""
    asked = _asked(visit)
    if visit.arg("format") == "csv":
        return _csv(visit, asked)
    got: dict[str, Any] = {"items": [], "next": None, "previous": None}
    total, error = 0, None
    try:
        cursor = visit.arg("cursor") or None
        way: dict[str, Any] = {"limit": asked.limit, "cursor": cursor, "sort": asked.sort, "both": True}
        got = listing.machines(visit.site, **way, **asked.conditions)
        # All of them are counted in no time; of those that a filter chooses, so many as can be changed at once.
        most = selection.MOST if asked.conditions else None
        total = listing.count(visit.site, most, **asked.conditions)
    except InvalidInput as found:
        error = found
    response = visit.render(
        "machines/list.html",
        400 if error else 200,
        asked=asked,
        rows=[_row(each) for each in got["items"]],
        page=got,
        total=total,
        most=selection.MOST,
        beyond=bool(asked.filters) and total > selection.MOST,
        error=error,
        waiting=_waiting(visit, asked) if not total and not error else [],
        **_choices(visit),
        same=_same(asked),
    )
    if request.args.getlist("show"):
        columns = ".".join(asked.columns)
        response.set_cookie(_COOKIE, columns, max_age=_YEAR, httponly=True, samesite="Lax", secure=request.is_secure)
    return response


@pages.get("/machines:states", "machines")
def states(visit: Visit) -> Response:
    """What changed by itself in the rows of a page that is open; their order stays as it is under the hand."""
    ids = [int(each) for each in visit.arg("ids").split(",") if each.isascii() and each.isdigit() and len(each) < 19]
    return visit.render("machines/parts/states.html", rows=selection.states(visit.site, ids[:_MOST_LIVE]))


@pages.get("/machines:tags", "machines")
def tags(visit: Visit) -> Response:
    """Tags in use that begin as somebody typed, for a list of suggestions."""
    typed = (visit.arg("tag") or visit.arg("tags")).rpartition(" ")
    return visit.render("machines/parts/tags.html", before=typed[0], tags=selection.tags(visit.site, typed[2], 50))


@pages.get("/machines:export", "machines")
def export(visit: Visit) -> Response:
    """Every machine as a file that the import takes again."""
    form = visit.arg("format", "csv")
    if form not in importing.FORMATS:
        raise InvalidInput(f"{form[:40]!r} is no format", where="format", hint=f"one of {', '.join(importing.FORMATS)}")
    text = importing.write(plans.export(visit.site), form)
    headers = {"Content-Disposition": f'attachment; filename="machines.{form}"'}
    return Response(text, content_type="text/plain; charset=utf-8", headers=headers)


def filters_of(value: Callable[[str], str]) -> dict[str, str]:
    """The filters that an address or a form holds."""
    return {key: text for key in FILTERS if (text := value(key).strip())}


def _asked(visit: Visit) -> Asked:
    shown = request.args.getlist("show") or request.cookies.get(_COOKIE, "").split(".")
    columns = tuple(column for column in COLUMNS if column in shown)
    limit = visit.arg("limit")
    return Asked(
        filters_of(visit.arg),
        visit.arg("sort") or "name",
        columns or _USUAL,
        int(limit) if limit in map(str, LIMITS) else _USUAL_LIMIT,
    )


def _row(machine: Mapping[str, Any]) -> dict[str, Any]:
    """A machine with what the columns show of it."""
    nics, facts = machine["interfaces"], machine["facts"]
    return dict(machine) | {
        "id": machine["revision"].partition(".")[0],
        "ips": [nic["ip"] for nic in nics if nic["ip"]],
        "macs": [nic["mac"] for nic in nics if nic["mac"]],
        "subnets": list(dict.fromkeys(nic["subnet"] for nic in nics if nic["subnet"])),
        "model": " ".join(str(facts[key]) for key in ("manufacturer", "product") if facts.get(key)),
    }


def _csv(visit: Visit, asked: Asked) -> Response:
    # What is wrong with the address is said before the file begins.
    listing.machines(visit.site, limit=1, sort=asked.sort, **asked.conditions)
    found = listing.every(visit.site, sort=asked.sort, **asked.conditions)
    return csvout.answer("machines", ("name", *asked.columns, "protected", "flag"), map(_row, found))


def _waiting(visit: Visit, asked: Asked) -> list[dict[str, Any]]:
    """Machines in quarantine that a search without a hit may have meant."""
    if not asked.filters.get("q") or not visit.may("discoveries", "read"):
        return []
    try:
        found: list[dict[str, Any]] = listing.page(visit.site, "discoveries", limit=5, q=asked.filters["q"])["items"]
    except ProvisionerError:
        return []
    return found


def _choices(visit: Visit) -> dict[str, Any]:
    return {
        "columns": COLUMNS,
        "sortable": SORTABLE,
        "limits": LIMITS,
        "states": [str(each) for each in MachineState],
        "filter_names": FILTERS,
        **selection.choices(visit.site),
    }


def _same(asked: Asked) -> dict[str, str]:
    """The command and the call that list the same."""
    options = {"q": "search"}
    cli = ["provisioner machine list"]
    for key, value in asked.filters.items():
        if key in ("protected", "flagged"):
            cli.append(f"--{key}" if value == "true" else f"--no-{key}")
        else:
            cli.append(f"--{options.get(key, key)} {shlex.quote(value)}")
    cli += [f"--sort {shlex.quote(asked.sort)}"] if asked.sort != "name" else []
    query = replace(asked, columns=_USUAL, limit=_USUAL_LIMIT).address().removeprefix("/machines")
    url = f'"$PROVISIONER_URL/api/v1/machines{query}"'
    return {"cli": " ".join(cli), "api": f'curl -H "Authorization: Bearer $PROVISIONER_TOKEN" {url}'}
