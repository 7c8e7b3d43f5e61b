"""Templates and snippets."""

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from provisioner.core.names import FEW, few, template_kind, template_name
from provisioner.errors import MalformedContent, StillInUse
from provisioner.services import objects, validating
from provisioner.services.site import Actor, Site
from provisioner.store.engine import read, write
from provisioner.store.models import Profile, Template
from provisioner.store.snapshots import snapshot

_LARGEST = 1 << 20


def add(site: Site, actor: Actor, name: str, text: str) -> dict[str, Any]:
    """Add a template, ``KIND/NAME``. As `show`, and with ``warnings``; a text that fails is kept as a draft alone."""

    def fits(session: Session) -> None:
        objects.refuse_taken(session, Template, template_name(name))

    return _save(site, actor, name, text, fits)


def edit(site: Site, actor: Actor, name: str, text: str, *, expect: str | None = None) -> dict[str, Any]:
    """Replace a template's text. As `show`, and with ``warnings``.

    A text that does not parse, or fails for a profile that it reaches (see `validating.problems`), becomes the draft,
    with its problems; the last good text stays in force. A good text clears the draft.
    """

    def fits(session: Session) -> None:
        objects.expect(objects.get(session, Template, name), expect)

    return _save(site, actor, name, text, fits)


def _save(site: Site, actor: Actor, name: str, text: str, fits: Callable[[Session], None]) -> dict[str, Any]:
    _check(name, text)
    for _ in range(validating.TRIES):
        with read(site.engine) as session:
            fits(session)
            template = objects.find(session, Template, name)
            in_force = template is not None and template.text == text and not is_draft_alone(template)
            stamp = validating.stamp(session)
        found = [] if in_force else validating.when_saved(site, {name: text}, {})
        with write(site.engine) as session:
            fits(session)
            if validating.stamp(session) == stamp:
                return _kept(session, actor, name, text, found)
    raise validating.changed_meanwhile(f"template {name}")


def _kept(session: Session, actor: Actor, name: str, text: str, found: Sequence[validating.Problem]) -> dict[str, Any]:
    errors = [each.as_dict() for each in found if each.level == "error"]
    saved = _put(session, actor, name, text, errors)
    return _view(saved) | {"warnings": [each.as_dict() for each in found if each.level == "warning"]}


def rename(site: Site, actor: Actor, name: str, new_name: str, *, expect: str | None = None) -> dict[str, Any]:
    """Give a template that no profile names another name of the same kind."""
    with write(site.engine) as session:
        template = objects.get(session, Template, name)
        objects.expect(template, expect)
        _refuse_used(session, name)
        before = snapshot(template)
        objects.refuse_taken(session, Template, template_name(new_name))
        template.name = new_name
        return _view(objects.save(session, actor, template, before))


def remove(site: Site, actor: Actor, name: str, *, expect: str | None = None) -> None:
    """Remove a template that no profile names and no template includes."""
    with write(site.engine) as session:
        template = objects.get(session, Template, name)
        objects.expect(template, expect)
        _refuse_used(session, name)
        objects.remove(session, actor, template)


def show(site: Site, name: str) -> dict[str, Any]:
    """One template with its text, and with ``draft`` and ``problems`` (None and none if the text is its newest)."""
    with read(site.engine) as session:
        return _view(objects.view(objects.get(session, Template, name)))


def _view(shown: dict[str, Any]) -> dict[str, Any]:
    return {"draft": None, "problems": []} | shown | {"kind": template_kind(shown["name"]), "warnings": []}


def item(template: Template) -> dict[str, Any]:
    """A template in a list, without its text; ``draft`` says whether it has one."""
    return {
        "name": template.name,
        "kind": template_kind(template.name),
        "revision": objects.revision(template),
        "bytes": len(template.text),
        "draft": template.draft is not None,
    }


def listing(site: Site) -> list[dict[str, Any]]:
    """All templates without their texts."""
    with read(site.engine) as session:
        return [item(each) for each in objects.listing(session, Template)]


def drafts(site: Site) -> list[dict[str, Any]]:
    """The templates whose newest text fails, as `show` does."""
    with read(site.engine) as session:
        found = session.scalars(select(Template).where(Template.draft.is_not(None)).order_by(Template.name))
        return [_view(objects.view(each)) for each in found]


def is_draft_alone(template: Template) -> bool:
    """Whether no text of it was ever good: then it is not served, and no build can be armed with it."""
    return template.draft is not None and not template.text


def put(session: Session, actor: Actor, name: str, text: str) -> dict[str, Any]:
    """Add or replace a template inside a transaction; the text is good, and clears the draft."""
    _check(name, text)
    return _put(session, actor, name, text, [])


def _check(name: str, text: str) -> None:
    template_name(name)
    if len(text) > _LARGEST or "\0" in text:
        raise MalformedContent("larger than 1 MiB, or not text", where=name, hint="is this the right file?")


def _put(session: Session, actor: Actor, name: str, text: str, errors: Sequence[dict[str, str]]) -> dict[str, Any]:
    template = objects.find(session, Template, name)
    before = snapshot(template) if template is not None else None
    if template is None:
        template = Template(name=name, text="")
    if errors:
        template.draft, template.problems = text, list(errors)
    else:
        template.text, template.draft, template.problems = text, None, None
    return objects.save(session, actor, template, before)


def _refuse_used(session: Session, name: str) -> None:
    profiles = select(Profile.name).where(Profile.template == name).order_by(Profile.name)
    if users := session.scalars(profiles.limit(FEW + 1)).all():
        raise StillInUse(f"template {name} is used by profile {few(users)}")
    included = or_(Template.text.contains(f'"{name}"'), Template.text.contains(f"'{name}'"))
    templates = select(Template.name).where(included, Template.name != name).order_by(Template.name)
    if users := session.scalars(templates.limit(FEW + 1)).all():
        raise StillInUse(f"{name} is included by {few(users)}")
