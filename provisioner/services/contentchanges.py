"""What differs between a directory's content and that of the store, and what stands against making them the same."""

import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from provisioner.core.content import dump_profile
from provisioner.core.parameters import ancestry
from provisioner.errors import ParentCycle, StillInUse, UnknownReference
from provisioner.services import checkout, profiles
from provisioner.services.checkout import PROFILES, TEMPLATES, Loaded
from provisioner.store.models import Machine, Profile, Revision, Template
from provisioner.store.snapshots import snapshot

SHIPPED = "shipped content"
"""How the reason of a revision begins that `init` made."""
_NAMED = 5


@dataclass(frozen=True)
class Change:
    """One object that `apply` adds, edits or removes; ``why``, and the file's text before and after."""

    kind: str
    name: str
    action: str
    why: str
    path: str
    before: str
    after: str

    def diff(self) -> list[str]:
        """The unified diff, each line without its end."""
        now, then = _lines(self.before), _lines(self.after)
        return list(difflib.unified_diff(now, then, f"now/{self.path}", f"then/{self.path}", lineterm=""))


def _lines(text: str) -> list[str]:
    *lines, last = text.split("\n")
    return [*lines, f"{last}\n\\ No newline at end of file"] if last else lines


def changes(session: Session, loaded: Loaded, ours: Loaded | None = None, *, upgrade: bool = False) -> list[Change]:
    """What must be added and edited; with ``ours``, the shipped content, also what else goes.

    ``upgrade`` leaves out the edits of what somebody changed since it was shipped.
    """
    found = []
    pristine = _pristine(session) if upgrade else None
    stored = {each.name: each for each in session.scalars(select(Template).order_by(Template.name))}
    for name, text in loaded.templates.items():
        template, path = stored.get(name), f"{TEMPLATES}/{name}"
        if template is None:
            found.append(Change("template", name, "add", "new", path, "", text))
        elif not _may(template, pristine):
            continue
        elif template.text != text or template.draft is not None:
            why = "file differs" if template.text != text else "a draft waits"
            found.append(Change("template", name, "edit", why, path, template.text, text))
    known = {each.name: each for each in session.scalars(select(Profile).order_by(Profile.name))}
    for name, file in loaded.profiles.items():
        profile = known.get(name)
        if profile is None:
            found.append(Change("profile", name, "add", "new", file.path, "", file.text))
        elif _may(profile, pristine) and profile.source != file.text:
            why = "only its wording differs" if _same(profile, file) else "file differs"
            found.append(Change("profile", name, "edit", why, file.path, source_of(profile), file.text))
    return found + ([] if ours is None else _removals(loaded, ours, stored, known))


def _pristine(session: Session) -> set[int]:
    """The versions that came with the program, this one or an earlier."""
    shipped = Revision.reason.startswith(SHIPPED, autoescape=True)
    query = select(Revision.id).where(shipped, Revision.kind.in_(("profile", "template")))
    return set(session.scalars(query))


def _may(thing: Profile | Template, pristine: set[int] | None) -> bool:
    if pristine is None:
        return True
    # Without a source it is not what its file says: its parent was renamed.
    return thing.version in pristine and not (isinstance(thing, Profile) and thing.source is None)


def _removals(
    loaded: Loaded, ours: Loaded, stored: Mapping[str, Template], known: Mapping[str, Profile]
) -> list[Change]:
    gone = [
        Change("profile", name, "remove", "not in the directory", f"{PROFILES}/{name}.yaml", source_of(each), "")
        for name, each in known.items()
        if name not in loaded.profiles and name not in ours.profiles
    ]
    return gone + [
        Change("template", name, "remove", "not in the directory", f"{TEMPLATES}/{name}", each.text, "")
        for name, each in stored.items()
        if name not in loaded.templates and name not in ours.templates
    ]


def kept(session: Session, loaded: Loaded, ours: Loaded) -> list[str]:
    """Shipped content that was changed here and is not in the directory."""
    return [
        f"profile {each.name}"
        for each in session.scalars(select(Profile).order_by(Profile.name))
        if each.name in ours.profiles
        and each.name not in loaded.profiles
        and each.source != ours.profiles[each.name].text
    ] + [
        f"template {each.name}"
        for each in session.scalars(select(Template).order_by(Template.name))
        if each.name in ours.templates and each.name not in loaded.templates and each.text != ours.templates[each.name]
    ]


def source_of(profile: Profile) -> str:
    """The profile's YAML: the bytes that it came from, while they are what it is."""
    return profile.source if profile.source is not None else dump_profile(snapshot(profile))


def _same(profile: Profile, file: checkout.ProfileFile) -> bool:
    stored = snapshot(profile)
    return {"name": file.content.name, "parent": file.content.parent} | file.content.fields() == stored


def check(session: Session, loaded: Loaded) -> None:
    """What profiles refer to is there, or comes with them. Raises UnknownReference, ParentCycle and InvalidInput."""
    known = {*session.scalars(select(Profile.name)), *loaded.profiles}
    texts = {*session.scalars(select(Template.name)), *loaded.templates}
    for file in loaded.profiles.values():
        _refuse_unknown(file, "parent", file.content.parent, known, "profile")
        _refuse_unknown(file, "template", file.content.template, texts, "template")
        profiles.check_settings(file.content, file.place)
    parents_first(session, loaded)


def _refuse_unknown(file: checkout.ProfileFile, key: str, name: str | None, known: Collection[str], kind: str) -> None:
    if name is None or name in known:
        return
    near = difflib.get_close_matches(name, sorted(known), n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"add it to the directory; see `provisioner {kind} list`"
    raise UnknownReference(f"there is no {kind} {name!r}", where=file.place(key), hint=hint)


def parents_first(session: Session, loaded: Loaded) -> Sequence[str]:
    """The directory's profiles in an order in which each parent comes before its children. Raises ParentCycle."""
    parents = {name: file.content.parent for name, file in loaded.profiles.items()}
    stored = {each.name: each.parent.name if each.parent else None for each in session.scalars(select(Profile))}
    ordered: list[str] = []
    for name in parents:
        try:
            line = ancestry(name, stored | parents)
        except ParentCycle as error:
            # Of the store alone there is none, so one of its members is a file; `name` may only lead there.
            error.where = next(
                file.place("parent") for each, file in loaded.profiles.items() if _turns(each, stored | parents)
            )
            raise
        ordered += [each for each in line if each not in ordered and each in parents]
    return ordered


def _turns(name: str, parents: Mapping[str, str | None]) -> bool:
    """Whether the profile is its own ancestor."""
    seen: list[str] = []
    current = parents.get(name)
    while current is not None and current not in seen:
        seen.append(current)
        current = parents.get(current)
    return name in seen


def refuse_used(session: Session, loaded: Loaded, removed: Sequence[Change]) -> None:
    """Raise StillInUse that names every object to be removed which something that stays refers to, and what does."""
    gone = {(each.kind, each.name) for each in removed}
    parents = {each.name: each.parent.name if each.parent else None for each in session.scalars(select(Profile))}
    parents |= {name: file.content.parent for name, file in loaded.profiles.items()}
    used = {each.name: each.template for each in session.scalars(select(Profile))}
    used |= {name: file.content.template for name, file in loaded.profiles.items()}
    texts = {each.name: each.text for each in session.scalars(select(Template))} | dict(loaded.templates)
    problems = []
    for kind, name in sorted(gone):
        if kind == "profile":
            query = select(Machine.name).join(Profile, Machine.profile_id == Profile.id).where(Profile.name == name)
            users = [f"machine {each}" for each in session.scalars(query.order_by(Machine.name))]
            users += [f"profile {each}" for each, parent in parents.items() if parent == name]
        else:
            users = [f"profile {each}" for each, template in used.items() if template == name]
            users += [each for each, text in texts.items() if f'"{name}"' in text or f"'{name}'" in text]
            users = [each if " " in each else f"template {each}" for each in users if each != name]
        users = [each for each in users if tuple(each.split(" ", 1)) not in gone]
        if users:
            more = f" and {len(users) - _NAMED} more" if len(users) > _NAMED else ""
            problems.append(f"{kind} {name} by {', '.join(users[:_NAMED])}{more}")
    if problems:
        raise StillInUse(
            f"not in the directory, but used: {'; '.join(problems)}",
            hint="point them elsewhere, put the files back, or apply without --prune",
            used=problems,
        )
