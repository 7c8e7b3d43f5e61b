"""What schemathesis (which loads this) does with each request before it is sent.

Generated names and ETags are nobody's: most operations would answer 404, 401 or 412 and never come to their work. So
half of the valid ones get the name of an object that is there, and `*` for an ETag. And no request may take the rights
of the fuzzer itself: all that came after it would be refused unread.
"""

import zlib
from typing import Any

import schemathesis
from schemathesis.core.parameters import ParameterLocation
from schemathesis.generation import GenerationMode
from schemathesis.generation.meta import TestPhase

MINE = {"tokens": "schemathesis", "users": "admin"}
"""The token that the requests carry, and its owner."""
THERE: dict[str, dict[str, Any]] = {
    "machines": {"name": "web01", "mac": "52:54:00:12:34:56", "secret": "root_password"},
    "subnets": {"name": "lab"},
    "distros": {"name": "rocky-9.6"},
    "images": {"name": "golden"},
    "profiles": {"name": "rocky9"},
    "templates": {"kind": "snippets", "name": "users.sh.j2"},
    "users": {"name": "bob"},
    "tokens": {"name": "spare"},
    "webhooks": {"name": "chatter"},
    "builds": {"id": 1},
    "discoveries": {"mac": "52:54:00:99:99:99"},
}
"""Objects of each kind; the test makes them."""


@schemathesis.hook
def before_call(context: Any, case: Any, **_: Any) -> None:
    """Change the request; schemathesis looks itself whether it is still valid."""
    names = case.path_parameters or {}
    noun = context.operation.path.removeprefix("/api/v1/").partition("/")[0].partition(":")[0]
    if names and noun in THERE and _valid(case, ParameterLocation.PATH) and _half(names) and not _ends(context, case):
        for key in names.keys() & THERE[noun].keys():
            names[key] = THERE[noun][key]
    if case.meta and case.meta.phase.name is TestPhase.STATEFUL and "X-Dry-Run" in (case.headers or {}):
        case.headers["X-Dry-Run"] = "false"  # what a rehearsal answered is not there to be gone on with
    if names.get("name") is not None and names["name"] == MINE.get(noun):
        names["name"] = "nobody"
    headers = case.headers or {}
    if "If-Match" in headers and _valid(case, ParameterLocation.HEADER) and _half(headers["If-Match"], names):
        headers["If-Match"] = "*"


def _valid(case: Any, where: ParameterLocation) -> bool:
    component = case.meta and case.meta.components.get(where)
    return component is not None and component.mode is GenerationMode.POSITIVE


def _half(*what: Any) -> bool:
    """The same for the same request: what failed must fail again."""
    return zlib.crc32(repr(what).encode()) % 2 == 0


def _ends(context: Any, case: Any) -> bool:
    """Whether the object would not be there afterwards, or not by that name, for those that come next."""
    rehearsed = (case.headers or {}).get("X-Dry-Run") == "true"
    return not rehearsed and (context.operation.method == "delete" or context.operation.path.endswith(":rename"))
