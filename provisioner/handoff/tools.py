"""The tools by name."""

from provisioner.errors import UnknownReference
from provisioner.handoff import none, script
from provisioner.handoff.protocol import Tool

_TOOLS: dict[str, Tool] = {none.name: none, script.name: script}


def tool(name: str) -> Tool:
    """The tool of this name. Raises UnknownReference that lists the known ones."""
    if name not in _TOOLS:
        raise UnknownReference(
            f"there is no handoff tool {name!r}", where="handoff.tool", hint=f"known: {', '.join(sorted(_TOOLS))}"
        )
    return _TOOLS[name]
