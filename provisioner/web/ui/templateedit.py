"""The editor of templates: the text, what the validator says of each line, what a change would do, and saving it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from flask import Response

from provisioner.core.merging import lines_together
from provisioner.core.names import template_name
from provisioner.errors import MalformedName, NotFound, ProvisionerError, Stale
from provisioner.services import contenthistory, templates, templateviews
from provisioner.services.site import Site
from provisioner.web.ui import conflicts, notices, reviews
from provisioner.web.ui.pages import Pages, Visit, path

pages = Pages()
_TYPED = ("kind", "name", "text", "revision")


@dataclass(frozen=True)
class Edit:
    """What is being edited, and what was typed."""

    kind: str
    name: str
    """Without the kind."""
    new: bool
    revision: str
    text: str
    source: str = ""
    """Its newest text as it is."""
    draft: bool = False
    """Whether that one is a draft."""
    restored: Mapping[str, Any] | None = None
    """The old revision that the text is from."""

    @property
    def whole(self) -> str:
        """KIND/NAME."""
        return f"{self.kind}/{self.name}"

    @property
    def place(self) -> str:
        """Where it is shown."""
        return path("templates", self.kind, self.name)

    def save(self, visit: Visit, site: Site) -> Mapping[str, Any]:
        """Carry the change out."""
        if self.new:
            return templates.add(site, visit.actor, self.whole, self.text)
        return templates.edit(site, visit.actor, self.whole, self.text, expect=self.revision)


@pages.get("/templates:add", "templates", verb="write")
def ask_new(visit: Visit) -> Response:
    """The form of a template to add. ``copy`` and ``extend`` name another to begin with, ``revision`` an old one."""
    kind, _, name = visit.arg("name")[:100].partition("/")
    text, restored = "", None
    for other in (visit.arg("copy"), visit.arg("extend")):
        if other:
            found = templates.show(visit.site, other)
            kind = found["kind"]
            text = found["text"] if visit.arg("copy") else templateviews.starter(other, found["text"])
    if name and visit.arg("revision").isdigit():
        restored = contenthistory.content(visit.site, "template", f"{kind}/{name}", int(visit.arg("revision")))
        text = restored["text"]
    return _page(visit, Edit(kind or "kickstart", name, True, "", text, restored=restored))


@pages.post("/templates:add", "templates")
def add(visit: Visit) -> Response:
    """Review it, or add it."""
    name = visit.field("name").strip()
    return _sent(visit, Edit(visit.field("kind"), name, True, "", visit.field("text")))


@pages.get("/templates/<kind>/<name>/edit", "templates", verb="write")
def ask(visit: Visit, kind: str, name: str) -> Response:
    """The editor with the newest text, be it a draft, or with that of an old ``revision``."""
    edit = _now(visit, kind, name)
    if visit.arg("revision").isdigit():
        restored = contenthistory.content(visit.site, "template", edit.whole, int(visit.arg("revision")))
        edit = replace(edit, text=restored["text"], restored=restored)
        return _page(visit, edit)
    problems = templates.show(visit.site, edit.whole)["problems"] if edit.draft else ()
    return _page(visit, edit, kept=problems)


@pages.post("/templates/<kind>/<name>/edit", "templates")
def change(visit: Visit, kind: str, name: str) -> Response:
    """Review the change, save it, or keep it as a draft."""
    text = visit.field("text")
    try:
        return _sent(visit, replace(_now(visit, kind, name), text=text, revision=visit.field("revision")))
    except NotFound as error:
        # What was typed is not lost with the template: it may be added again.
        error.hint = "somebody removed it, or gave it another name, while you were editing: saving adds it again"
        return _page(visit, Edit(kind, name, True, "", text), error.status, error=error, typed=True)


def _now(visit: Visit, kind: str, name: str) -> Edit:
    found = templates.show(visit.site, f"{kind}/{name}")
    source = contenthistory.text_of("template", found)
    return Edit(kind, name, False, found["revision"], source, source, found["draft"] is not None)


def _sent(visit: Visit, edit: Edit) -> Response:
    """What a button of the editor does. A text that fails is kept only if that is what was asked for."""
    action = visit.field("action")
    try:
        if edit.new:
            _named(edit)
        elif action == "together":
            return _merged(visit, edit)
        mark = reviews.mark_of(visit, _TYPED)
        if action not in {"save", "draft"} or visit.field("reviewed") != f"{action} {mark}":
            review = reviews.rehearse(visit, lambda site: edit.save(visit, site), mark)
            return _page(visit, edit, review=review, typed=True, again=action in {"save", "draft"})
        return _saved(visit, edit, edit.save(visit, visit.site))
    except Stale as error:
        return _stale(visit, edit, error)
    except NotFound:
        raise
    except ProvisionerError as error:
        return _page(visit, edit, error.status, error=error, typed=True)


def _named(edit: Edit) -> None:
    try:
        template_name(edit.whole)
    except MalformedName as error:
        error.where = "name"
        raise


def _saved(visit: Visit, edit: Edit, saved: Mapping[str, Any]) -> Response:
    history = f"{edit.place}/history"
    if saved["draft"] is None:
        said = "added" if edit.new else "changed. Builds under way keep what they were sealed with"
        return visit.redirect(edit.place, f"Template {edit.whole} is {said}.", href=history, link="Its history")
    machines = "Machines still get the last good text" if saved["text"] else "No build can be armed with it yet"
    notices.say(
        f"Template {edit.whole}: kept as a draft. {machines}.",
        level="warning",
        href=f"{edit.place}/edit",
        link="Mend it",
    )
    return visit.redirect(edit.place)


def _stale(visit: Visit, edit: Edit, error: Stale) -> Response:
    """Somebody was first: what they did; sending again is a decision for one's own."""
    now = _now(visit, edit.kind, edit.name)
    base = edit.revision.rpartition(".")[2]
    rows = contenthistory.page(visit.site, "template", edit.whole)["items"]
    theirs = [row for row in rows if base.isdigit() and row["id"] > int(base)]
    told: dict[str, Any] = {"theirs": theirs, "stale": True, "typed": True}
    if conflicts.before(visit.site, "template", edit.whole, edit.revision) is not None:
        told |= {"base": edit.revision, "together": _together(visit, edit, edit.revision) is not None}
    return _page(visit, replace(now, text=edit.text), error.status, **told)


def _together(visit: Visit, edit: Edit, base: str) -> str | None:
    """The text with both changes: what was typed, and what somebody else did since the revision ``base``."""
    version = base.rpartition(".")[2]
    number = int(version) if version.isdigit() and len(version) < 19 else 0
    was = contenthistory.content(visit.site, "template", edit.whole, number)["text"]
    return lines_together(was, edit.text, edit.source)


def _merged(visit: Visit, edit: Edit) -> Response:
    """The editor with both changes in its text."""
    text = _together(visit, edit, visit.field("base"))
    if text is None:
        raise Stale("the two changes meet in the same lines", hint="take over by hand what theirs should keep")
    now = _now(visit, edit.kind, edit.name).revision
    return _page(visit, replace(edit, text=text, revision=now), typed=True)


def _page(visit: Visit, edit: Edit, status: int = 200, **more: Any) -> Response:
    """The editor, or, as htmx asks for it, what stands below the text."""
    around: dict[str, Any] = {"review": None, "error": None, "theirs": (), "stale": False, "typed": False}
    around |= {"again": False, "kept": (), "base": "", "together": False} | more
    review = around["review"]
    around |= {
        "edit": edit,
        "kinds": templateviews.KINDS,
        "difference": contenthistory.difference(edit.source, edit.text, ("now", "then")) if review else "",
    }
    if visit.is_fragment:  # a part that came well, whatever it says: browsers call anything else an error of the page
        return visit.render("templates/parts/review.html", **around)
    return visit.render("templates/edit.html", status, **around)
