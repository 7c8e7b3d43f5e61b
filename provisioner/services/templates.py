"""Templates and snippets."""

from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from provisioner.core.names import template_kind, template_name
from provisioner.errors import MalformedContent, StillInUse
from provisioner.services import objects
from provisioner.services.site import Actor, Site
from provisioner.store.engine import read, write
from provisioner.store.models import Profile, Template
from provisioner.store.snapshots import snapshot

_LARGEST = 1 << 20


def add(site: Site, actor: Actor, name: str, text: str) -> dict[str, Any]:
    """Add a template, ``KIND/NAME``."""
    with write(site.engine) as session:
        objects.refuse_taken(session, Template, template_name(name))
        return put(session, actor, name, text)


def edit(site: Site, actor: Actor, name: str, text: str, *, expect: str | None = None) -> dict[str, Any]:
    """Replace a template's text."""
    with write(site.engine) as session:
        objects.expect(objects.get(session, Template, name), expect)
        return put(session, actor, name, text)


def rename(site: Site, actor: Actor, name: str, new_name: str, *, expect: str | None = None) -> dict[str, Any]:
    """Give a template that no profile names another name of the same kind."""
    with write(site.engine) as session:
        template = objects.get(session, Template, name)
        objects.expect(template, expect)
        _refuse_used(session, name)
        before = snapshot(template)
        objects.refuse_taken(session, Template, template_name(new_name))
        template.name = new_name
        return objects.save(session, actor, template, before)


def remove(site: Site, actor: Actor, name: str, *, expect: str | None = None) -> None:
    """Remove a template that no profile names and no template includes."""
    with write(site.engine) as session:
        template = objects.get(session, Template, name)
        objects.expect(template, expect)
        _refuse_used(session, name)
        objects.remove(session, actor, template)


def show(site: Site, name: str) -> dict[str, Any]:
    """One template with its text."""
    with read(site.engine) as session:
        template = objects.get(session, Template, name)
        return objects.view(template) | {"kind": template_kind(name)}


def listing(site: Site) -> list[dict[str, Any]]:
    """All templates without their texts."""
    with read(site.engine) as session:
        return [
            {
                "name": each.name,
                "kind": template_kind(each.name),
                "revision": objects.revision(each),
                "bytes": len(each.text),
            }
            for each in objects.listing(session, Template)
        ]


def put(session: Session, actor: Actor, name: str, text: str) -> dict[str, Any]:
    """Add or replace a template inside a transaction."""
    template_name(name)
    if len(text) > _LARGEST or "\0" in text:
        raise MalformedContent("larger than 1 MiB, or not text", where=name, hint="is this the right file?")
    template = objects.find(session, Template, name)
    before = snapshot(template) if template is not None else None
    if template is None:
        template = Template(name=name)
    template.text = text
    return objects.save(session, actor, template, before)


def _refuse_used(session: Session, name: str) -> None:
    profiles = session.scalars(select(Profile.name).where(Profile.template == name).limit(5)).all()
    if profiles:
        raise StillInUse(f"template {name} is used by profile {', '.join(profiles)}")
    included = or_(Template.text.contains(f'"{name}"'), Template.text.contains(f"'{name}'"))
    users = session.scalars(select(Template.name).where(included, Template.name != name).limit(5)).all()
    if users:
        raise StillInUse(f"{name} is included by {', '.join(users)}")
