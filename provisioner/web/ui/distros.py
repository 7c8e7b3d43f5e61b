"""Distros: what there is to install."""

from collections.abc import Mapping
from typing import Any

from flask import Response

from provisioner.core.firmware import FAMILIES
from provisioner.core.mediatree import Answers
from provisioner.errors import ProvisionerError
from provisioner.services import installables, mediaimport
from provisioner.services.installables import DistroInput
from provisioner.web.ui import media
from provisioner.web.ui.media import DISTROS
from provisioner.web.ui.pages import Pages, Visit, path

pages = Pages()
_FIELDS = ("name", "url", "os", "version", "kernel", "initrd", "tree", "iso", "rootfs", "reason")


@pages.get("/distros", "distros")
def listing(visit: Visit) -> Response:
    """All of them."""
    return media.listing(visit, DISTROS)


@pages.get("/distros:add", "distros", verb="write")
def ask_new(visit: Visit) -> Response:
    """The form: a tree that says itself what it is, or kernel and initrd one by one."""
    fields = dict.fromkeys(_FIELDS, "") | {"os": visit.arg("os") if visit.arg("os") in FAMILIES else ""}
    return _form(visit, fields)


@pages.post("/distros:add", "distros")
def add(visit: Visit) -> Response:
    """Fetch it and register it."""
    fields = {name: visit.field(name).strip() for name in _FIELDS}
    try:
        if fields["kernel"] or fields["initrd"]:
            _add_pieces(visit, fields)
        else:
            answers = Answers(fields["os"], fields["version"])
            place = media.url(visit, "url")
            with visit.noting() as noted:
                mediaimport.add_from_url(visit.site, visit.actor, fields["name"], place, answers, noted)
    except ProvisionerError as error:
        return _form(visit, fields, error.status, error)
    users = mediaimport.fitting(visit.site, fields["name"])
    said = f"The distro {fields['name']} is added."
    said += f" It fits {', '.join(users[:5])}{' and more' if len(users) > 5 else ''}." if users else ""
    return visit.redirect(path("distros", fields["name"]), said)


def _add_pieces(visit: Visit, fields: Mapping[str, str]) -> None:
    urls = {role: media.url(visit, role) for role in ("kernel", "initrd")}
    urls |= {role: media.url(visit, role, needed=False) for role in ("tree", "iso", "rootfs")}
    given = DistroInput(fields["os"], fields["version"], **urls)
    with visit.noting() as noted:
        installables.add_distro(visit.site, visit.actor, fields["name"], given, media.fetched(noted))


def _form(visit: Visit, fields: Mapping[str, str], status: int = 200, error: Any = None) -> Response:
    return media.form(visit, "add", status, fields=fields, error=error, systems=list(FAMILIES))


@pages.get("/distros/<name>", "distros")
def show(visit: Visit, name: str) -> Response:
    """One distro."""
    return media.show(visit, DISTROS, name)


@pages.get("/distros/<name>/remove", "distros", verb="write")
def ask_removal(visit: Visit, name: str) -> Response:
    """What its removal would do."""
    return media.ask_removal(visit, DISTROS, name)


@pages.post("/distros/<name>/remove", "distros")
def remove(visit: Visit, name: str) -> Response:
    """Remove it."""
    return media.removed(visit, DISTROS, name)


@pages.post("/distros/<name>/rename", "distros")
def rename(visit: Visit, name: str) -> Response:
    """Give it another name."""
    return media.renamed(visit, DISTROS, name)
