"""What the pages of distros and of images share: the list, one of them, and how it ends."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from flask import Response

from provisioner.errors import InvalidInput, ProvisionerError
from provisioner.services import catalogue, families, mediaviews
from provisioner.services.underway import Counting
from provisioner.web.ui import csvout, reviews
from provisioner.web.ui.pages import Visit, path


@dataclass(frozen=True)
class Kind:
    """Distros, or images."""

    one: str
    many: str
    columns: Sequence[str]
    rename: Callable[..., Any]
    remove: Callable[..., Any]


DISTROS = Kind(
    "distro",
    "distros",
    ("name", "os", "version", "arch", "family", "tree", "kernel_sha256", "initrd_sha256", "profiles", "machines"),
    catalogue.rename_distro,
    catalogue.remove_distro,
)
IMAGES = Kind(
    "image",
    "images",
    ("name", "kind", "os", "version", "arch", "format", "root", "size", "sha256", "profiles", "machines"),
    catalogue.rename_image,
    catalogue.remove_image,
)


def form(visit: Visit, name: str, status: int, **context: Any) -> Response:
    """The form of this name, or its part for htmx: that came well, whatever it says; browsers call anything else an
    error of the page.
    """
    if visit.is_fragment:
        return visit.render(f"distros/parts/{name}.html", **context)
    return visit.render(f"distros/{name}.html", status, **context)


def listing(visit: Visit, kind: Kind) -> Response:
    """All of them."""
    q = visit.arg("q")[:200]
    rows = mediaviews.listing(visit.site, kind.one, q)
    if visit.arg("format") == "csv":
        return csvout.answer(kind.many, kind.columns, rows)
    return visit.render("distros/list.html", rows=rows, q=q, kind=kind, missing=families.missing())


def show(visit: Visit, kind: Kind, name: str, status: int = 200, error: ProvisionerError | None = None) -> Response:
    """One of them."""
    thing = mediaviews.shown(visit.site, kind.one, name)
    new_name = visit.field("new_name")
    return visit.render("distros/show.html", status, thing=thing, kind=kind, error=error, new_name=new_name)


def ask_removal(visit: Visit, kind: Kind, name: str) -> Response:
    """What removing it would do to machines, before it is done."""
    thing = mediaviews.shown(visit.site, kind.one, name)
    error, review = None, None
    try:
        review = reviews.rehearse(visit, lambda site: kind.remove(site, visit.actor, name) or {}, "")
    except ProvisionerError as found:
        error = found
    return visit.render("distros/remove.html", thing=thing, kind=kind, error=error, review=review)


def removed(visit: Visit, kind: Kind, name: str) -> Response:
    """Remove it; its files stay for the builds that were sealed with them."""
    try:
        kind.remove(visit.site, visit.actor, name, expect=visit.field("revision"))
    except ProvisionerError as error:
        return show(visit, kind, name, error.status, error)
    said = f"The {kind.one} {name} is removed. Its files stay for the builds that were sealed with them."
    return visit.redirect(f"/{kind.many}", said)


def renamed(visit: Visit, kind: Kind, name: str) -> Response:
    """Give it another name, unless a profile names it."""
    new_name = visit.field("new_name").strip()
    try:
        kind.rename(visit.site, visit.actor, name, new_name, expect=visit.field("revision"))
    except ProvisionerError as error:
        error.where = "new_name" if isinstance(error, InvalidInput) else error.where
        return show(visit, kind, name, error.status, error)
    return visit.redirect(path(kind.many, new_name), f"The {kind.one} {name} is called {new_name} now.")


def fetched(noted: Counting | None) -> Callable[[int, int | None], None] | None:
    """What is told of a file that is being fetched, as the services tell it."""
    return None if noted is None else lambda done, total: noted("fetched", done, total or 0)


def url(visit: Visit, name: str, *, needed: bool = True) -> str:
    """A field that holds a URL: nobody names a file of this server here. Raises InvalidInput."""
    text = visit.field(name).strip()
    if not text and not needed:
        return ""
    if len(text) > 1024 or not re.fullmatch(r"https?://[!-~]+", text):
        said = f"{text[:200]!r} is not a URL" if text else "a URL is needed"
        hint = "begin with http:// or https://; files on the server itself are for `provisioner` there"
        raise InvalidInput(said, where=name, hint=hint)
    return text
