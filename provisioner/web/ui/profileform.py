"""A profile as a form, as YAML, and as the plain data that the services take."""

import re
from collections.abc import Mapping
from typing import Any

from provisioner.core.content import dump_profile, dump_yaml, parse_profile
from provisioner.errors import MalformedContent, ProvisionerError
from provisioner.web.ui import forms
from provisioner.web.ui.pages import Visit

FIELDS = (
    "parent",
    "description",
    "distro",
    "image",
    "template",
    "kernel_options",
    "parameters",
    "handoff",
    "local_boot",
    "tested_with",
)
TYPED = ("name", *FIELDS, "yaml", "as", "revision")
"""Everything that somebody may type, and what it is a change of."""
Typed = Mapping[str, str]


def typed(visit: Visit) -> dict[str, str]:
    """The form's fields as they were sent."""
    return {name: visit.field(name) for name in FIELDS}


def blank() -> dict[str, str]:
    """The fields of a profile that sets nothing."""
    return dict.fromkeys(FIELDS, "")


def of_profile(own: Mapping[str, Any]) -> dict[str, str]:
    """The fields of a profile's snapshot, or of its YAML read."""
    return {
        "parent": own["parent"] or "",
        "description": own["description"],
        "distro": _selector(own["distro"]),
        "image": _selector(own["image"]),
        "template": own["template"] or "",
        "kernel_options": "\n".join(own["kernel_options"]),
        "parameters": dump_yaml(own["parameters"]) if own["parameters"] else "",
        "handoff": dump_yaml(own["handoff"]) if own["handoff"] else "",
        "local_boot": own["local_boot"] or "",
        "tested_with": own.get("tested_with") or "",
    }


def tidied(fields: Typed) -> dict[str, str]:
    """What was typed, as it stands in a form that nobody typed in."""
    found = {name: text.strip() for name, text in fields.items()}
    found["kernel_options"] = "\n".join(found["kernel_options"].split())
    return found | {name: f"{found[name]}\n" for name in ("parameters", "handoff") if found[name]}


def of_yaml(name: str, text: str) -> dict[str, str]:
    """The fields of a profile's YAML. Raises as `core.content.parse_profile` does."""
    content = parse_profile(text, f"{name}.yaml")
    return of_profile({"parent": content.parent} | content.fields())


def as_yaml(name: str, fields: Typed) -> str:
    """The fields as YAML. Raises as `data` does."""
    return dump_profile({"name": name} | data(fields))


def data(fields: Typed) -> dict[str, Any]:
    """What the services take; empty fields are inherited. Raises MalformedContent, ``where`` being the field."""
    return {
        "parent": fields["parent"].strip() or None,
        "description": fields["description"].strip(),
        "distro": _selected(fields["distro"], "distro"),
        "image": _selected(fields["image"], "image"),
        "template": fields["template"].strip() or None,
        "kernel_options": fields["kernel_options"].split(),
        "parameters": forms.parameters(fields["parameters"]),
        "handoff": forms.parameters(fields["handoff"], "handoff") if fields["handoff"].strip() else None,
        "local_boot": fields["local_boot"].strip() or None,
        "tested_with": fields["tested_with"].strip(),
    }


def change(fields: Typed, own: Mapping[str, Any]) -> dict[str, Any]:
    """The same for a profile that there is: parameters that are gone are None, as `profiles.edit` takes them."""
    wanted = data(fields)
    gone = dict.fromkeys(own["parameters"].keys() - wanted["parameters"].keys())
    return wanted | {"parameters": wanted["parameters"] | gone}


def at_field(error: ProvisionerError, name: str) -> ProvisionerError:
    """The error, with the form's field as its place where it names one: ``profile web parameters`` is `parameters`."""
    found = re.fullmatch(rf"(?:profile {re.escape(name)} ?)?/?(\w+)\b.*", error.where)
    if found and found[1] in (*FIELDS, "name"):
        error.where = found[1]
    return error


def _selector(value: Mapping[str, str] | str | None) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    if set(value) == {"name"}:
        return value["name"]
    return ", ".join(f"{key}={each}" for key, each in value.items())


def _selected(text: str, where: str) -> dict[str, str] | str | None:
    text = text.strip()
    if not text or "=" not in text:
        return text or None
    parts = re.split(r"[,\s]+", text.strip(", "))
    if not all(re.fullmatch(r"\w+=\S+", part) for part in parts):
        hint = "write its name, or the newest that fits as os=rocky, version=9"
        raise MalformedContent(f"{text[:200]!r} names no {where}", where=where, hint=hint)
    return dict(part.partition("=")[::2] for part in parts)
