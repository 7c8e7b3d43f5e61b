"""The editor of profiles: a form or YAML, what a change would do, and saving it with a reason."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from flask import Response

from provisioner.core.localboot import WAYS
from provisioner.core.merging import lines_together
from provisioner.core.names import object_name
from provisioner.errors import ContentError, MalformedName, NotFound, ProvisionerError, Stale
from provisioner.services import contenthistory, profiles, profileviews
from provisioner.services.site import Site
from provisioner.web.ui import conflicts, profileform, reviews
from provisioner.web.ui.pages import Pages, Visit, path
from provisioner.web.ui.reviews import Review

pages = Pages()
FORM, YAML = "form", "yaml"


@dataclass(frozen=True)
class Edit:
    """What is being edited, and what was typed."""

    name: str
    new: bool
    way: str
    """``form`` or ``yaml``."""
    revision: str
    fields: Mapping[str, str]
    yaml: str
    own: Mapping[str, Any] | None = None
    """The profile as it is; None for one to be added."""
    source: str = ""
    """Its YAML as it is."""
    restored: Mapping[str, Any] | None = None
    """The old revision that the fields are from."""

    def save(self, visit: Visit, site: Site) -> Mapping[str, Any]:
        """Carry the change out."""
        expect = None if self.new else self.revision
        if self.way == YAML:
            return profiles.put_text(site, visit.actor, self.name, self.yaml, new=self.new, expect=expect)
        if self.own is None:
            return profiles.add(site, visit.actor, {"name": self.name} | profileform.data(self.fields))
        return profiles.edit(
            site, visit.actor, self.name, profileform.change(self.fields, self.own), expect=self.revision
        )


@pages.get("/profiles:add", "profiles", verb="write")
def ask_new(visit: Visit) -> Response:
    """The form of a profile to add; ``parent`` and ``revision`` fill it."""
    way = YAML if visit.arg("as") == YAML else FORM
    name = visit.arg("name")[:64]
    fields, restored = profileform.blank() | {"parent": visit.arg("parent")[:64]}, None
    text = f"name: {name or 'NAME'}\nparent: {fields['parent'] or 'linux'}\n"
    if name and visit.arg("revision").isdigit():
        restored = contenthistory.content(visit.site, "profile", name, int(visit.arg("revision")))
        text = restored["text"]
        fields = profileform.of_yaml(name, text)
    return _page(visit, Edit(name, True, way, "", fields, text, restored=restored))


@pages.post("/profiles:add", "profiles")
def add(visit: Visit) -> Response:
    """Review it, or add it."""
    return _sent(visit, _typed(visit, visit.field("name").strip(), None))


@pages.get("/profiles/<name>/edit", "profiles", verb="write")
def ask(visit: Visit, name: str) -> Response:
    """The form of a profile, as it is or as an old ``revision`` left it."""
    found = profileviews.shown(visit.site, name)
    way = YAML if visit.arg("as") == YAML else FORM
    fields, text, restored = profileform.of_profile(found["own"]), found["yaml"], None
    if visit.arg("revision").isdigit():
        restored = contenthistory.content(visit.site, "profile", name, int(visit.arg("revision")))
        text = restored["text"] if restored["name"] == name else _renamed(restored["text"], name)
        fields = profileform.of_yaml(name, text)
    edit = Edit(name, False, way, found["revision"], fields, text, found["own"], found["yaml"], restored)
    return _page(visit, edit)


@pages.post("/profiles/<name>/edit", "profiles")
def change(visit: Visit, name: str) -> Response:
    """Review the change, or save it."""
    try:
        found = profileviews.shown(visit.site, name)
    except NotFound as error:
        # What was typed is not lost with the profile: it may be added again.
        error.hint = "somebody removed it, or gave it another name, while you were editing: saving adds it again"
        return _page(visit, _typed(visit, name, None), error.status, error=error, typed=True)
    return _sent(visit, _typed(visit, name, found))


def _typed(visit: Visit, name: str, found: Mapping[str, Any] | None) -> Edit:
    way = YAML if visit.field("as") == YAML else FORM
    own, source = (found["own"], found["yaml"]) if found else (None, "")
    fields = profileform.typed(visit)
    return Edit(name, found is None, way, visit.field("revision"), fields, visit.field("yaml"), own, source)


def _renamed(text: str, name: str) -> str:
    """The YAML of a time when the profile had another name."""
    rest = [line for line in text.splitlines(keepends=True) if not line.startswith("name:")]
    return f"name: {name}\n" + "".join(rest)


def _sent(visit: Visit, edit: Edit) -> Response:
    """What a button of the editor does."""
    action = visit.field("action")
    try:
        if edit.new:
            _named(edit)
        if action in {"to-yaml", "to-form"}:
            return _page(visit, _switched(edit, action), typed=True)
        if action == "together" and not edit.new:
            return _merged(visit, edit)
        mark = reviews.mark_of(visit, profileform.TYPED)
        if action != "save" or visit.field("reviewed") != mark:
            review = reviews.rehearse(visit, lambda site: edit.save(visit, site), mark)
            return _page(visit, edit, review=review, typed=True, again=action == "save")
        edit.save(visit, visit.site)
    except Stale as error:
        return _stale(visit, edit, error)
    except ContentError as error:
        review = Review(None, reviews.problems_of(error), (), None, "")
        return _page(visit, edit, error.status, review=review, typed=True)
    except ProvisionerError as error:
        return _page(visit, edit, error.status, error=profileform.at_field(error, edit.name), typed=True)
    said = "added" if edit.new else "changed. Builds under way keep what they were sealed with"
    place = path("profiles", edit.name)
    return visit.redirect(place, f"Profile {edit.name} is {said}.", href=f"{place}/history", link="Its history")


def _named(edit: Edit) -> None:
    try:
        object_name(edit.name)
    except MalformedName as error:
        error.where = "name"
        raise


def _switched(edit: Edit, action: str) -> Edit:
    """The same, written the other way."""
    if action == "to-yaml":
        unchanged = edit.own is not None and profileform.data(edit.fields) == profileform.data(
            profileform.of_profile(edit.own)
        )
        text = edit.source if unchanged else profileform.as_yaml(edit.name, edit.fields)
        return Edit(edit.name, edit.new, YAML, edit.revision, edit.fields, text, edit.own, edit.source)
    fields = profileform.of_yaml(edit.name, edit.yaml)
    return Edit(edit.name, edit.new, FORM, edit.revision, fields, edit.yaml, edit.own, edit.source)


def _stale(visit: Visit, edit: Edit, error: Stale) -> Response:
    """Somebody was first: what they did; sending again is a decision for one's own."""
    now = profileviews.shown(visit.site, edit.name)
    base = edit.revision.rpartition(".")[2]
    rows = contenthistory.page(visit.site, "profile", edit.name)["items"]
    theirs = [row for row in rows if base.isdigit() and row["id"] > int(base)]
    was = conflicts.before(visit.site, "profile", edit.name, edit.revision)
    told: dict[str, Any] = {"theirs": theirs, "stale": True, "typed": True}
    fields = edit.fields
    if edit.way == FORM:
        told["merged"] = conflicts.merged(was, profileform.tidied(edit.fields), now["own"], profileform.of_profile)
        fields = told["merged"].fields
    elif was is not None:
        told |= {"base": edit.revision, "together": _together(visit, edit, now["yaml"]) is not None}
    fresh = Edit(edit.name, False, edit.way, now["revision"], fields, edit.yaml, now["own"], now["yaml"])
    return _page(visit, fresh, error.status, **told)


def _together(visit: Visit, edit: Edit, now: str) -> str | None:
    """The YAML with both changes: what was typed, and what somebody else did since the form's revision or ``base``."""
    version = (visit.field("base") or edit.revision).rpartition(".")[2]
    number = int(version) if version.isdigit() and len(version) < 19 else 0
    was = contenthistory.content(visit.site, "profile", edit.name, number)["text"]
    return lines_together(was, edit.yaml.rstrip() + "\n", now)


def _merged(visit: Visit, edit: Edit) -> Response:
    """The editor with both changes in its text."""
    text = _together(visit, edit, edit.source)
    if text is None:
        raise Stale("the two changes meet in the same lines", hint="take over by hand what theirs should keep")
    now = profileviews.shown(visit.site, edit.name)["revision"]
    return _page(visit, replace(edit, yaml=text, revision=now), typed=True)


def _page(visit: Visit, edit: Edit, status: int = 200, **more: Any) -> Response:
    """The editor, or, as htmx asks for it, its changing part: the whole form, or beside a large text the review."""
    around: dict[str, Any] = {"review": None, "error": None, "theirs": (), "stale": False, "typed": False}
    around |= {"again": False, "merged": None, "base": "", "together": False} | more
    review = around["review"]
    inherited = profileviews.inherited(visit.site, edit.fields["parent"]) if edit.way == FORM else []
    around |= {
        "edit": edit,
        "difference": _difference(edit, review),
        "file": f"{edit.name}.yaml",
        "choices": profileviews.choices(visit.site),
        "ways": list(WAYS),
        "inherited": inherited,
        "taken": _taken(inherited),
    }
    if visit.is_fragment:  # a part that came well, whatever it says: browsers call anything else an error of the page
        return visit.render("profiles/parts/review.html" if edit.way == YAML else "profiles/parts/form.html", **around)
    return visit.render("profiles/edit.html", status, **around)


def _taken(inherited: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """What each setting is if nothing is said."""
    given = {row["name"]: row["value"] for row in inherited if row["what"] == "field"}
    said = {name: str(value) for name, value in given.items() if isinstance(value, str)}
    said |= {name: profileviews.in_words(given[name]) for name in ("distro", "image", "handoff") if name in given}
    names = ("distro", "image", "template", "handoff", "local_boot")
    return {name: f"inherited: {said[name]}" if name in said else "inherited" for name in names}


def _difference(edit: Edit, review: Review | None) -> str:
    """What was changed in the profile itself, as a diff of its YAML."""
    if review is None:
        return ""
    if edit.way == YAML:
        return contenthistory.difference(edit.source, edit.yaml, ("now", "then"))
    before = "" if edit.own is None else contenthistory.text_of("profile", edit.own)
    return contenthistory.difference(before, profileform.as_yaml(edit.name, edit.fields), ("now", "then"))
