"""A page of any list: rows in a total order, and the cursors of where the page ended and began.

A cursor with a ``~`` before it asks for the page that ends before its row: the same walk backwards, at the same cost.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, Integer, Select, and_, func, literal, or_, true, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session

from provisioner.core import cursors
from provisioner.errors import InvalidInput, TooLarge
from provisioner.store.base import UtcTime

MOST = 500
_LARGEST = 2**63 - 1
_LONGEST = 255
_BACK = "~"
Column: TypeAlias = InstrumentedAttribute[Any]


@dataclass(frozen=True)
class Order:
    """Columns to sort by, the last one unique; two at most."""

    columns: tuple[Column, ...]
    down: bool = False

    def by(self) -> list[ColumnElement[Any]]:
        """What stands after ORDER BY."""
        return [column.desc() if self.down else column.asc() for column in self.columns]

    def beyond(self, values: Sequence[Any]) -> ColumnElement[bool]:
        """Whether a row stands after the one with these values."""
        typed = [literal(value, column.type) for value, column in zip(values, self.columns, strict=True)]
        row = self.columns[0] if len(typed) == 1 else tuple_(*self.columns)
        end = typed[0] if len(typed) == 1 else tuple_(*typed)
        return row < end if self.down else row > end

    @property
    def turned(self) -> "Order":
        """The same backwards."""
        return replace(self, down=not self.down)

    def encoded(self, row: Any) -> list[cursors.Value]:
        """The row's values, as a cursor holds them."""
        values = [getattr(row, column.key) for column in self.columns]
        return [value.isoformat() if isinstance(value, datetime) else value for value in values]

    def decoded(self, values: Sequence[cursors.Value]) -> list[Any]:
        """Values from a cursor. Raises InvalidInput where they are none of these columns'."""
        return [_typed(column, value) for column, value in zip(self.columns, values, strict=True)]


@dataclass(frozen=True)
class Asked:
    """Which page of a list a caller asks for."""

    noun: str
    limit: int
    cursor: str | None
    sort: str
    filters: Mapping[str, Any]
    both: bool = False
    """Whether ``previous`` is told besides ``next``."""

    @property
    def bound(self) -> dict[str, Any]:
        """What a cursor is bound to."""
        return {"noun": self.noun, "sort": self.sort, **self.filters}

    def encode(self, values: Sequence[cursors.Value]) -> str:
        """The cursor of a row with these values."""
        return cursors.encode(self.bound, values)

    def decode(self, length: int) -> list[cursors.Value] | None:
        """The values in the cursor; None on the first page. Raises InvalidInput."""
        return None if not self.cursor else cursors.decode(self.bound, self.cursor.removeprefix(_BACK), length)

    @property
    def back(self) -> bool:
        """Whether the page before the cursor's row is asked for."""
        return bool(self.cursor) and str(self.cursor).startswith(_BACK)

    @property
    def first(self) -> "Asked":
        """The first page of the same list."""
        return replace(self, cursor=None)


def asked(
    noun: str,
    limit: int,
    cursor: str | None,
    sort: str,
    filters: Mapping[str, Any],
    possible: Sequence[str],
    *,
    both: bool = False,
) -> Asked:
    """A page, checked; ``filters`` that are None or empty are none. Raises InvalidInput and TooLarge."""
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        raise InvalidInput(f"a page of {limit!r} rows is none", where="limit", hint=f"ask for 1 to {MOST}")
    if limit > MOST:
        raise TooLarge(f"a page of {limit} rows is too large", where="limit", hint=f"ask for 1 to {MOST}, page on")
    if sort.removeprefix("-") not in possible:
        raise InvalidInput(
            f"{noun} cannot be sorted by {sort[:40]!r}",
            where="sort",
            hint=f"sort by {', '.join(possible)}; with - before it, backwards",
        )
    given = {name: value for name, value in filters.items() if value is not None and value != ""}
    for name, value in given.items():
        check_text(value, name)
    return Asked(noun, limit, cursor, sort, given, both)


def check_text(value: Any, where: str) -> None:
    """Raise InvalidInput for a text that no database row could match, or that a database would refuse."""
    if isinstance(value, str) and (len(value) > _LONGEST or not value.isprintable()):
        raise InvalidInput(f"{value[:80]!r} cannot be in any {where}", where=where, hint="check the spelling")


def refuse_unknown(noun: str, filters: Mapping[str, Any], possible: Sequence[str]) -> None:
    """Raise InvalidInput for a filter that the list does not have."""
    unknown = sorted(set(filters) - set(possible))
    if unknown:
        raise InvalidInput(
            f"{noun} cannot be filtered by {unknown[0][:40]!r}",
            where=unknown[0][:40],
            hint=f"filter by {', '.join(possible)}" if possible else f"{noun} have no filters",
        )


def fetch(
    session: Session, query: Select[Any], order: Order, page: Asked, view: Callable[[Sequence[Any]], list[Any]]
) -> dict[str, Any]:
    """The page of a query: ``items``, and the cursors of the pages beside it (see `paged`)."""
    values = page.decode(len(order.columns))
    walk = order.turned if page.back else order
    beyond = query if values is None else query.where(walk.beyond(order.decoded(values)))
    found = session.scalars(beyond.order_by(*walk.by()).limit(page.limit + 1)).unique().all()
    if begins(found, page):
        return fetch(session, query, order, page.first, view)
    return paged(found, page, order.encoded, view)


def begins(found: Sequence[Any], page: Asked) -> bool:
    """Whether a walk backwards came to the list's beginning: then the first page is shown, with all that it holds."""
    return page.back and len(found) <= page.limit


def paged(
    found: Sequence[Any],
    page: Asked,
    encoded: Callable[[Any], Sequence[cursors.Value]],
    view: Callable[[Sequence[Any]], list[Any]],
) -> dict[str, Any]:
    """A page of the rows that were found, one of which more than it may hold tells that there is another: ``items``,
    ``next``, the cursor of the page after it or None, and, if both are asked for, ``previous``.

    Of a page backwards the rows come from its end to its beginning.
    """
    more = len(found) > page.limit
    shown = found[: page.limit][::-1] if page.back else found[: page.limit]
    after = page.encode(encoded(shown[-1])) if shown and (more or page.back) else None
    told = {"items": view(shown), "next": after}
    return told | {"previous": _before(page, shown, encoded)} if page.both else told


def _before(page: Asked, shown: Sequence[Any], encoded: Callable[[Any], Sequence[cursors.Value]]) -> str | None:
    """The cursor of the page before this one. A walk backwards to the list's beginning became the first page."""
    if not page.cursor:
        return None
    # Where all that stood on a page is gone, what stood before it may be there.
    return _BACK + (page.encode(encoded(shown[0])) if shown else page.cursor)


def contains(columns: Sequence[Column], text: str) -> ColumnElement[bool]:
    """Whether every word of the text is a part of one of the columns, whatever the case."""
    words = text.lower().split()
    return and_(
        true(), *(or_(*(func.lower(each).contains(word, autoescape=True) for each in columns)) for word in words)
    )


def _typed(column: Column, value: cursors.Value) -> Any:
    kind, good = column.type, False
    if isinstance(kind, UtcTime):
        try:
            return datetime.fromisoformat(str(value)).astimezone(UTC)
        except (ValueError, OverflowError):
            good = False
    elif isinstance(kind, Integer):
        good = isinstance(value, int) and abs(value) <= _LARGEST
    else:
        good = isinstance(value, str) and value.isprintable()
    if not good:
        raise InvalidInput("this cursor is none of ours", where="cursor", hint="begin again without one")
    return value
