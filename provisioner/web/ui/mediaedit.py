"""Changing what there is to install, a distro or an image, with a look at what that would do to machines."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from flask import Response

from provisioner.core.choices import IMAGE_FORMATS, IMAGE_KINDS
from provisioner.core.firmware import FAMILIES
from provisioner.errors import InvalidInput, ProvisionerError, Stale
from provisioner.services import installables, mediaviews
from provisioner.services.site import Site
from provisioner.web.ui import conflicts, media, reviews
from provisioner.web.ui.media import DISTROS, IMAGES, Kind
from provisioner.web.ui.pages import Pages, Visit, path

pages = Pages()
Typed = dict[str, str]


@dataclass(frozen=True)
class _Form:
    """What of a kind can be changed."""

    kind: Kind
    texts: tuple[str, ...]
    """They stand in the form as they are."""
    files: tuple[str, ...]
    """URLs of other files; where nothing is typed the file stays."""
    optional: tuple[str, ...]
    """Those of the files that may be taken away."""
    edit: Callable[..., Mapping[str, Any]]


_DISTRO = _Form(
    DISTROS,
    ("os", "version", "tree"),
    ("kernel", "initrd", "iso", "rootfs"),
    ("iso", "rootfs"),
    installables.edit_distro,
)
_IMAGE = _Form(IMAGES, ("version", "kind", "format", "root"), ("file",), (), installables.edit_image)


@pages.get("/distros/<name>/edit", "distros", verb="write")
def ask_distro(visit: Visit, name: str) -> Response:
    """The form to change a distro."""
    return _ask(visit, _DISTRO, name)


@pages.post("/distros/<name>/edit", "distros")
def save_distro(visit: Visit, name: str) -> Response:
    """Change it, or show what that would do."""
    return _sent(visit, _DISTRO, name)


@pages.get("/images/<name>/edit", "images", verb="write")
def ask_image(visit: Visit, name: str) -> Response:
    """The form to change an image."""
    return _ask(visit, _IMAGE, name)


@pages.post("/images/<name>/edit", "images")
def save_image(visit: Visit, name: str) -> Response:
    """Change it, or show what that would do."""
    return _sent(visit, _IMAGE, name)


def _ask(visit: Visit, form: _Form, name: str) -> Response:
    thing = mediaviews.shown(visit.site, form.kind.one, name)
    return _page(visit, form, thing, _shown(form, thing))


def _sent(visit: Visit, form: _Form, name: str) -> Response:
    thing = mediaviews.shown(visit.site, form.kind.one, name)
    names = (*form.texts, *form.files, *(f"no_{each}" for each in form.optional), "reason")
    typed = {each: visit.field(each).strip() for each in names}
    base = visit.field("revision")

    def save(site: Site) -> Mapping[str, Any]:
        with visit.noting() as noted:
            return form.edit(site, visit.actor, name, change, media.fetched(noted), expect=base)

    try:
        change = _change(visit, form, thing, typed)
        if visit.field("look"):
            return _page(visit, form, thing, typed, revision=base, review=reviews.rehearse(visit, save, ""))
        save(visit.site)
    except Stale as error:
        was = conflicts.before(visit.site, form.kind.one, name, base)
        merged = conflicts.merged(was, typed, thing, lambda each: _shown(form, each))
        rows = conflicts.theirs(visit.site, form.kind.one, name, base)
        return _page(visit, form, thing, dict(merged.fields), error.status, rows=rows, merged=merged)
    except ProvisionerError as error:
        return _page(visit, form, thing, typed, error.status, revision=base, error=error)
    place = path(form.kind.many, name)
    if not change:
        return visit.redirect(place, f"Nothing of {name} changed.")
    said = f"The {form.kind.one} {name} is changed. Builds under way keep what they were sealed with."
    return visit.redirect(place, said, href=f"/history?object={form.kind.one}/{name}", link="What changed")


def _shown(form: _Form, thing: Mapping[str, Any]) -> Typed:
    """What stands in the fields before anybody types."""
    return {each: str(thing[each] or "") for each in form.texts}


def _change(visit: Visit, form: _Form, thing: Mapping[str, Any], typed: Typed) -> dict[str, str]:
    """What is to be another than it is. Raises InvalidInput, which names the field."""
    was = _shown(form, thing)
    change = {each: typed[each] for each in form.texts if typed[each] != was[each]}
    for needed in ("os", "version"):
        if change.get(needed) == "":
            raise InvalidInput(f"the {needed} is missing", where=needed, hint=f"it was {was[needed]}")
    for each in (*(name for name in ("tree",) if change.get(name)), *form.files):
        if typed[each]:
            change[each] = media.url(visit, each)
    gone = [each for each in form.optional if typed[f"no_{each}"] and each in thing["files"]]
    return change | {each: "" for each in gone if not typed[each]}


def _page(
    visit: Visit, form: _Form, thing: Mapping[str, Any], typed: Mapping[str, str], status: int = 200, **more: Any
) -> Response:
    around = {"error": None, "rows": None, "merged": None, "review": None, "revision": thing["revision"]} | more
    around |= {"systems": list(FAMILIES), "kinds": list(IMAGE_KINDS), "formats": list(IMAGE_FORMATS)}
    return visit.render("distros/edit.html", status, kind=form.kind, form=form, thing=thing, typed=typed, **around)
