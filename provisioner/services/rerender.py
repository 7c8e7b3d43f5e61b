"""Machines rendered twice: from the content as it is, and as a change would leave it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeAlias

from provisioner.core.markers import fill
from provisioner.errors import ProvisionerError, RenderLimit
from provisioner.render import confined
from provisioner.services import sealing
from provisioner.services.arming import MASKED_TOKEN
from provisioner.services.fleet import Content, Row
from provisioner.services.resolve import BuildRequest, Gathered, assemble
from provisioner.services.sealing import Order, Payload, Prepared
from provisioner.services.site import Site

MOST_LIMITS = 3
"""After so many that broke the limits, which takes seconds each, no more of a batch is rendered."""
Files: TypeAlias = dict[str, str]
_Rows: TypeAlias = tuple[Row | None, Row | None]


@dataclass
class _Side:
    """A machine on one side of the change."""

    row: Row
    prepared: Prepared | ProvisionerError
    urls: Mapping[str, str] = field(default_factory=dict)
    others: Mapping[str, str] = field(default_factory=dict)
    """The files that no template makes."""
    answers: dict[str, str | ProvisionerError] = field(default_factory=dict)
    """What its templates rendered to; those alone that are not surely equal on both sides."""

    @property
    def wanted(self) -> dict[str, str]:
        """The files that templates make, each with its template."""
        return {} if isinstance(self.prepared, ProvisionerError) else sealing.wanted(self.prepared.order.gathered)

    @property
    def failure(self) -> ProvisionerError | None:
        """Why it cannot be built."""
        if isinstance(self.prepared, ProvisionerError):
            return self.prepared
        return next((each for each in self.answers.values() if isinstance(each, ProvisionerError)), None)

    def texts(self) -> Files:
        """What its templates rendered to, and the files that no template makes; with markers."""
        return {name: text for name, text in self.answers.items() if isinstance(text, str)} | dict(self.others)


_Both: TypeAlias = tuple[_Side | None, _Side | None]


@dataclass(frozen=True)
class Pair:
    """A machine before and after the change: files that differ, by name, or why there are none."""

    row: Row | None
    new_row: Row | None
    before: Files
    after: Files
    failed_before: ProvisionerError | None
    failed_after: ProvisionerError | None
    templates: frozenset[str]
    """All that its files are made of, on either side."""
    sealed_differ: bool
    """Whether a build would be sealed with others; else only the URLs differ that each boot is told anew."""
    prepared: Prepared | None
    """Its build after the change, where it can be rendered."""
    unfilled: Mapping[str, str]
    """What its templates rendered to then, with markers."""

    @property
    def name(self) -> str:
        """What it is called now; a new one, then."""
        row = self.row or self.new_row
        assert row is not None  # noqa: S101 - a pair has one side at least
        return str(row["name"])


@dataclass
class Rerender:
    """Renders machines from two contents, a confined process for each at a time."""

    site: Site
    before: Content
    after: Content
    _payloads: dict[tuple[bool, int], Payload | ProvisionerError] = field(default_factory=dict)
    _same: dict[str, bool] = field(default_factory=dict)
    _hopeless: dict[tuple[bool, str], ProvisionerError] = field(default_factory=dict)

    def compared(self, batches: Iterable[Sequence[_Rows]]) -> Iterator[list[Pair]]:
        """The machines of each batch; while one is being rendered the next is prepared."""
        with ThreadPoolExecutor(2) as pool:
            waiting: tuple[list[_Both], list[Future[None]]] | None = None
            for batch in batches:
                sides = [self._sides(*rows) for rows in batch]
                started = self._start(pool, sides)
                if waiting is not None:
                    yield self._pairs(*waiting)
                waiting = sides, started
            if waiting is not None:
                yield self._pairs(*waiting)

    def _sides(self, row: Row | None, new_row: Row | None) -> _Both:
        return (
            None if row is None else self._side(row, new=False),
            None if new_row is None else self._side(new_row, new=True),
        )

    def _side(self, row: Row, *, new: bool) -> _Side:
        content = self.after if new else self.before
        try:
            parts = content.parts(row)
            gathered = assemble(parts, BuildRequest())
            order = Order(gathered, row["number"], row["secrets"])
            prepared = sealing.prepare(self.site, order, self._payload(gathered, new=new))
            others = sealing.other_files(prepared)
        except ProvisionerError as error:
            return _Side(row, error)
        subnet = parts.subnet or {}
        settings = self.site.settings
        urls = {
            "boot_url": subnet["boot_url"] or settings.boot_in(subnet["cidr"]),
            "media_url": subnet["media_url"] or settings.media_in(subnet["cidr"]),
        }
        return _Side(row, prepared, urls | dict.fromkeys(_TOKENS, MASKED_TOKEN), others)

    def _payload(self, gathered: Gathered, *, new: bool) -> Payload:
        """Looked for once a distro: a file for each machine would be a thousand questions to the disk."""
        key = new, id(gathered.image if gathered.image is not None else gathered.distro)
        if key not in self._payloads:
            try:
                self._payloads[key] = sealing.payload(self.site, gathered)
            except ProvisionerError as error:
                self._payloads[key] = error
        found = self._payloads[key]
        if isinstance(found, ProvisionerError):
            raise found
        return found

    def _start(self, pool: ThreadPoolExecutor, sides: Sequence[_Both]) -> list[Future[None]]:
        """Begin to render whatever may differ."""
        todo: tuple[list[tuple[_Side, str, str]], list[tuple[_Side, str, str]]] = ([], [])
        for before, after in sides:
            for new, side in enumerate((before, after)):
                if side is None or (before and after and _hopeless(before, after)):
                    continue
                other = (after, before)[new]
                for name, template in side.wanted.items():
                    if other is None or not self._equal(side, other, name):
                        todo[new].append((side, name, template))
        return [pool.submit(self._render, jobs, bool(new)) for new, jobs in enumerate(todo) if jobs]

    def _equal(self, side: _Side, other: _Side, name: str) -> bool:
        """Whether this file is made from the same on both sides, and so the same."""
        if isinstance(side.prepared, ProvisionerError) or isinstance(other.prepared, ProvisionerError):
            return False
        template = side.wanted[name]
        if other.wanted.get(name) != template or side.urls != other.urls:
            return False
        if template not in self._same:
            self._same[template] = self.before.includes.texts(template) == self.after.includes.texts(template)
        return self._same[template] and side.prepared.context == other.prepared.context

    def _render(self, jobs: Sequence[tuple[_Side, str, str]], new: bool) -> None:
        content = self.after if new else self.before
        templates = {template for _, _, template in jobs}
        sources: dict[str, str] = {}
        for template in templates:
            sources |= content.includes.texts(template)
        wanted = []
        for side, name, template in jobs:
            if (new, template) in self._hopeless:
                side.answers[name] = self._hopeless[new, template]
            elif isinstance(side.prepared, Prepared):
                wanted.append((side, name, confined.Job(template, side.prepared.context)))
        answers = confined.render([job for _, _, job in wanted], sources, most_limits=MOST_LIMITS)
        broken: dict[str, list[RenderLimit]] = {}
        for (side, name, job), answer in zip(wanted, answers, strict=True):
            side.answers[name] = answer
            if isinstance(answer, RenderLimit):
                broken.setdefault(job.template, []).append(answer)
        for template, errors in broken.items():
            if len(errors) >= MOST_LIMITS:
                self._hopeless[new, template] = errors[-1]

    def _pairs(self, sides: Sequence[_Both], started: Sequence[Future[None]]) -> list[Pair]:
        for each in started:
            each.result()
        return [self._pair(before, after) for before, after in sides]

    def _pair(self, before: _Side | None, after: _Side | None) -> Pair:
        files: list[Files] = [{}, {}]
        sealed_differ = True
        if before is not None and after is not None and not (before.failure or after.failure):
            unfilled = before.texts(), after.texts()
            sealed_differ = unfilled[0] != unfilled[1]
            if sealed_differ or before.urls != after.urls:
                files = _differing(
                    *(
                        {name: fill(text, side.urls) for name, text in texts.items()}
                        for side, texts in zip((before, after), unfilled, strict=True)
                    )
                )
        reached = [
            content.includes.reached_by(side.wanted.values())
            for side, content in ((before, self.before), (after, self.after))
            if side is not None
        ]
        prepared = after.prepared if after is not None and isinstance(after.prepared, Prepared) else None
        return Pair(
            row=before.row if before else None,
            new_row=after.row if after else None,
            before=files[0],
            after=files[1],
            failed_before=before.failure if before else None,
            failed_after=after.failure if after else None,
            templates=frozenset().union(*reached),
            sealed_differ=sealed_differ,
            prepared=prepared,
            unfilled={name: text for name, text in after.answers.items() if isinstance(text, str)} if after else {},
        )


def _differing(before: Files, after: Files) -> list[Files]:
    """The files that are not equal."""
    same = {name for name, text in before.items() if after.get(name) == text}
    return [{name: text for name, text in side.items() if name not in same} for side in (before, after)]


_TOKENS = ("answer_token", "event_token", "handoff_token")


def _hopeless(before: _Side, after: _Side) -> bool:
    """Whether neither side can be rendered, so that nothing is worth a look."""
    return isinstance(before.prepared, ProvisionerError) and isinstance(after.prepared, ProvisionerError)
