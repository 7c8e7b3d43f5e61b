"""Images: whole systems that are written to a disk."""

from collections.abc import Mapping
from typing import Any

from flask import Response

from provisioner.core.choices import IMAGE_FORMATS, IMAGE_KINDS
from provisioner.core.firmware import FAMILIES
from provisioner.errors import ProvisionerError
from provisioner.services import installables
from provisioner.services.installables import ImageInput
from provisioner.web.ui import media
from provisioner.web.ui.media import IMAGES
from provisioner.web.ui.pages import Pages, Visit, path

pages = Pages()
_FIELDS = ("name", "file", "os", "version", "kind", "format", "root", "reason")


@pages.get("/images", "images")
def listing(visit: Visit) -> Response:
    """All of them."""
    return media.listing(visit, IMAGES)


@pages.get("/images:add", "images", verb="write")
def ask_new(visit: Visit) -> Response:
    """The form."""
    return _form(visit, dict.fromkeys(_FIELDS, "") | {"kind": "stem-cell", "format": "raw.gz"})


@pages.post("/images:add", "images")
def add(visit: Visit) -> Response:
    """Fetch the file and register it."""
    fields = {name: visit.field(name).strip() for name in _FIELDS}
    try:
        given = ImageInput(
            media.url(visit, "file"),
            fields["os"],
            fields["version"],
            fields["kind"],
            fields["format"],
            fields["root"][:128],
        )
        with visit.noting() as noted:
            installables.add_image(visit.site, visit.actor, fields["name"], given, media.fetched(noted))
    except ProvisionerError as error:
        return _form(visit, fields, error.status, error)
    return visit.redirect(path("images", fields["name"]), f"The image {fields['name']} is added.")


def _form(visit: Visit, fields: Mapping[str, str], status: int = 200, error: Any = None) -> Response:
    choices = {"systems": list(FAMILIES), "kinds": IMAGE_KINDS, "formats": IMAGE_FORMATS}
    return media.form(visit, "add_image", status, fields=fields, error=error, **choices)


@pages.get("/images/<name>", "images")
def show(visit: Visit, name: str) -> Response:
    """One image."""
    return media.show(visit, IMAGES, name)


@pages.get("/images/<name>/remove", "images", verb="write")
def ask_removal(visit: Visit, name: str) -> Response:
    """What its removal would do."""
    return media.ask_removal(visit, IMAGES, name)


@pages.post("/images/<name>/remove", "images")
def remove(visit: Visit, name: str) -> Response:
    """Remove it."""
    return media.removed(visit, IMAGES, name)


@pages.post("/images/<name>/rename", "images")
def rename(visit: Visit, name: str) -> Response:
    """Give it another name."""
    return media.renamed(visit, IMAGES, name)
