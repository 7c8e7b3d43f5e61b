"""Distros and images as people look at them: which profiles build each, and which name it."""

from collections.abc import Mapping
from typing import Any

from provisioner.core.firmware import FAMILIES
from provisioner.services import catalogue, families, profileviews
from provisioner.services.site import Site

_LISTS = {"distro": catalogue.distros, "image": catalogue.images}
_SHOWN = {"distro": catalogue.distro, "image": catalogue.image}


def listing(site: Site, kind: str, q: str = "") -> list[dict[str, Any]]:
    """Every ``distro`` or ``image``, with ``family``, ``tier`` (see `families.Tier`) and ``profiles`` that mean it now.

    With ``q`` those whose name, os or version has it. ``named_by`` are the profiles that say its name.
    """
    tiers, rows = families.tiers(), profileviews.tree(site)
    return [
        _around(thing, kind, tiers, rows)
        for thing in _LISTS[kind](site)
        if q.lower() in f"{thing['name']} {thing['os']} {thing['version']}".lower()
    ]


def shown(site: Site, kind: str, name: str) -> dict[str, Any]:
    """One of them, as in the list. Raises NotFound."""
    return _around(_SHOWN[kind](site, name), kind, families.tiers(), profileviews.tree(site))


def _around(
    thing: Mapping[str, Any], kind: str, tiers: Mapping[str, families.Tier], rows: list[dict[str, Any]]
) -> dict[str, Any]:
    users = [row for row in rows if row["kind"] == kind and row["means"] == thing["name"]]
    return {
        **thing,
        "kind_of": kind,
        "family": FAMILIES.get(thing["os"], "") if kind == "distro" else "",
        "tier": families.tier_of(thing["os"], tiers) if kind == "distro" else None,
        "profiles": [row["name"] for row in users],
        "named_by": [row["name"] for row in users if row["wanted"] == thing["name"]],
        "machines": sum(row["machines"] for row in users),
    }
