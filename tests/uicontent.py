"""Content that is validated in a moment, for the tests of the pages of profiles and templates."""

from world import ACTOR, World

from provisioner.core.content import check_profile
from provisioner.services import profiles, templates
from provisioner.store.engine import write

TINY = "script/tiny.sh.j2"
TEXT = "set -e\necho {{ parameters.motd | sh }}\necho done\n"
HOSTILE = (
    "<svg onload=alert(1)>",
    '"><img src=x onerror=alert(1)>',
    "javascript:alert(1)",
    "{{7*7}}",
    "\u202egnirts",
    "=cmd|' /C calc'!A0",
)


def tiny(world: World, machines: int = 2) -> None:
    """A profile `tiny` with a template of its own, and machines that have it."""
    world.subnet()
    world.distro()
    data = {"name": "tiny", "distro": "rocky-9.6", "template": TINY, "parameters": {"motd": "hi"}}
    content = check_profile(data | {"description": "A tiny one"}, "tiny")
    with write(world.site.engine) as session:
        templates.put(session, ACTOR, TINY, TEXT)
        profiles.put(session, ACTOR, content, source=None)
    for number in range(11, 11 + machines):
        world.machine(f"web{number}", f"52:54:00:12:36:{number}", f"127.0.2.{number}", profile="tiny")
