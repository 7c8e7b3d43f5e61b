"""The form of a machine: what is typed stays until it is saved, and each error stands beside its field."""

from collections.abc import Mapping
from typing import Any

from flask import Response

from provisioner.core.content import dump_yaml
from provisioner.core.localboot import WAYS
from provisioner.errors import ProvisionerError, Stale
from provisioner.services import listing, machines, radius
from provisioner.services.interfaces import InterfaceInput
from provisioner.services.site import Site
from provisioner.web.ui import conflicts, reviews
from provisioner.web.ui.forms import parameters as parsed
from provisioner.web.ui.pages import Pages, Visit, path

pages = Pages()
_TEXTS = ("name", "description", "profile", "local_boot", "serial", "uuid", "inventory")
_NIC = ("name", "mac", "ip", "subnet")
_SPARE = {"name": "", "mac": "", "ip": "", "subnet": ""}


@pages.get("/machines/<name>/edit", "machines", verb="write")
def ask(visit: Visit, name: str) -> Response:
    """The form, with the machine as it is."""
    machine = machines.show(visit.site, name)
    return _form(visit, machine, _typed_of(machine), machine["revision"])


@pages.post("/machines/<name>/edit", "machines")
def save(visit: Visit, name: str) -> Response:
    """Save it; or show what that would do to its build, if the form asks for that."""
    machine = machines.show(visit.site, name)
    typed, base = _typed(visit), visit.field("revision")
    try:
        fields, nics = _change(machine, typed)
        if visit.field("look"):
            told = _rehearsed(visit, machine["name"], fields, nics, base)
            return _form(visit, machine, typed, base, told=told, looked=True)
        after = machines.edit(visit.site, visit.actor, machine["name"], fields, nics, expect=base or None)
    except Stale as error:
        rows = conflicts.theirs(visit.site, "machine", machine["name"], base)
        was = conflicts.before(visit.site, "machine", machine["name"], base)
        merged = conflicts.merged(was, _tidied(typed), machine, _typed_of)
        return _form(visit, machine, merged.fields, machine["revision"], error.status, rows=rows, merged=merged)
    except ProvisionerError as error:
        return _form(visit, machine, typed, base, error.status, error=error)
    if after["revision"] == machine["revision"]:
        return visit.redirect(path("machines", after["name"]), f"Nothing of {after['name']} changed.")
    there, seen = path("machines", after["name"]), path("machines", after["name"], "history")
    return visit.redirect(there, f"{after['name']} is saved.", href=seen, link="What changed")


def _typed_of(machine: Mapping[str, Any]) -> dict[str, Any]:
    """What stands in the form before anybody types."""
    typed: dict[str, Any] = {key: machine[key] or "" for key in _TEXTS}
    typed["tags"] = " ".join(machine["tags"])
    typed["parameters"] = dump_yaml(machine["parameters"]) if machine["parameters"] else ""
    typed["kernel_options"] = "\n".join(machine["kernel_options"])
    typed["interfaces"] = [{key: each[key] or "" for key in _NIC} for each in machine["interfaces"]]
    return typed


def _typed(visit: Visit) -> dict[str, Any]:
    """What was sent; interfaces that were emptied are gone."""
    typed: dict[str, Any] = {key: visit.field(key).strip() for key in (*_TEXTS, "tags")}
    typed |= {key: visit.field(key) for key in ("parameters", "kernel_options", "reason")}
    columns = [[text.strip() for text in visit.fields(f"nic_{key}")] for key in _NIC]
    rows = [dict(zip(_NIC, row, strict=True)) for row in zip(*columns, strict=False)]
    typed["interfaces"] = [row for row in rows if row["mac"] or row["ip"]]
    return typed


def _tidied(typed: Mapping[str, Any]) -> dict[str, Any]:
    """What was sent, as it stands in a form that nobody typed in."""
    tidied = dict(typed) | {"tags": " ".join(typed["tags"].replace(",", " ").split())}
    tidied["kernel_options"] = "\n".join(typed["kernel_options"].split())
    return tidied


def _change(machine: Mapping[str, Any], typed: Mapping[str, Any]) -> tuple[dict[str, Any], list[InterfaceInput] | None]:
    """The fields that are others than the machine's, and its interfaces if they are. Raises what typing can break."""
    parameters = parsed(typed["parameters"])
    fields: dict[str, Any] = {key: typed[key] for key in _TEXTS if typed[key] != (machine[key] or "")}
    gone = dict.fromkeys(set(machine["parameters"]) - set(parameters))
    if parameters != machine["parameters"]:
        fields["parameters"] = parameters | gone
    tags, options = typed["tags"].replace(",", " ").split(), typed["kernel_options"].split()
    if sorted(tags) != sorted(machine["tags"]):
        fields["tags"] = tags
    if options != list(machine["kernel_options"]):
        fields["kernel_options"] = options
    if "local_boot" in fields:
        fields["local_boot"] = fields["local_boot"] or None
    nics = typed["interfaces"]
    if nics == _typed_of(machine)["interfaces"]:
        return fields, None
    return fields, [
        InterfaceInput(each["mac"] or None, each["ip"] or None, each["name"] or None, each["subnet"] or None)
        for each in nics
    ]


def _rehearsed(
    visit: Visit, name: str, fields: dict[str, Any], nics: list[InterfaceInput] | None, base: str
) -> dict[str, Any] | None:
    """What the change would do to the machine's next build."""
    watch = radius.Watch(visit.site)
    machines.edit(visit.site.rehearsing(watch), visit.actor, name, fields, nics, expect=base or None)
    return reviews.reached(visit, watch)


def _form(
    visit: Visit, machine: dict[str, Any], typed: Mapping[str, Any], revision: str, status: int = 200, **more: Any
) -> Response:
    told = {"error": None, "rows": None, "merged": None, "told": None, "looked": False} | more
    nics = [*typed["interfaces"], dict(_SPARE)]
    return visit.render(
        "machine/edit.html",
        status,
        machine=machine,
        typed=typed,
        nics=nics,
        revision=revision,
        profiles=_names(visit.site, "profiles"),
        subnets=_names(visit.site, "subnets"),
        ways=[(way.name, f"{way.name}: {way.uefi}") for way in WAYS.values()],
        **told,
    )


def _names(site: Site, noun: str) -> list[str]:
    return [str(each["name"]) for each in listing.every(site, noun)]
