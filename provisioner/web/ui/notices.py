"""Notices: what just happened, said at the top of the next page. They travel in the signed cookie: they are short."""

from dataclasses import dataclass

from flask import session

_KEY = "notices"
_MOST, _LONGEST = 5, 300


@dataclass(frozen=True)
class Notice:
    """A sentence, and a link to what it is about. ``level`` is done or warning."""

    text: str
    level: str = "done"
    href: str = ""
    link: str = ""


def say(text: str, *, level: str = "done", href: str = "", link: str = "") -> None:
    """Say it on the page that comes next; ``href`` is a path on this server."""
    told = [text[:_LONGEST], level, href[:_LONGEST], link[:100]]
    session[_KEY] = [*session.get(_KEY, [])[-(_MOST - 1) :], told]


def heard() -> list[Notice]:
    """Those that wait; they are said once."""
    return [Notice(*told) for told in session.pop(_KEY, [])]
