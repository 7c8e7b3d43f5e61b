"""What every administered object has in common: found by name, saved with its revision."""

import difflib
from collections.abc import Mapping
from typing import Any, TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session

from provisioner.errors import NameTaken, NotFound, Stale, UnknownReference
from provisioner.services.site import Actor
from provisioner.store import history, search
from provisioner.store.models import Administered, Distro, Image, Machine, Profile, Subnet, Template
from provisioner.store.people import ApiToken, User
from provisioner.store.snapshots import snapshot
from provisioner.store.webhooks import Webhook

Named = TypeVar("Named", Machine, Subnet, Profile, Template, Distro, Image, User, ApiToken, Webhook)
KIND: Mapping[type[Administered], str] = {
    Machine: "machine",
    Subnet: "subnet",
    Profile: "profile",
    Template: "template",
    Distro: "distro",
    Image: "image",
    User: "user",
    ApiToken: "token",
    Webhook: "webhook",
}


def find(session: Session, model: type[Named], name: str) -> Named | None:
    """The object of that name, or None."""
    return session.scalars(select(model).where(model.name == name)).one_or_none()


def get(session: Session, model: type[Named], name: str) -> Named:
    """The object of that name. Raises NotFound, with the nearest names."""
    found = find(session, model, name)
    if found is None:
        raise NotFound(f"there is no {KIND[model]} {name!r}", hint=_suggest(session, model, name))
    return found


def revision(thing: Named) -> str:
    """Which object this is, and which entry of the history made it what it is: a text to compare, for ETags.

    Neither comes again for another object of the same name: SQLite gives the id of a removed row once more, but the
    history only grows.
    """
    return f"{thing.id}.{thing.version}"


def expect(thing: Named, wanted: str | None) -> None:
    """Raise Stale unless the object is still at the revision that a change was made for; None expects nothing."""
    if wanted is not None and revision(thing) != wanted:
        raise Stale(
            f"{KIND[type(thing)]} {thing.name} is at revision {revision(thing)}, the change was made for {wanted}",
            hint=f"somebody changed it first: see `provisioner history {thing.name}`, read it again, repeat the change",
        )


def view(thing: Named) -> dict[str, Any]:
    """The object as people see it: its snapshot, and the ``revision`` that a change may be made for."""
    return snapshot(thing) | {"revision": revision(thing)}


def refer(session: Session, model: type[Named], name: str, where: str) -> Named:
    """The object that another one refers to by name. Raises UnknownReference."""
    found = find(session, model, name)
    if found is None:
        hint = _suggest(session, model, name)
        raise UnknownReference(f"there is no {KIND[model]} {name!r}", where=where, hint=hint)
    return found


def _suggest(session: Session, model: type[Named], name: str) -> str:
    names = list(session.scalars(select(model.name).order_by(model.name).limit(2000)))
    near = difflib.get_close_matches(name, names, n=3)
    if near:
        return f"did you mean {' or '.join(near)}?"
    if not names:
        return f"none exists yet: `provisioner {KIND[model]} add --help`"
    return f"see `provisioner {KIND[model]} list`"


def refuse_taken(session: Session, model: type[Named], name: str) -> None:
    """Raise NameTaken if an object of that kind has the name."""
    if find(session, model, name) is not None:
        raise NameTaken(f"there is a {KIND[model]} {name!r} already")


def listing(session: Session, model: type[Named]) -> list[Named]:
    """All objects of the kind by name."""
    return list(session.scalars(select(model).order_by(model.name)))


def save(session: Session, actor: Actor, thing: Named, before: dict[str, Any] | None) -> dict[str, Any]:
    """Write the object and its revision; ``before`` is its snapshot before the change, None for a new one.

    Returns its view. A change that changes nothing leaves neither a version nor a revision.
    """
    if before is None:
        session.add(thing)
    session.flush()
    if isinstance(thing, Machine):
        search.index(session, thing)
    after = snapshot(thing)
    written = history.record(
        session, actor, kind=KIND[type(thing)], object_id=thing.id, name=thing.name, before=before, after=after
    )
    if written is not None:
        session.flush()
        thing.version = written.id
    return after | {"revision": revision(thing)}


def remove(session: Session, actor: Actor, thing: Named) -> None:
    """Remove the object, with its revision."""
    before = snapshot(thing)
    history.record(
        session, actor, kind=KIND[type(thing)], object_id=thing.id, name=thing.name, before=before, after=None
    )
    session.delete(thing)
    session.flush()
