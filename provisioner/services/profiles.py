"""Profiles."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from provisioner import handoff
from provisioner.core.content import ProfileContent, check_profile, parse_profile, place
from provisioner.core.firmware import family_of
from provisioner.core.localboot import check_way
from provisioner.core.names import FEW, few, object_name
from provisioner.core.parameters import ancestry
from provisioner.errors import MalformedContent, ProvisionerError, StillInUse
from provisioner.services import objects, validating
from provisioner.services.site import Actor, Site
from provisioner.services.subnets import merged_parameters
from provisioner.store.engine import is_dry_run, read, write
from provisioner.store.models import Machine, Profile, Template
from provisioner.store.snapshots import snapshot


def add(site: Site, actor: Actor, data: Mapping[str, Any]) -> dict[str, Any]:
    """Add a profile from plain data in the shape of its YAML. Raises a ContentError if what it renders is wrong."""
    content = check_profile(dict(data), f"profile {data.get('name', '')}")

    def wanted(session: Session) -> ProfileContent:
        objects.refuse_taken(session, Profile, content.name)
        return content

    return _save(site, actor, content.name, wanted)


def edit(
    site: Site, actor: Actor, name: str, change: Mapping[str, Any], *, expect: str | None = None
) -> dict[str, Any]:
    """Change the keys that are given; ``parameters`` are merged, and one of None is removed.

    Raises a ContentError if what it, or a profile that inherits from it, renders is wrong and was not before.
    """

    def wanted(session: Session) -> ProfileContent:
        profile = objects.get(session, Profile, name)
        objects.expect(profile, expect)
        data = {key: value for key, value in snapshot(profile).items() if value is not None} | dict(change)
        if "parameters" in change:
            data["parameters"] = merged_parameters(profile.parameters, change["parameters"])
        return check_profile(data, f"profile {name}")

    return _save(site, actor, name, wanted)


def put_text(
    site: Site, actor: Actor, name: str, text: str, *, new: bool = False, expect: str | None = None
) -> dict[str, Any]:
    """Make a profile what its YAML says, byte for byte; what the text leaves out is inherited. ``new``: add it.

    Raises as `edit` does, and MalformedContent, at ``NAME.yaml:LINE`` where the line is known.
    """
    file = f"{name}.yaml"
    content = parse_profile(text, file)
    if content.name != name:
        hint = f"write `name: {name}`; to give it another name, rename it"
        raise MalformedContent(f"this is the profile {content.name}", where=place(file, text, "name"), hint=hint)

    def wanted(session: Session) -> ProfileContent:
        if new:
            objects.refuse_taken(session, Profile, name)
        else:
            objects.expect(objects.get(session, Profile, name), expect)
        return content

    return _save(site, actor, name, wanted, text)


def _save(
    site: Site, actor: Actor, name: str, wanted: Callable[[Session], ProfileContent], source: str | None = None
) -> dict[str, Any]:
    """Validate what would be, outside any transaction, then write it if nothing changed meanwhile."""
    for _ in range(validating.TRIES):
        with read(site.engine) as session:
            content = wanted(session)
            _check(session, content, f"profile {name}")
            stamp = validating.stamp(session)
        found = validating.when_saved(site, {}, {name: content})
        if not is_dry_run(site.engine):
            validating.refuse(found)
        with write(site.engine) as session:
            content = wanted(session)
            if validating.stamp(session) != stamp:
                continue
            saved = put(session, actor, content, source)
        validating.refuse(found)  # of a rehearsal: who watches it has seen by now what would become of all machines
        return saved
    raise validating.changed_meanwhile(f"profile {name}")


def rename(site: Site, actor: Actor, name: str, new_name: str, *, expect: str | None = None) -> dict[str, Any]:
    """Give a profile another name; children and machines follow."""
    with write(site.engine) as session:
        profile = objects.get(session, Profile, name)
        objects.expect(profile, expect)
        before = snapshot(profile)
        objects.refuse_taken(session, Profile, object_name(new_name))
        profile.name, profile.source = new_name, None
        for child in session.scalars(select(Profile).where(Profile.parent_id == profile.id)):
            child.source = None  # its file names the parent that is no more
        return objects.save(session, actor, profile, before)


def remove(site: Site, actor: Actor, name: str, *, expect: str | None = None) -> None:
    """Remove a profile that nothing refers to."""
    with write(site.engine) as session:
        profile = objects.get(session, Profile, name)
        objects.expect(profile, expect)
        children = select(Profile.name).where(Profile.parent_id == profile.id).order_by(Profile.name)
        if users := session.scalars(children.limit(FEW + 1)).all():
            raise StillInUse(f"profile {name} is the parent of {few(users)}")
        machines = select(Machine.name).where(Machine.profile_id == profile.id).order_by(Machine.name)
        if users := session.scalars(machines.limit(FEW + 1)).all():
            raise StillInUse(f"profile {name} is assigned to {few(users)}")
        objects.remove(session, actor, profile)


def show(site: Site, name: str) -> dict[str, Any]:
    """One profile."""
    with read(site.engine) as session:
        return objects.view(objects.get(session, Profile, name))


def listing(site: Site) -> list[dict[str, Any]]:
    """All profiles."""
    with read(site.engine) as session:
        return [objects.view(profile) for profile in objects.listing(session, Profile)]


def put(session: Session, actor: Actor, content: ProfileContent, source: str | None, where: str = "") -> dict[str, Any]:
    """Add or replace a profile inside a transaction. Raises UnknownReference, ParentCycle, InvalidInput."""
    place = where or f"profile {content.name}"
    profile = objects.find(session, Profile, content.name)
    before = snapshot(profile) if profile is not None else None
    if profile is None:
        profile = Profile(name=content.name, kernel_options=[], parameters={}, description="")
    _check(session, content, place)
    profile.parent = objects.refer(session, Profile, content.parent, place) if content.parent else None
    for key, value in content.fields().items():
        setattr(profile, key, value)
    profile.source = source
    return objects.save(session, actor, profile, before)


def _check(session: Session, content: ProfileContent, where: str) -> None:
    parents = {each.name: each.parent.name if each.parent else None for each in session.scalars(select(Profile))}
    ancestry(content.name, parents | {content.name: content.parent})
    if content.parent:
        objects.refer(session, Profile, content.parent, where)
    if content.template is not None:
        objects.refer(session, Template, content.template, where)
    check_settings(content)


def check_settings(content: ProfileContent, place: Callable[[str], str] | None = None) -> None:
    """What needs no database: the distro's os, the handoff, the way of local boot.

    Raises the error of the first that is wrong, at the ``place`` of its key where that is known.
    """
    fields = content.fields()
    with _at(place, "distro"):
        if (fields["distro"] or {}).get("os"):
            family_of(fields["distro"]["os"])
    with _at(place, "handoff"):
        if content.handoff is not None:
            settings = dict(content.handoff)
            handoff.tool(str(settings.pop("tool", ""))).check(settings)
    with _at(place, "local_boot"):
        if content.local_boot is not None:
            check_way(content.local_boot, f"profile {content.name}")


@contextmanager
def _at(place: Callable[[str], str] | None, key: str) -> Iterator[None]:
    try:
        yield
    except ProvisionerError as error:
        error.where = error.where if place is None else place(key)
        raise


def handoffs(site: Site) -> list[tuple[str, dict[str, Any]]]:
    """Every handoff that a profile has or inherits, each once: the tool and its settings."""
    with read(site.engine) as session:
        found = [profile.handoff for profile in session.scalars(select(Profile)) if profile.handoff]
    told: dict[str, tuple[str, dict[str, Any]]] = {}
    for each in found:
        settings = dict(each)
        tool = str(settings.pop("tool", handoff.NONE))
        if tool != handoff.NONE:
            told[json.dumps(each, sort_keys=True)] = (tool, settings)
    return [told[key] for key in sorted(told)]
