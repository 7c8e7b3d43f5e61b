"""Cursors of lists: where a page ended, as a text that callers send back and need not understand.

A cursor holds the values that its last row was sorted by, so a page begins after them whatever was added or removed
in between. It is bound to the list it came from: with another order or another filter it would skip rows unseen.
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from provisioner.errors import InvalidInput

Value: TypeAlias = str | int | None
_SUM = 9
_MOST = 2000


def encode(list_of: Mapping[str, object], values: Sequence[Value]) -> str:
    """The cursor of a row: its sort ``values``, bound to the list (its noun, order and filters)."""
    body = json.dumps(list(values), separators=(",", ":"), ensure_ascii=False).encode()
    return base64.urlsafe_b64encode(_sum(list_of, body) + body).rstrip(b"=").decode()


def decode(list_of: Mapping[str, object], cursor: str, length: int) -> list[Value]:
    """The sort values in a cursor. Raises InvalidInput for one of another list, or one that was changed."""
    try:
        if len(cursor) > _MOST:
            raise ValueError  # noqa: TRY301 - all that is wrong with a cursor has one answer
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        body = raw[_SUM:]
        if raw[:_SUM] != _sum(list_of, body):
            raise ValueError  # noqa: TRY301
        values = json.loads(body)
    except (ValueError, binascii.Error, RecursionError):
        values = None
    if not isinstance(values, list) or len(values) != length:
        raise InvalidInput(
            "this cursor does not belong to this list",
            where="cursor",
            hint="send it back as it came, with the same sort and filters; without a cursor the list begins again",
        )
    return values


def _sum(list_of: Mapping[str, object], body: bytes) -> bytes:
    named = json.dumps(dict(list_of), sort_keys=True, separators=(",", ":")).encode()
    return hashlib.sha256(named + b"\n" + body).digest()[:_SUM]
