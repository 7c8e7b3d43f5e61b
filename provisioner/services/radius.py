"""Blast radius: what a rehearsed change of a profile, template, snippet, parameter or subnet does to the fleet.

A `Watch` sees each change inside its transaction, before it is rolled back. `report` then renders every machine that
the change reaches as it is and as it would be, outside any transaction, and groups the differences.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from provisioner.services import fleet
from provisioner.services.differing import Findings
from provisioner.services.files import Held
from provisioner.services.fleet import Content, Row
from provisioner.services.rerender import Pair, Rerender
from provisioner.services.site import Site
from provisioner.store.engine import read
from provisioner.store.models import Machine, Revision

Counting = Callable[[str, int, int], None]
"""Told what is done, how much of it, and in all."""
TOGETHER = 250
"""So many machines are rendered in one confined process."""
_KINDS = frozenset({"machine", "profile", "template", "subnet", "distro", "image"})


@dataclass(frozen=True)
class Reach:
    """Which machines a change can reach: rows of each kind, and the names of templates."""

    profiles: frozenset[int]
    """Those whose lineage, distro or template is touched."""
    perhaps: frozenset[int]
    """Those whose build has further files, whose templates may be touched."""
    subnets: frozenset[int]
    machines: frozenset[int]
    templates: frozenset[str]

    @property
    def condition(self) -> ColumnElement[bool]:
        """Chooses all of them."""
        return fleet.chosen(self.profiles | self.perhaps, self.subnets, self.machines)

    def surely(self, row: Row) -> bool:
        """Whether the machine is reached whatever its further files are."""
        return (
            row["id"] in self.machines
            or row["profile_id"] in self.profiles
            or any(nic["subnet_id"] in self.subnets for nic in row["interfaces"])
        )


@dataclass(frozen=True)
class Seen:
    """A rehearsed change: the content on both sides, and the machines that it changed themselves as they would be."""

    before: Content
    after: Content
    machines: Mapping[int, Row]
    reach: Reach


@dataclass
class Watch:
    """For ``site.rehearsing(watch)``: notes each change that can reach a machine before it is rolled back."""

    site: Site
    seen: list[Seen] = field(default_factory=list)
    pretended: dict[str, Held] = field(default_factory=dict)
    """See `Site.pretended`."""

    def __call__(self, session: Session) -> None:
        """Look at a change. The write lock is held, so what is committed is what this change starts from."""
        with read(self.site.engine) as committed:
            tip = committed.scalar(select(func.max(Revision.id))) or 0
            new = select(Revision).where(Revision.id > tip, Revision.kind.in_(_KINDS))
            revisions = session.scalars(new).all()
            if not revisions:
                return
            before = fleet.content(committed)
        ids = frozenset(each.object_id for each in revisions if each.kind == "machine")
        templates = _templates(revisions)
        after = fleet.content(session)
        # What would be kept as a draft is shown too: one asks what the text does, not whether it would be served.
        drafts = {name: text for name, text in after.drafts.items() if name in templates}
        after = replace(after, sources={**after.sources, **drafts})
        rows = {row["id"]: row for row in fleet.rows(session, Machine.id.in_(sorted(ids)))} if ids else {}
        self.seen.append(Seen(before, after, rows, _reach(before, after, revisions, templates, ids)))


def _templates(revisions: Sequence[Revision]) -> frozenset[str]:
    sides = (side for each in revisions if each.kind == "template" for side in (each.before, each.after))
    return frozenset(side["name"] for side in sides if side)


def _reach(
    before: Content,
    after: Content,
    revisions: Sequence[Revision],
    templates: frozenset[str],
    machines: frozenset[int],
) -> Reach:
    changed = frozenset(each.object_id for each in revisions if each.kind == "profile")
    profiles, perhaps = set(), set()
    for key in {*before.profiles, *after.profiles}:
        sides = [side for side in (before, after) if key in side.profiles]
        if _touched(sides, key, changed, templates):
            profiles.add(key)
        elif any(_further(side, key, templates) for side in sides):
            perhaps.add(key)
    subnets = frozenset(each.object_id for each in revisions if each.kind == "subnet")
    return Reach(frozenset(profiles), frozenset(perhaps), subnets, machines, templates)


def _touched(sides: Sequence[Content], key: int, changed: frozenset[int], templates: frozenset[str]) -> bool:
    """Whether a profile inherits from a changed one, means another distro, or renders a changed template."""
    if any(not changed.isdisjoint(side.lineage(key)) for side in sides):
        return True
    if len(sides) == 2 and fleet.picked(sides[0], key) != fleet.picked(sides[1], key):
        return True
    mains = ((side, fleet.main_template(side, key)) for side in sides)
    return any(main is not None and not templates.isdisjoint(side.includes.reached(main)) for side, main in mains)


def _further(side: Content, key: int, templates: frozenset[str]) -> bool:
    """Whether a changed template may make a further file: one of the same kind that no profile names."""
    main = fleet.main_template(side, key)
    if main is None or not templates:
        return False
    named = {each["template"] for each in side.profiles.values()}
    kind = main.partition("/")[0]
    unnamed = [name for name in {*side.sources, *templates} - named if name.startswith(f"{kind}/")]
    return not templates.isdisjoint(side.includes.reached_by(unnamed))


def report(site: Site, watch: Watch | None, progress: Counting | None = None) -> dict[str, Any] | None:
    """What the rehearsed changes do to the machines that they reach, as plain data; None when they can reach none.

    ``reached``, ``changed``, ``failed``, ``unchanged`` count machines. ``groups`` are those whose files differ alike:
    ``machines`` (names), ``example`` (one of them) with its ``files`` (unified diffs by file, tokens masked), and what
    the installer's validator says of them (``problem``, ``warnings``). ``errors`` are those that render now and would
    not then; ``unrendered`` those that render neither now nor then, with the reason; ``mended`` those that would render
    and do not now. ``sealed`` have a build under way, which keeps what it was sealed with.
    """
    if watch is None or not watch.seen:
        return None
    site = replace(site, pretended=watch.pretended)
    findings = Findings(site)
    with read(site.engine) as session:
        total = sum(fleet.count(session, seen.reach.condition) for seen in watch.seen)
    done = 0
    for seen in watch.seen:
        renderer = Rerender(site, seen.before, seen.after)
        for pairs in renderer.compared(_batches(site, seen)):
            findings.take(each for each in pairs if _reached(seen, each))
            done += len(pairs)
            if progress is not None:
                progress("rendered", min(done, total), total)
    findings.validate(progress)
    return findings.told()


def _batches(site: Site, seen: Seen) -> Iterator[list[tuple[Row | None, Row | None]]]:
    """Machines as they are and as they would be; None on the side where there is none."""
    gone = {key for key in seen.reach.machines if key not in seen.machines}
    new = dict(seen.machines)
    for rows in fleet.pages(lambda: read(site.engine), seen.reach.condition, TOGETHER):
        yield [(row, new.pop(row["id"], row)) for row in rows if row["id"] not in gone]
    added = iter(new.values())
    while batch := list(itertools.islice(added, TOGETHER)):
        yield [(None, row) for row in batch]


def _reached(seen: Seen, pair: Pair) -> bool:
    rows = [row for row in (pair.row, pair.new_row) if row is not None]
    return any(seen.reach.surely(row) for row in rows) or not seen.reach.templates.isdisjoint(pair.templates)
