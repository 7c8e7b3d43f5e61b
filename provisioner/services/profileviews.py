"""Profiles as people look at them: in their tree, with what each builds in the end and where that came from."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from provisioner.core.choices import ARCHES
from provisioner.core.parameters import Effective, Resolved, resolve
from provisioner.core.versions import version_key
from provisioner.errors import BuildNotPossible
from provisioner.services import families, installables, objects
from provisioner.services.contentchanges import source_of
from provisioner.services.resolve import BuildRequest, Parts, levels_of
from provisioner.services.site import Site
from provisioner.store.engine import read
from provisioner.store.models import Distro, Image, Machine, Profile, Template
from provisioner.store.snapshots import snapshot

_NOBODY: Mapping[str, Any] = {"name": "", "interfaces": [], "parameters": {}, "kernel_options": [], "local_boot": None}
_OWN_LEVELS = 2
"""The last levels of a machine, which nobody has: the machine itself and the build request."""


@dataclass(frozen=True)
class _All:
    """Every profile with what it may refer to, as plain data."""

    profiles: Mapping[str, Mapping[str, Any]]
    revisions: Mapping[str, str]
    things: Mapping[str, Sequence[Mapping[str, Any]]]
    """Distros and images."""
    machines: Mapping[str, int]
    """How many machines have each profile."""

    def lineage(self, name: str) -> list[str]:
        """The profile's ancestors from the root down, the profile itself last."""
        line: list[str] = []
        current: str | None = name
        while current is not None and current not in line:
            line.insert(0, current)
            current = self.profiles[current]["parent"]
        return line

    @cached_property
    def _below(self) -> Mapping[str | None, Sequence[str]]:
        found: dict[str | None, list[str]] = {}
        for name in sorted(self.profiles, key=version_key):
            found.setdefault(self.profiles[name]["parent"], []).append(name)
        return found

    def children(self, name: str | None) -> Sequence[str]:
        """Those right below it, or the roots, in the order of their names; numbers in them count as numbers."""
        return self._below.get(name, ())

    def below(self, name: str) -> list[str]:
        """All that inherit from it."""
        return [name_ for each in self.children(name) for name_ in (each, *self.below(each))]

    def resolved(self, name: str) -> Resolved:
        """What the profile alone gives."""
        line = [self.profiles[each] for each in self.lineage(name)]
        parts = Parts(machine=_NOBODY, lineage=line, subnets={}, sources={}, versions={}, pick=_never)
        return resolve(levels_of(parts, BuildRequest())[:-_OWN_LEVELS])


def _never(kind: str, selector: Mapping[str, str], where: str) -> Any:
    raise NotImplementedError


def _load(session: Session) -> _All:
    profiles = list(session.scalars(select(Profile)))  # all of them first: parents are then found without a query
    counted = select(Profile.name, func.count()).join(Machine, Machine.profile_id == Profile.id).group_by(Profile.name)
    return _All(
        profiles={each.name: snapshot(each) for each in profiles},
        revisions={each.name: objects.revision(each) for each in profiles},
        things={
            "distro": [snapshot(each) for each in session.scalars(select(Distro))],
            "image": [snapshot(each) for each in session.scalars(select(Image))],
        },
        machines={each[0]: each[1] for each in session.execute(counted)},
    )


def tree(site: Site, q: str = "") -> list[dict[str, Any]]:
    """Every profile below its parent: as `shown` gives it, without its values; ``depth`` counts from 0.

    With ``q`` those whose name, description, os or template has it, and their ancestors, which are ``aside`` then.
    """
    with read(site.engine) as session:
        known = _load(session)
    rows: list[dict[str, Any]] = []
    tiers = families.tiers()

    def walk(name: str | None, depth: int) -> None:
        for child in known.children(name):
            rows.append(_row(known, child, tiers) | {"depth": depth, "aside": False})
            walk(child, depth + 1)

    walk(None, 0)
    return _found(known, rows, q.lower()) if q else rows


def _found(known: _All, rows: Sequence[dict[str, Any]], q: str) -> list[dict[str, Any]]:
    def says(row: Mapping[str, Any]) -> str:
        return " ".join(str(row[key] or "") for key in ("name", "description", "template", "wanted", "means")).lower()

    hits = {row["name"] for row in rows if q in says(row)}
    kept = {above for name in hits for above in known.lineage(name)}
    return [row | {"aside": row["name"] not in hits} for row in rows if row["name"] in kept]


def shown(site: Site, name: str) -> dict[str, Any]:
    """One profile with everything around it. Raises NotFound.

    Besides its own fields: ``lineage``, ``children``, ``below`` (names); ``machines`` and ``machines_below`` (counts);
    ``wanted`` (its distro or image in words), ``means`` (the registered one that this is now) or ``why_none``;
    ``template`` in the end, with ``own`` for what it sets itself; ``tier`` (see `families.Tier`); ``values`` with
    ``what``, ``name``, ``value``, ``source``, ``overrides``; ``yaml``, byte for byte as it was loaded.
    """
    with read(site.engine) as session:
        profile = objects.get(session, Profile, name)
        text = source_of(profile)
        known = _load(session)
    own = known.profiles[name]
    row = _row(known, name, families.tiers())
    more = {
        "lineage": known.lineage(name),
        "children": known.children(name),
        "below": known.below(name),
        "values": _values(known.resolved(name)),
        "yaml": text,
    }
    return row | {"own": own} | more


def inherited(site: Site, parent: str) -> list[dict[str, Any]]:
    """The values that a profile below this one starts from; none of a parent that there is not."""
    with read(site.engine) as session:
        known = _load(session)
    return _values(known.resolved(parent)) if parent in known.profiles else []


def choices(site: Site) -> dict[str, list[str]]:
    """The names that a profile may refer to: ``profiles``, ``templates`` (no snippets), ``distros``, ``images``."""
    with read(site.engine) as session:
        models = {"profiles": Profile, "templates": Template, "distros": Distro, "images": Image}
        found = {
            key: sorted(session.scalars(select(model.name)), key=version_key)  # type: ignore[attr-defined]
            for key, model in models.items()
        }
    found["templates"] = [each for each in found["templates"] if not each.startswith("snippets/")]
    return found


def _row(known: _All, name: str, tiers: Mapping[str, families.Tier]) -> dict[str, Any]:
    own, resolved = known.profiles[name], known.resolved(name)
    kind = "image" if resolved.field("image") is not None else "distro"
    selector = resolved.field(kind)
    means, why_none = _picked(known.things[kind], kind, selector)
    os = means["os"] if means else (selector or {}).get("os")
    tier = families.tier_of(os, tiers) if kind == "distro" else None
    template = resolved.fields.get("template")
    return {
        "name": name,
        "parent": own["parent"],
        "description": own["description"],
        "kind": kind if selector else "",
        "wanted": in_words(selector),
        "means": means["name"] if means else None,
        "why_none": why_none,
        "os": os or "",
        "template": template.value if template else None,
        "template_from": template.source if template else "",
        "tier": asdict(tier) if tier else None,
        "tested_with": own["tested_with"],
        "machines": known.machines.get(name, 0),
        "machines_below": sum(known.machines.get(each, 0) for each in known.below(name)),
        "revision": known.revisions[name],
    }


def in_words(selector: Mapping[str, str] | None) -> str:
    """A selector as one says it: ``rocky 9``, or the name. The arch that all have goes without saying."""
    return " ".join(str(each) for each in (selector or {}).values() if each != ARCHES[0])


def _picked(
    things: Sequence[Mapping[str, Any]], kind: str, selector: Mapping[str, str] | None
) -> tuple[Mapping[str, Any] | None, str]:
    """The distro or image that a selector means, or why there is none."""
    if not selector:
        return None, ""
    if "name" in selector:
        named = next((each for each in things if each["name"] == selector["name"]), None)
        return named, "" if named else f"there is no {kind} {selector['name']}"
    try:
        return installables.newest_fit(kind, things, selector, ""), ""
    except BuildNotPossible as error:
        return None, error.message


def _values(resolved: Resolved) -> list[dict[str, Any]]:
    rows: list[tuple[str, str, Effective]] = [
        ("parameter", key, each) for key, each in sorted(resolved.parameters.items())
    ]
    rows += [("kernel option", "", each) for each in resolved.kernel_options]
    rows += [("removed kernel option", "", Effective(each.value, each.by, (each.source,))) for each in resolved.removed]
    rows += [("field", key, each) for key, each in sorted(resolved.fields.items()) if each.value is not None]
    return [
        {"what": what, "name": key, "value": each.value, "source": each.source, "overrides": list(each.overrides)}
        for what, key, each in rows
    ]
