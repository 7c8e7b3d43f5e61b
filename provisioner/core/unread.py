"""Parameters that somebody gave for one build and that no template reads: a slip of the fingers, most often."""

import difflib
import re
from collections.abc import Iterable

from provisioner.core.parameters import Resolved

REQUEST = "build request"
"""The level of what is given when a build is started."""


def unread(resolved: Resolved, texts: Iterable[str]) -> list[str]:
    """A sentence for each parameter that the build request alone gives and whose name is in none of the texts.

    It is no mistake for certain: the handoff's tool may take it from the inventory.
    """
    given = [name for name, each in resolved.parameters.items() if each.source == REQUEST and not each.overrides]
    if not given:
        return []
    words = {word for text in texts for word in re.findall(r"\w+", text)}
    known = sorted(resolved.parameters.keys() - set(given))
    told = []
    for name in sorted(set(given) - words):
        near = difflib.get_close_matches(name, known, n=1)
        meant = f"; did you mean {near[0]}?" if near else ""
        told.append(f"no template or snippet reads the parameter {name}{meant}")
    return told
