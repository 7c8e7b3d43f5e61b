"""Templates and snippets: the list, one with its draft, its history, and how it ends."""

from typing import Any

from flask import Response

from provisioner.errors import MalformedName, ProvisionerError
from provisioner.services import contenthistory, families, templates, templateviews
from provisioner.web.ui import csvout
from provisioner.web.ui.pages import Pages, Visit, path

pages = Pages()
_COLUMNS = ("name", "kind", "bytes", "draft", "profiles")


@pages.get("/templates", "templates")
def listing(visit: Visit) -> Response:
    """All of them, by kind."""
    q, kind = visit.arg("q")[:200], visit.arg("kind")
    rows = templateviews.listing(visit.site, q, kind if kind in templateviews.KINDS else "")
    if visit.arg("format") == "csv":
        return csvout.answer("templates", _COLUMNS, rows)
    tiers = families.tiers()
    around: dict[str, Any] = {
        "q": q,
        "kind": kind,
        "kinds": templateviews.KINDS,
        "tiers": tiers,
        "missing": families.missing(),
    }
    return visit.render("templates/list.html", rows=rows, **around)


@pages.get("/templates/<kind>/<name>", "templates")
def show(visit: Visit, kind: str, name: str) -> Response:
    """One template; ``format`` text downloads what is in force."""
    if visit.arg("format") == "text":
        return _download(name, templates.show(visit.site, f"{kind}/{name}")["text"])
    return _shown(visit, f"{kind}/{name}")


def _download(name: str, text: str) -> Response:
    """Never to be shown by the browser itself: it is somebody's text."""
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "X-Content-Type-Options": "nosniff"}
    return Response(text, content_type="text/plain; charset=utf-8", headers=headers)


def _shown(visit: Visit, name: str, status: int = 200, error: ProvisionerError | None = None) -> Response:
    template = templateviews.shown(visit.site, name)
    tier = families.tiers().get(template["kind"])
    draft = contenthistory.difference(template["text"], template["draft"] or "", ("in force", "draft"))
    around: dict[str, Any] = {"tier": tier, "error": error, "new_name": visit.field("new_name"), "draft_diff": draft}
    return visit.render("templates/show.html", status, it=template, **around)


@pages.get("/templates/<kind>/<name>/history", "templates")
def history(visit: Visit, kind: str, name: str) -> Response:
    """All its revisions, the newest first, also of one that is no more."""
    page = contenthistory.page(visit.site, "template", f"{kind}/{name}", visit.arg("cursor"))
    return visit.render("templates/history.html", name=f"{kind}/{name}", page=page)


@pages.get("/templates/<kind>/<name>/history/<int:number>", "templates")
def revision(visit: Visit, kind: str, name: str, number: int) -> Response:
    """The text as one revision left it, and how that differs from what it is."""
    whole = f"{kind}/{name}"
    then = contenthistory.content(visit.site, "template", whole, number)
    around: dict[str, Any] = {"name": whole, "kind": kind, "then": then, "there": False, "since": ""}
    try:
        text = contenthistory.text_of("template", templates.show(visit.site, whole))
    except ProvisionerError:
        return visit.render("templates/revision.html", **around)
    since = contenthistory.difference(then["text"], text, (f"revision {number}", "now"))
    return visit.render("templates/revision.html", **(around | {"there": True, "since": since}))


@pages.post("/templates/<kind>/<name>/rename", "templates")
def rename(visit: Visit, kind: str, name: str) -> Response:
    """Give it another name of its kind, unless something names it."""
    whole, new_name = f"{kind}/{name}", f"{kind}/{visit.field('new_name').strip()}"
    try:
        templates.rename(visit.site, visit.actor, whole, new_name, expect=visit.field("revision"))
    except ProvisionerError as error:
        error.where = "new_name" if isinstance(error, MalformedName) else error.where
        return _shown(visit, whole, error.status, error)
    return visit.redirect(path("templates", *new_name.split("/", 1)), f"Template {whole} is called {new_name} now.")


@pages.post("/templates/<kind>/<name>/remove", "templates")
def remove(visit: Visit, kind: str, name: str) -> Response:
    """Remove a template that nothing names."""
    whole = f"{kind}/{name}"
    try:
        templates.remove(visit.site, visit.actor, whole, expect=visit.field("revision"))
    except ProvisionerError as error:
        return _shown(visit, whole, error.status, error)
    back = path("templates", kind, name, "history")
    return visit.redirect("/templates", f"Template {whole} is removed.", href=back, link="Its history")
