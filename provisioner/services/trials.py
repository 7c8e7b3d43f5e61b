"""Samples rendered and validated: what that finds, and for whom."""

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

from provisioner.core.likeness import normal, own_values
from provisioner.core.markers import secrets_in
from provisioner.errors import (
    AnswerInvalid,
    BuildNotPossible,
    ContentError,
    MissingParameter,
    ProvisionerError,
    RenderLimit,
    TemplateError,
)
from provisioner.render import confined
from provisioner.services import missing, sealing
from provisioner.services.remarks import Answer, Remark, remarks
from provisioner.services.samples import Content, Sample
from provisioner.services.sealing import Order, Prepared
from provisioner.services.site import Site

TOGETHER, MORE_TOGETHER = 8, 50
_LONGEST = 4000
_MOST_LIMITS = 2
_MEND = "mend this line, then save it again"


@dataclass(frozen=True)
class Problem:
    """What is wrong with content that somebody wants to save; ``where`` is ``TEMPLATE:LINE`` or ``profile NAME``."""

    level: Literal["error", "warning"]
    where: str
    message: str
    hint: str
    code: str = AnswerInvalid.code

    def as_dict(self) -> dict[str, str]:
        """As people and programs are told: ``where``, ``message`` and ``hint``; texts that both databases keep."""
        message = self.message.encode(errors="backslashreplace").decode().replace("\0", "\\x00")
        return {"where": self.where, "message": message[:_LONGEST], "hint": self.hint}


@dataclass(frozen=True)
class Told:
    """A problem, and the profile in whose rendering it was met."""

    problem: Problem
    sample: Sample

    @property
    def key(self) -> tuple[str, str]:
        """The same before and after a change that only moved it to another line."""
        plain = re.sub(r"\bline \d+", "line", self.problem.message)
        return self.problem.where.partition(":")[0], plain


@dataclass(frozen=True)
class Outcome:
    """What a sample rendered to."""

    sample: Sample
    answer: Answer
    alike: object
    """Equal for answers that differ in nothing but the machine's own values."""


@dataclass
class Work:
    """Renders and validates samples a few at a time; by the clock, ``ends`` ends it early."""

    site: Site
    content: Content
    ends: float | None
    progress: Callable[[int, int], None] | None
    told: list[Told] = field(default_factory=list)
    done: int = 0
    done_more: int = 0
    unvalidated: int = 0
    """Outputs of further machines that are like no other, and for which there was no time."""
    _seen: set[object] = field(default_factory=set)

    def do(self, samples: Sequence[Sample], more: Sequence[Sample], most: int) -> None:
        """All of ``samples``; of ``more`` only what comes out as nothing before, and at most so many of them."""
        total = len(samples) + len(more)
        for part in _parts(samples, TOGETHER):
            if self.done and self._late():
                return
            self._take(part)
            self.done += len(part)
            self._tell(total)
        for part in _parts(more, MORE_TOGETHER):
            if self._late():
                return
            most -= self._take(part, most)
            self.done_more += len(part)
            self._tell(total)

    def _take(self, samples: Sequence[Sample], most: int | None = None) -> int:
        """Render these and validate them: all, or at most so many that came out as none before; how many."""
        told, outcomes = rendered(self.site, self.content, samples)
        if most is not None:
            fresh = {each.alike: each for each in reversed(outcomes) if each.alike not in self._seen}
            outcomes = [each for each in outcomes if fresh.get(each.alike) is each]
            self.unvalidated += max(0, len(outcomes) - most)
            outcomes = outcomes[:most]
        self._seen |= {each.alike for each in outcomes}
        self.told += told + validated(self.content, outcomes)
        return len(outcomes)

    def _late(self) -> bool:
        return self.ends is not None and time.monotonic() > self.ends

    def _tell(self, total: int) -> None:
        if self.progress is not None:
            self.progress(self.done + self.done_more, total)


def _parts(samples: Sequence[Sample], size: int) -> Iterator[Sequence[Sample]]:
    return (samples[begin : begin + size] for begin in range(0, len(samples), size))


def rendered(site: Site, content: Content, samples: Sequence[Sample]) -> tuple[list[Told], list[Outcome]]:
    """What is wrong with rendering for these samples, and what came out of the others."""
    told: list[Told] = []
    good: list[tuple[Sample, Prepared]] = []
    for each in samples:
        try:
            good.append((each, sealing.prepare(site, Order(each.gathered, 1, each.secrets), each.payload)))
        except ProvisionerError as error:
            told.append(_told(error, each))
    wanted = [sealing.wanted(each.gathered) for each, _ in good]
    jobs = [
        confined.Job(name, prepared.context)
        for (_, prepared), names in zip(good, wanted, strict=True)
        for name in names.values()
    ]
    results = iter(confined.render(jobs, content.sources, most_limits=_MOST_LIMITS))
    outcomes = []
    for (each, prepared), names in zip(good, wanted, strict=True):
        files: dict[str, str] = {}
        for name, template in names.items():
            result = next(results)
            if isinstance(result, str):
                files[name] = result
            else:
                told.append(_told(result, each, template))
        told += [_told(error, each) for error in _other_errors(each, prepared, files)]
        if len(files) == len(names):
            answer = sealing.answer(prepared, files)
            outcomes.append(Outcome(each, answer, _alike(answer, prepared)))
    return told, outcomes


def validated(content: Content, outcomes: Sequence[Outcome]) -> list[Told]:
    """What the validators say of these outputs."""
    found = remarks([each.answer for each in outcomes], content.sources)
    return [
        Told(_of_remark(remark), each.sample) for each, said in zip(outcomes, found, strict=True) for remark in said
    ]


def _alike(answer: Answer, prepared: Prepared) -> object:
    own = own_values(prepared.context["machine"], prepared.order.number)
    return answer.job.template, answer.os, answer.version, normal(answer.text.split("\n"), own)


def _other_errors(sample: Sample, prepared: Prepared, files: Mapping[str, str]) -> Iterator[ProvisionerError]:
    """What is wrong with secrets, boot scripts and the handoff."""
    if not sample.machine:  # a real one would be given those that its answer asks for
        asked = {name for text in files.values() for name in secrets_in(text)}
        prepared = replace(prepared, secret_names=(*prepared.secret_names, *asked))
    for work in (partial(sealing.check_secrets, prepared, files), partial(sealing.other_files, prepared)):
        try:
            work()
        except ProvisionerError as error:
            yield error


def _told(error: ProvisionerError, sample: Sample, template: str = "") -> Told:
    error = missing.told(error, sample.gathered, made_up=not sample.machine)
    problem = of_error(error, template or f"profile {sample.profile}")
    if _is_the_samples(error, sample):
        problem = replace(problem, level="warning", message=f"{problem.message}; so not all could be validated")
    return Told(problem, sample)


def _is_the_samples(error: ProvisionerError, sample: Sample) -> bool:
    """Whether it may be the machine that lacks something, and not the content that is wrong."""
    if isinstance(error, MissingParameter) and sample.made_up:
        return str(error.details.get("variable", "")).startswith(("parameters.", "distro.", "image."))
    return isinstance(error, BuildNotPossible)


def of_error(error: Any, where: str) -> Problem:
    """An error of a template has its own place; other errors are those of what asked for it."""
    if isinstance(error, TemplateError | RenderLimit):
        hint = error.hint if error.hint != TemplateError.default_hint else _MEND
        return Problem("error", error.where or where, error.message, hint, error.code)
    if isinstance(error, ContentError):
        return Problem("error", error.where or where, error.message, error.hint, error.code)
    return Problem("error", where, str(error), error.hint, AnswerInvalid.code)


def _of_remark(remark: Remark) -> Problem:
    return Problem(remark.level, remark.where, remark.what, _MEND if remark.level == "error" else "")
