"""Profiles: the tree, one profile with all that it inherits, its history, and how it ends."""

from flask import Response

from provisioner.errors import MalformedName, ProvisionerError
from provisioner.services import contenthistory, families, profiles, profileviews
from provisioner.web.ui import csvout
from provisioner.web.ui.pages import Pages, Visit, path

pages = Pages()
_COLUMNS = (
    "name",
    "parent",
    "description",
    "kind",
    "wanted",
    "means",
    "template",
    "machines",
    "machines_below",
    "tested_with",
)


@pages.get("/profiles", "profiles")
def tree(visit: Visit) -> Response:
    """All of them, each below its parent."""
    q = visit.arg("q")[:200]
    rows = profileviews.tree(visit.site, q)
    if visit.arg("format") == "csv":
        return csvout.answer("profiles", _COLUMNS, rows)
    return visit.render("profiles/list.html", rows=rows, q=q, missing=families.missing())


@pages.get("/profiles/<name>", "profiles")
def show(visit: Visit, name: str) -> Response:
    """One profile."""
    return _shown(visit, name)


def _shown(visit: Visit, name: str, status: int = 200, error: ProvisionerError | None = None) -> Response:
    profile = profileviews.shown(visit.site, name)
    return visit.render("profiles/show.html", status, profile=profile, error=error, new_name=visit.field("new_name"))


@pages.get("/profiles/<name>/history", "profiles")
def history(visit: Visit, name: str) -> Response:
    """All its revisions, the newest first, also of one that is no more."""
    page = contenthistory.page(visit.site, "profile", name, visit.arg("cursor"))
    return visit.render("profiles/history.html", name=name, page=page)


@pages.get("/profiles/<name>/history/<int:number>", "profiles")
def revision(visit: Visit, name: str, number: int) -> Response:
    """The profile as one revision left it, and how that differs from what it is."""
    then = contenthistory.content(visit.site, "profile", name, number)
    try:
        text = contenthistory.text_of("profile", profileviews.shown(visit.site, name)["own"])
    except ProvisionerError:
        return visit.render("profiles/revision.html", name=name, then=then, there=False, since="")
    since = contenthistory.difference(then["text"], text, (f"revision {number}", "now"))
    return visit.render("profiles/revision.html", name=name, then=then, there=True, since=since)


@pages.post("/profiles/<name>/rename", "profiles")
def rename(visit: Visit, name: str) -> Response:
    """Give it another name."""
    new_name = visit.field("new_name").strip()
    try:
        profiles.rename(visit.site, visit.actor, name, new_name, expect=visit.field("revision"))
    except ProvisionerError as error:
        error.where = "new_name" if isinstance(error, MalformedName) else error.where
        return _shown(visit, name, error.status, error)
    place = path("profiles", new_name)
    return visit.redirect(place, f"Profile {name} is called {new_name} now. Its machines and children follow.")


@pages.post("/profiles/<name>/remove", "profiles")
def remove(visit: Visit, name: str) -> Response:
    """Remove a profile that nothing refers to."""
    try:
        profiles.remove(visit.site, visit.actor, name, expect=visit.field("revision"))
    except ProvisionerError as error:
        return _shown(visit, name, error.status, error)
    back = path("profiles", name, "history")
    return visit.redirect("/profiles", f"Profile {name} is removed.", href=back, link="Its history")
