"""Machines found by a part of anything they are known by, as fast among 100,000 as among 100.

Each machine has one line of words (`machine_words`). SQLite indexes its trigrams with FTS5, kept by triggers;
PostgreSQL with pg_trgm, where that extension can be had.
"""

from collections.abc import Iterable

from sqlalchemy.orm import Session

from provisioner.store.models import Machine, MachineWords


def words_of(name: str, facts: Iterable[str | None], macs: Iterable[str], ips: Iterable[str | None]) -> str:
    """The words of one machine: ``facts`` are serial number, UUID and what an inventory calls it.

    MACs stand without separators, so that a part in any spelling is found once its separators are taken away.
    """
    bare = (mac.replace(":", "") for mac in macs)
    return " ".join(filter(None, (name, *facts, *bare, *ips))).lower()


def index(session: Session, machine: Machine) -> None:
    """Write the words of a machine that was changed; the caller flushes."""
    facts = (machine.serial, machine.uuid, machine.inventory)
    words = words_of(
        machine.name, facts, [each.mac for each in machine.interfaces], [each.ip for each in machine.interfaces]
    )
    if machine.words is None:
        machine.words = MachineWords(words=words)
    elif machine.words.words != words:
        machine.words.words = words
    session.flush()
