"""Subnets and their addresses."""

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlencode

from flask import Response

from provisioner.core.choices import DHCP_MODES
from provisioner.core.dhcp import BIOS_LOADER, UEFI_LOADER
from provisioner.errors import ProvisionerError, Stale
from provisioner.services import addresses, addressmap, dhcp, listing, radius, subnets
from provisioner.services.site import Site
from provisioner.web.ui import conflicts, csvout, otherdhcp, reviews
from provisioner.web.ui.forms import parameters, parameters_text, replaced, words
from provisioner.web.ui.pages import Pages, Visit, path

pages = Pages()
_COLUMNS = ("name", "cidr", "gateway", "dns", "domain", "dhcp", "ranges", "boot_url", "media_url")
_USED = ("ip", "machine", "interface", "mac")
_MODES = {
    "off": "off: nobody of us answers",
    "authoritative": "authoritative: our DHCP server gives addresses and boot information",
    "proxy": "proxy: another server gives addresses, we add boot information",
    "external": "external: another server that you configure does both",
}


@pages.get("/networks", "subnets")
def index(visit: Visit) -> Response:
    """Subnets, with how full they are, a page at a time."""
    if visit.arg("format") == "csv":
        every = (each | {"ranges": _texts(each)} for each in listing.every(visit.site, "subnets"))
        return csvout.answer("subnets", _COLUMNS, every)
    q = visit.arg("q")
    page = listing.page(visit.site, "subnets", q=q, cursor=visit.arg("cursor") or None, both=True)
    rows = [
        each | {"ranges": _texts(each), "counts": addresses.overview(visit.site, each["name"], 1)["counts"]}
        for each in page["items"]
    ]
    address = f"/networks?{urlencode({'q': q})}" if q else "/networks"
    return visit.render("networks/list.html", rows=rows, q=q, page=page, address=address)


@pages.get("/networks:add", "subnets", verb="write")
def adding(visit: Visit) -> Response:
    """The form for a new subnet."""
    return visit.render("networks/form.html", subnet=None, typed={"dhcp": "off"}, modes=_modes(), error=None)


@pages.post("/networks:add", "subnets")
def add(visit: Visit) -> Response:
    """Add it."""
    typed = _typed(visit)
    try:
        made = subnets.add(visit.site, visit.actor, typed["name"], typed["cidr"], _fields(typed, {}))
    except ProvisionerError as error:
        return visit.render("networks/form.html", error.status, subnet=None, typed=typed, modes=_modes(), error=error)
    return visit.redirect(path("networks", made["name"]), f"Subnet {made['name']} is added.")


@pages.get("/networks/<name>", "subnets")
def show(visit: Visit, name: str) -> Response:
    """A subnet: what it is, what DHCP answers there, and its addresses."""
    found = subnets.show(visit.site, name)
    if visit.arg("format") == "csv":
        return csvout.answer(f"{name}-addresses", _USED, _every_used(visit.site, name))
    counts = addresses.overview(visit.site, name, 1)["counts"]
    shown = addressmap.window(visit.site, name, visit.arg("start"))
    told = _dhcp(visit.site, name)
    ours = told is None or told["mode"] in {"authoritative", "proxy"}
    return visit.render(
        "networks/show.html",
        subnet=found | {"ranges": _texts(found)},
        counts=counts,
        map=shown,
        dhcp=told,
        other=None if ours else otherdhcp.configuration(visit.site, name),
        loaders=(BIOS_LOADER, UEFI_LOADER),
        machines=listing.machines(visit.site, limit=1, subnet=name)["items"] if visit.may("machines", "read") else [],
    )


@pages.get("/networks/<name>/free", "subnets")
def free(visit: Visit, name: str) -> Response:
    """The next free address, kept for nobody."""
    template = "networks/parts/free.html" if visit.is_fragment else "networks/free.html"
    return visit.render(template, name=name, ip=addresses.free(visit.site, name)[0])


@pages.get("/networks/<name>/edit", "subnets", verb="write")
def editing(visit: Visit, name: str) -> Response:
    """The form to change a subnet."""
    found = subnets.show(visit.site, name)
    return visit.render("networks/form.html", subnet=found, typed=_shown(found), modes=_modes(), error=None)


@pages.post("/networks/<name>/edit", "subnets")
def edit(visit: Visit, name: str) -> Response:
    """Change it; with ``preview``, show first what that would do to machines."""
    typed = _typed(visit)
    found = subnets.show(visit.site, name)
    told: dict[str, Any] = {"subnet": found, "typed": typed, "modes": _modes(), "error": None}
    try:
        if visit.field("preview"):
            watch = radius.Watch(visit.site)
            rehearsed = visit.site.rehearsing(watch)
            subnets.edit(rehearsed, visit.actor, name, _fields(typed, found["parameters"]), expect=typed["revision"])
            return visit.render("networks/form.html", previewed=True, told=reviews.reached(visit, watch), **told)
        subnets.edit(visit.site, visit.actor, name, _fields(typed, found["parameters"]), expect=typed["revision"])
        if typed["name"] and typed["name"] != name:
            name = subnets.rename(visit.site, visit.actor, name, typed["name"])["name"]
    except Stale as error:
        rows = conflicts.theirs(visit.site, "subnet", name, typed["revision"])
        was = conflicts.before(visit.site, "subnet", name, typed["revision"])
        merged = conflicts.merged(was, typed, found, _in_form)
        told["typed"] = {**merged.fields, "revision": found["revision"]}
        return visit.render("networks/form.html", error.status, theirs=rows, merged=merged, **told)
    except ProvisionerError as error:
        return visit.render("networks/form.html", error.status, **(told | {"error": error}))
    return visit.redirect(path("networks", name), f"Subnet {name} is changed.", href=f"/history?object=subnet/{name}")


@pages.post("/networks/<name>/remove", "subnets")
def remove(visit: Visit, name: str) -> Response:
    """Remove a subnet in which no machine is."""
    subnets.remove(visit.site, visit.actor, name, expect=visit.field("revision") or None)
    return visit.redirect("/networks", f"Subnet {name} is removed.", href=f"/history?object=subnet/{name}")


def _every_used(site: Site, name: str) -> Iterator[dict[str, Any]]:
    """The addresses in use there, in their order."""
    cursor: str | None = None
    while True:
        got = addresses.overview(site, name, addresses.MOST_SHOWN, cursor)
        yield from got["used"]
        cursor = got["next"]
        if cursor is None:
            return


def _modes() -> list[tuple[str, str]]:
    return [(mode, _MODES[mode]) for mode in DHCP_MODES]


def _texts(subnet: Mapping[str, Any]) -> list[str]:
    return [f"{each['kind']}:{each['start']}-{each['end']}" for each in subnet["ranges"]]


def _typed(visit: Visit) -> dict[str, str]:
    names = (*_COLUMNS, "parameters", "revision", "reason")
    return {name: visit.field(name).strip() for name in names}


def _shown(subnet: Mapping[str, Any]) -> dict[str, str]:
    typed = {name: str(subnet[name] or "") for name in _COLUMNS if name not in {"dns", "ranges"}}
    typed |= {"dns": " ".join(subnet["dns"]), "ranges": "\n".join(_texts(subnet))}
    return typed | {"parameters": parameters_text(subnet["parameters"]), "revision": subnet["revision"]}


def _in_form(subnet: Mapping[str, Any]) -> dict[str, str]:
    """What a form that nobody typed in sends."""
    return {name: text.strip() for name, text in _shown({"revision": "", **subnet}).items() if name != "revision"}


def _fields(typed: Mapping[str, str], current: Mapping[str, Any]) -> dict[str, Any]:
    """What the service takes; ``current`` are the parameters that the form may take away. Raises MalformedContent."""
    fields: dict[str, Any] = {name: typed[name] or None for name in ("gateway", "domain")}
    fields |= {name: typed[name] for name in ("boot_url", "media_url")}
    fields |= {"dhcp": typed["dhcp"] or "off", "dns": words(typed["dns"]), "ranges": words(typed["ranges"])}
    return fields | {"parameters": replaced(current, parameters(typed["parameters"]))}


def _dhcp(site: Site, name: str) -> dict[str, Any] | None:
    """What machines there are told, and by whom; None for a network that DHCP for IPv4 knows nothing of."""
    for each in dhcp.plan(site).subnets:
        if each.name == name and ":" not in each.cidr:
            return {
                "mode": each.mode,
                "tftp": each.tftp_address,
                "script": each.script_url,
                "ranges": [f"{one.start} to {one.end}" for one in each.ranges],
                "in_force": dhcp.acknowledged(site),
                "proxy": dhcp.proxy_report(site) if each.mode == "proxy" else None,
            }
    return None
