"""Content that no door lets in any more, as a database may hold it that was filled before there was validation."""

from world import ACTOR

from provisioner.services import templates
from provisioner.services.site import Site
from provisioner.store.engine import write


def in_force_without_validation(site: Site, name: str, text: str) -> None:
    """Put the text in force, whatever is wrong with it."""
    with write(site.engine) as session:
        templates.put(session, ACTOR, name, text)
