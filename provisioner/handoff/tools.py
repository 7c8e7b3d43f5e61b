"""The tools by name."""

from provisioner.errors import UnknownReference
from provisioner.handoff.ansible_pull import AnsiblePull
from provisioner.handoff.ansible_push import AnsiblePush
from provisioner.handoff.awx import Awx
from provisioner.handoff.cfengine import CFEngine
from provisioner.handoff.chef import Chef
from provisioner.handoff.none import NoTool
from provisioner.handoff.protocol import Tool
from provisioner.handoff.puppet import Puppet
from provisioner.handoff.salt import Salt
from provisioner.handoff.script import Script

_ALL: tuple[Tool, ...] = (AnsiblePull(), AnsiblePush(), Awx(), CFEngine(), Chef(), NoTool(), Puppet(), Salt(), Script())
_TOOLS: dict[str, Tool] = {each.name: each for each in _ALL}


def tool(name: str) -> Tool:
    """The tool of this name. Raises UnknownReference that lists the known ones."""
    if name not in _TOOLS:
        raise UnknownReference(
            f"there is no handoff tool {name!r}", where="handoff.tool", hint=f"known: {', '.join(sorted(_TOOLS))}"
        )
    return _TOOLS[name]
