"""Adding machines by a form: one, or a row of them that counts upwards."""

import json
import shlex
from typing import Any
from urllib.parse import quote

from flask import Response

from provisioner.core.fields import MOST_INTERFACES
from provisioner.errors import ProvisionerError
from provisioner.services import interfaces, rows, selection
from provisioner.services.interfaces import InterfaceInput
from provisioner.web.ui import forms
from provisioner.web.ui.pages import Pages, Visit, path

pages = Pages()
_PLAIN = ("description", "serial", "uuid", "inventory")
_NIC = ("mac", "ip", "subnet", "nic")
_AS_SENT = {"nic": "name"}
Typed = dict[str, Any]


@pages.get("/machines:add", "machines", verb="write")
def ask(visit: Visit) -> Response:
    """The form; what the address says is filled in, so that a machine that was seen is one click away."""
    typed: Typed = {key: visit.arg(key) for key in ("name", "profile", "tags", "parameters", *_PLAIN)}
    typed["nics"] = [{"mac": visit.arg("mac"), "ip": visit.arg("ip"), "subnet": visit.arg("subnet"), "nic": ""}]
    return _form(visit, typed | {"protected": False, "ready": False, "reason": ""})


@pages.post("/machines:add", "machines")
def add(visit: Visit) -> Response:
    """Add what was typed; or one more line for an interface; or show what would be added."""
    typed = _typed(visit)
    if visit.field("do") == "interface":
        typed["nics"] = [*typed["nics"], dict.fromkeys(_NIC, "")][:MOST_INTERFACES]
        return _form(visit, typed)
    only_show = visit.field("do") == "show"
    try:
        inputs, fields = _read(typed)
        added = rows.add(visit.site, visit.actor, typed["name"], inputs, fields, dry_run=only_show)
    except ProvisionerError as error:
        error.where = _place(error.where)
        return _form(visit, typed, error=error)
    if only_show:
        return _form(visit, typed, would=added)
    first = added[0]["name"]
    if len(added) > 1:
        said = f"{len(added)} machines are added: {first} to {added[-1]['name']}."
        return visit.redirect("/machines?sort=-created_at", said)
    waits = " It waits switched on: start its build, and it begins within a minute."
    said = f"{first} is added.{waits if added[0]['state'] == 'discovered' else ''}"
    return visit.redirect(path("machines", first), said, href="/machines:add", link="Add another")


def _form(
    visit: Visit, typed: Typed, *, error: ProvisionerError | None = None, would: list[dict[str, Any]] | None = None
) -> Response:
    return visit.render(
        "machines/add.html",
        error.status if error else 200,
        typed=typed,
        error=error,
        would=would,
        fields=[*typed, *(f"{key}-{line}" for line in range(len(typed["nics"])) for key in _NIC)],
        same=_same(typed),
        **selection.choices(visit.site),
    )


def _typed(visit: Visit) -> Typed:
    typed: Typed = {key: visit.field(key).strip() for key in ("name", "profile", "tags", "reason", *_PLAIN)}
    typed |= {"parameters": visit.field("parameters"), "protected": bool(visit.field("protected"))}
    typed["ready"] = bool(visit.field("ready"))
    count = visit.field("count")
    lines = range(min(int(count) if count.isascii() and count.isdigit() and len(count) < 4 else 1, MOST_INTERFACES))
    typed["nics"] = [{key: visit.field(f"{key}-{line}").strip() for key in _NIC} for line in lines]
    return typed


def _read(typed: Typed) -> tuple[list[InterfaceInput], dict[str, Any]]:
    """The form as services take it. Raises InvalidInput."""
    given = [{_AS_SENT.get(key, key): text or None for key, text in nic.items()} for nic in typed["nics"]]
    fields: dict[str, Any] = {key: typed[key] for key in _PLAIN if typed[key]}
    fields["profile"] = typed["profile"] or None
    fields["tags"] = forms.words(typed["tags"])
    fields["parameters"] = forms.parameters(typed["parameters"])
    if typed["protected"]:
        fields["protected"] = True
    if typed["ready"]:
        fields["ready"] = True
    return interfaces.parse([each for each in given if any(each.values())]), fields


def _place(where: str) -> str:
    """The name of the form's field that an error's pointer means."""
    parts = where.strip("/").split("/")
    if parts[0] != "interfaces" or len(parts) < 3:
        return "mac-0" if parts[0] == "interfaces" else where
    return f"{'nic' if parts[2] == 'name' else parts[2]}-{parts[1]}"


def _same(typed: Typed) -> dict[str, str]:
    name = typed["name"] or "web01"
    nics = [each for each in typed["nics"] if any(each.values())] or [{"mac": "52:54:00:12:34:56", "ip": "10.0.2.11"}]
    cli, body = [f"provisioner machine add {shlex.quote(name)}"], []
    for nic in nics:
        sent = {_AS_SENT.get(key, key): value for key, value in nic.items() if value}
        cli.append("--interface " + shlex.quote(",".join(f"{key}={value}" for key, value in sent.items())))
        body.append(sent)
    cli += [f"--profile {shlex.quote(typed['profile'])}"] if typed["profile"] else []
    cli += [f"--tag {shlex.quote(tag)}" for tag in forms.words(typed["tags"])]
    plain: dict[str, Any] = {"name": name, "interfaces": body}
    plain |= {"profile": typed["profile"]} if typed["profile"] else {}
    row = ":row" if "[" in name else ""
    return {"cli": " ".join(cli), "api": call("POST", f"/machines{row}", plain)}


def quoted(text: str) -> str:
    """A text as a value in the query of an address."""
    return quote(text, safe="/")


def call(method: str, place: str, body: Any) -> str:
    """A call of the API as one types it."""
    head = f'curl -X {method} -H "Authorization: Bearer $PROVISIONER_TOKEN" -H "Content-Type: application/json"'
    return f'{head} --data {shlex.quote(json.dumps(body, ensure_ascii=False))} "$PROVISIONER_URL/api/v1{place}"'
