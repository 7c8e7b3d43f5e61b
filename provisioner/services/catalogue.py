"""Distros and images by their words, for edges that do not know the tables."""

from functools import partial

from provisioner.services.installables import listing, remove, rename, show
from provisioner.services.site import Actor, Site
from provisioner.store.models import Distro, Image

distros = partial(listing, model=Distro)
images = partial(listing, model=Image)


def distro(site: Site, name: str) -> dict[str, object]:
    """One distro."""
    return show(site, Distro, name)


def image(site: Site, name: str) -> dict[str, object]:
    """One image."""
    return show(site, Image, name)


def rename_distro(
    site: Site, actor: Actor, name: str, new_name: str, *, expect: str | None = None
) -> dict[str, object]:
    """Give a distro another name, unless a profile names it."""
    return rename(site, actor, Distro, name, new_name, expect=expect)


def rename_image(site: Site, actor: Actor, name: str, new_name: str, *, expect: str | None = None) -> dict[str, object]:
    """Give an image another name, unless a profile names it."""
    return rename(site, actor, Image, name, new_name, expect=expect)


def remove_distro(site: Site, actor: Actor, name: str, *, expect: str | None = None) -> None:
    """Remove a distro that no profile names."""
    remove(site, actor, Distro, name, expect=expect)


def remove_image(site: Site, actor: Actor, name: str, *, expect: str | None = None) -> None:
    """Remove an image that no profile names."""
    remove(site, actor, Image, name, expect=expect)
