"""Time zones: an installer asks on its console for one that it does not know, or takes UTC without a word."""

import difflib
import zoneinfo
from collections.abc import Mapping
from functools import cache
from typing import Any

from provisioner.errors import InvalidInput


@cache
def _known() -> frozenset[str]:
    """Those of this host's tz database; empty where it has none."""
    return frozenset(zoneinfo.available_timezones())


def check(parameters: Mapping[str, Any]) -> None:
    """Raise InvalidInput if ``timezone`` is not in the tz database."""
    zone = parameters.get("timezone")
    if not isinstance(zone, str) or not _known() or zone in _known():
        return
    by_lower = {each.lower(): each for each in _known()}
    near = difflib.get_close_matches(zone.lower().replace(" ", "_")[:80], by_lower, n=1)
    meant = f"did you mean {by_lower[near[0]]}? " if near else "write it as Europe/Berlin or UTC. "
    raise InvalidInput(
        f"{zone[:80]!r} is no time zone",
        where="parameters.timezone",
        hint=f"{meant}`timedatectl list-timezones` has them all; old names, such as US/Pacific, need Debian's"
        " tzdata-legacy on this host",
    )
