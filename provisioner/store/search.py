"""Machines found by a part of anything they are known by, as fast among 100,000 as among 100.

Each machine has one line of words (`machine_words`), which begins with its name. SQLite indexes its trigrams with
FTS5, kept by triggers; PostgreSQL with pg_trgm, where that extension can be had.
"""

import contextlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, exists, literal_column, or_, select, table
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import InstrumentedAttribute, Session
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from provisioner.core.addresses import looks_like_mac, normal_mac
from provisioner.errors import InvalidInput, MalformedMac
from provisioner.store.engine import is_sqlite
from provisioner.store.models import Machine, MachineWords

MOST_CHARACTERS = 200
_MOST_WORDS = 10
_GRAM = 3
_ENOUGH = 3
_SAMPLE = 200
_NEVER = 2**62
_ESCAPE = "\\"
_PAIRS = re.compile(r"[0-9a-f]{0,2}(?:([:-])[0-9a-f]{1,2}(?:\1[0-9a-f]{1,2})*)?\1?")
_QUADS = re.compile(r"[0-9a-f]{0,4}(?:\.[0-9a-f]{4})*(?:\.[0-9a-f]{0,4})?")


def words_of(name: str, facts: Iterable[str | None], macs: Iterable[str | None], ips: Iterable[str | None]) -> str:
    """The words of one machine: ``facts`` are serial number, UUID and what an inventory calls it.

    MACs stand without separators, so that a part in any spelling is found once its separators are taken away.
    """
    bare = (mac.replace(":", "") for mac in macs if mac)
    return " ".join(filter(None, (name, *facts, *bare, *ips))).lower()


def index(session: Session, machine: Machine) -> None:
    """Write the words of a machine that was changed; the caller flushes."""
    facts = (machine.serial, machine.uuid, machine.inventory)
    words = words_of(
        machine.name,
        facts,
        [each.mac for each in machine.interfaces if each.mac],
        [each.ip for each in machine.interfaces],
    )
    if machine.words is None:
        machine.words = MachineWords(words=words)
    elif machine.words.words != words:
        machine.words.words = words
    session.flush()


@dataclass(frozen=True)
class Found:
    """A condition on machines, in two ways that mean the same: which is fast depends on how many it holds for."""

    rows: tuple[Select[Any], ...]
    """The ids of the machines it holds for, and perhaps of some more, by an index; the later, the fewer more."""
    holds: ColumnElement[bool]
    """Whether it holds for the machine of the enclosing query."""
    by_name: ColumnElement[bool] | None = None
    """The same, where an index holds the machines in the order of their names."""


class Unindexed(FunctionElement[Any]):
    """A column whose index SQLite is not to use: without statistics its planner takes any index for selective."""

    inherit_cache = True

    def __init__(self, column: InstrumentedAttribute[Any]) -> None:
        self.type = column.type
        super().__init__(column)


@compiles(Unindexed)
def _plain(element: Unindexed, compiler: SQLCompiler, **options: Any) -> str:
    return compiler.process(element.clauses, **options)


@compiles(Unindexed, "sqlite")
def _plus(element: Unindexed, compiler: SQLCompiler, **options: Any) -> str:
    return f"+{compiler.process(element.clauses, **options)}"


def conditions(session: Session, text: str) -> list[Found]:
    """What a search asks of a machine: every word of the text, anywhere in what it is known by.

    A word of one or two characters is looked for where names begin. Raises InvalidInput for what cannot be searched.
    """
    words = _words(text)
    if not words:
        return []
    long = [each for each in words if len(each) >= _GRAM]
    short = [each for each in words if len(each) < _GRAM]
    found = [_beginning(session, each) for each in short]
    if long:
        spelled = [spellings(each) for each in long]
        holds = and_(*(or_(*(_like(f"%{_literal(each)}%") for each in word)) for word in spelled))
        found.append(Found(_by_trigrams(session, spelled, holds), _within(holds)))
    return found


def spellings(word: str) -> list[str]:
    """A word as it is, and without its separators if it may be a part of a MAC address."""
    found = [word, _bare(word)]
    if looks_like_mac(word):
        with contextlib.suppress(MalformedMac):  # a group address, which no machine has
            found.append(normal_mac(word).replace(":", ""))
    return list(dict.fromkeys(each for each in found if each == word or len(each) >= _GRAM))


def _bare(word: str) -> str:
    """The digits of a part of a MAC address; empty for what cannot be one.

    Between two separators stand two digits, or four in Cisco's spelling; ``10.0`` is a part of an IP address.
    """
    if _PAIRS.fullmatch(word):
        first, *rest = re.split("[:-]", word)
        middle = [each.rjust(2, "0") for each in rest[:-1]]
        return "".join([first, *middle, *rest[-1:]])
    groups = word.split(".")
    if _QUADS.fullmatch(word) and any(len(each) == 4 for each in groups):
        return "".join(groups)
    return ""


def _words(text: str) -> list[str]:
    if len(text) > MOST_CHARACTERS:
        raise InvalidInput(f"a search of {len(text)} characters is too long", where="q", hint="give at most 200")
    words = list(dict.fromkeys(text.lower().split()))
    if not all(each.isprintable() for each in words):
        raise InvalidInput("a search cannot hold control characters", where="q", hint="leave them out")
    if len(words) > _MOST_WORDS:
        raise InvalidInput(f"{len(words)} words are too many", where="q", hint=f"search for at most {_MOST_WORDS}")
    return words


def _literal(word: str) -> str:
    for each in (_ESCAPE, "%", "_"):
        word = word.replace(each, _ESCAPE + each)
    return word


def _like(pattern: str) -> ColumnElement[bool]:
    return MachineWords.words.like(pattern, escape=_ESCAPE)


def _within(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    return exists().where(MachineWords.machine_id == Machine.id, condition).correlate(Machine)


def _beginning(session: Session, word: str) -> Found:
    if is_sqlite(session):
        # Its names are compared byte by byte, so a range of them is a part of their index.
        end = word + "\U0010ffff"
        named, walked = (and_(name >= word, name < end) for name in (Machine.name, Unindexed(Machine.name)))
        return Found((select(Machine.id).where(named),), walked, named)
    begins = _like(f"{_literal(word)}%")
    return Found((select(MachineWords.machine_id).where(begins),), _within(begins))


def _by_trigrams(
    session: Session, words: Sequence[Sequence[str]], holds: ColumnElement[bool]
) -> tuple[Select[Any], ...]:
    if not is_sqlite(session):
        return (select(MachineWords.machine_id).where(holds),)
    grams = {spelled: _grams(spelled) for word in words for spelled in word}
    rare = _rare(session, sorted({gram for each in grams.values() for gram in each}))
    fewer = {spelled: sorted(each, key=lambda gram: -rare[gram])[:_ENOUGH] for spelled, each in grams.items()}
    asked = [_asked(words, fewer), _asked(words, grams)]
    return tuple(_matching(each) for each in dict.fromkeys(asked))


def _asked(words: Sequence[Sequence[str]], grams: Mapping[str, Sequence[str]]) -> str:
    """A query of FTS5 for one spelling of each word."""
    spelled = ((" AND ".join(map(_quoted, grams[each])) for each in word) for word in words)
    return " AND ".join(f"({' OR '.join(f'({each})' for each in word)})" for word in spelled)


def _matching(asked: str) -> Select[Any]:
    fts = table("machine_fts")
    return select(literal_column("rowid")).select_from(fts).where(literal_column("machine_fts").op("MATCH")(asked))


def _rare(session: Session, grams: Sequence[str]) -> dict[str, int]:
    """How rare each trigram is, as far as the place of one of its first rows tells.

    FTS5 reads through all rows of each trigram that it is asked for, so frequent ones are better left out.
    """
    places = select(*(_matching(_quoted(each)).limit(1).offset(_SAMPLE).scalar_subquery() for each in grams))
    row = session.execute(places).one()
    return {gram: _NEVER if place is None else place for gram, place in zip(grams, row, strict=True)}


def _grams(word: str) -> list[str]:
    return list(dict.fromkeys(word[place : place + _GRAM] for place in range(len(word) - _GRAM + 1)))


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'
