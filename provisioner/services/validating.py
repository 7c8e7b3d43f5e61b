"""Content is rendered and validated before it is saved: for every profile that it reaches, outside any transaction."""

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from provisioner.core.content import ProfileContent
from provisioner.core.markers import secrets_in
from provisioner.errors import (
    AnswerInvalid,
    BuildNotPossible,
    ContentError,
    InputsChanged,
    MissingParameter,
    ProvisionerError,
    RenderLimit,
    TemplateError,
    UnknownReference,
)
from provisioner.render import confined
from provisioner.render.confined import Outline
from provisioner.services import missing, sealing
from provisioner.services.remarks import Remark, remarks
from provisioner.services.samples import Content, Sample, every, load
from provisioner.services.sealing import Order, Prepared
from provisioner.services.site import Site
from provisioner.store.engine import read
from provisioner.store.models import Distro, Image, Profile, Template

_MOST, _SECONDS = 20, 20.0
TRIES = 3
_TOGETHER = 8
_LONGEST = 4000
_MOST_LIMITS = 2
_MEND = "mend this line, then save it again"
_ERRORS: Mapping[str, type[ContentError]] = {
    each.code: each for each in (TemplateError, RenderLimit, MissingParameter, AnswerInvalid)
}


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
class _Told:
    """A problem, and the profile in whose rendering it was met."""

    problem: Problem
    sample: Sample

    @property
    def key(self) -> tuple[str, str]:
        """The same before and after a change that only moved it to another line."""
        plain = re.sub(r"\bline \d+", "line", self.problem.message)
        return self.problem.where.partition(":")[0], plain


def stamp(session: Session) -> tuple[Any, ...]:
    """Of templates, profiles, distros and images: the same if none of them was changed, added or removed since."""
    models = (Template, Profile, Distro, Image)
    return tuple(tuple(session.execute(select(func.count(), func.max(each.version))).one()) for each in models)


def problems(
    site: Site,
    texts: Mapping[str, str],
    profiles: Mapping[str, ProfileContent],
    *,
    most: int | None = None,
    seconds: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Problem]:
    """What would be wrong if these texts of templates and these profiles were saved together; errors first.

    Every text must parse. Every profile that includes one of them, or is or inherits from one of ``profiles``, is
    rendered for its first machine, or for one that is made up, and validated for its distro's family and version: at
    most ``most`` of them, and none is begun after so many ``seconds``; a warning says how many were left out. A warning
    too is what was wrong before the change, and a parameter that only a machine that is made up lacks. ``progress`` is
    told how many profiles are done, and of how many. Runs programs for seconds: not for use inside a transaction.
    """
    with read(site.engine) as session:
        old = load(session)
    new = old.changed(texts, profiles)
    outlines = confined.outlines(new.sources)
    broken = [_of_error(outlines[name], name) for name in texts if isinstance(outlines[name], ProvisionerError)]
    if broken:
        return broken
    samples, without = every(new)
    reached = _first_the_nearest([each for each in samples if _reaches(new, outlines, each, texts, profiles)], profiles)
    ends = None if seconds is None else time.monotonic() + seconds
    parts = list(_rendered_in_parts(site, new, reached[:most], progress, ends))
    told = _new_alone(site, old, [each for _, found in parts for each in found])
    return _merged(told) + _not_looked_at(profiles, without, sum(count for count, _ in parts), len(reached))


def when_saved(site: Site, texts: Mapping[str, str], profiles: Mapping[str, ProfileContent]) -> list[Problem]:
    """The problems of what somebody saves and waits for: as `problems`, in bounded time."""
    return problems(site, texts, profiles, most=_MOST, seconds=_SECONDS)


def everything(
    site: Site, names: Iterable[str] | None = None, progress: Callable[[int, int], None] | None = None
) -> list[Problem]:
    """What is wrong with the stored content, all of it or that of these profiles; errors first. Takes a while."""
    with read(site.engine) as session:
        content = load(session)
    outlines = confined.outlines(content.sources)
    broken = [_of_error(each, name) for name, each in outlines.items() if isinstance(each, ProvisionerError)]
    samples, _ = every(content, names)
    told = [each for _, found in _rendered_in_parts(site, content, samples, progress) for each in found]
    known = {each.where for each in broken}
    return broken + [each for each in _merged(told) if each.where not in known]


def refuse(found: Sequence[Problem], places: Callable[[str], str] = str) -> None:
    """Raise the first error among the problems, and tell of the others; ``places`` turns a ``where`` into a file's."""
    errors = [each for each in found if each.level == "error"]
    if not errors:
        return
    first, *others = errors
    more = f"; and {len(others)} more, the next at {places(others[0].where)}" if others else ""
    told = [each.as_dict() | {"where": places(each.where)} for each in errors]
    kind = _ERRORS.get(first.code, AnswerInvalid)
    raise kind(first.message + more, where=places(first.where), hint=first.hint, problems=told)


def changed_meanwhile(what: str) -> InputsChanged:
    """The error for content that others change faster than it can be validated."""
    return InputsChanged(f"templates, profiles or distros changed while {what} was validated", hint="save it again")


def _reaches(
    content: Content,
    outlines: Mapping[str, Outline | ProvisionerError],
    sample: Sample,
    texts: Mapping[str, str],
    profiles: Mapping[str, ProfileContent],
) -> bool:
    """Whether the change could make a difference to what this profile renders to."""
    if not profiles.keys().isdisjoint(content.lineage(sample.profile)):
        return True
    seen: set[str] = set()
    ahead = list(sealing.wanted(sample.gathered).values())
    while ahead:
        name = ahead.pop()
        outline = outlines.get(name)
        if name in texts or (isinstance(outline, Outline) and outline.any):
            return bool(texts)
        if name not in seen and isinstance(outline, Outline):
            ahead += outline.references
        seen.add(name)
    return False


def _first_the_nearest(samples: Sequence[Sample], profiles: Mapping[str, ProfileContent]) -> list[Sample]:
    """The changed profiles, then those that have machines, then the others."""
    return sorted(samples, key=lambda each: (each.profile not in profiles, not each.machine, each.profile))


def _rendered_in_parts(
    site: Site,
    content: Content,
    samples: Sequence[Sample],
    progress: Callable[[int, int], None] | None = None,
    ends: float | None = None,
) -> Iterator[tuple[int, list[_Told]]]:
    """What is found a few samples at a time, with how many they were; ``ends``, by the clock, ends it early."""
    for begin in range(0, len(samples), _TOGETHER):
        if begin and ends is not None and time.monotonic() > ends:
            return
        part = samples[begin : begin + _TOGETHER]
        yield len(part), _rendered(site, content, part)
        if progress is not None:
            progress(begin + len(part), len(samples))


def _rendered(site: Site, content: Content, samples: Sequence[Sample]) -> list[_Told]:
    """What rendering and validating for these samples finds."""
    told: list[_Told] = []
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
    rendered = iter(confined.render(jobs, content.sources, most_limits=_MOST_LIMITS))
    answers, of = [], []
    for (each, prepared), names in zip(good, wanted, strict=True):
        files: dict[str, str] = {}
        for name, template in names.items():
            result = next(rendered)
            if isinstance(result, str):
                files[name] = result
            else:
                told.append(_told(result, each, template))
        told += [_told(error, each) for error in _other_errors(each, prepared, files)]
        if len(files) == len(names):
            answers.append(sealing.answer(prepared, files))
            of.append(each)
    for each, found in zip(of, remarks(answers, content.sources), strict=True):
        told += [_Told(_of_remark(remark), each) for remark in found]
    return told


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


def _told(error: ProvisionerError, sample: Sample, template: str = "") -> _Told:
    error = missing.told(error, sample.gathered, made_up=not sample.machine)
    problem = _of_error(error, template or f"profile {sample.profile}")
    if _is_the_samples(error, sample):
        problem = replace(problem, level="warning", message=f"{problem.message}; so not all could be validated")
    return _Told(problem, sample)


def _is_the_samples(error: ProvisionerError, sample: Sample) -> bool:
    """Whether it may be the machine that lacks something, and not the content that is wrong."""
    if isinstance(error, MissingParameter) and sample.made_up:
        return str(error.details.get("variable", "")).startswith(("parameters.", "distro.", "image."))
    return isinstance(error, BuildNotPossible)


def _of_error(error: Any, where: str) -> Problem:
    """An error of a template has its own place; other errors are those of what asked for it."""
    if isinstance(error, TemplateError | RenderLimit):
        hint = error.hint if error.hint != TemplateError.default_hint else _MEND
        return Problem("error", error.where or where, error.message, hint, error.code)
    if isinstance(error, ContentError):
        return Problem("error", error.where or where, error.message, error.hint, error.code)
    return Problem("error", where, str(error), error.hint, AnswerInvalid.code)


def _of_remark(remark: Remark) -> Problem:
    return Problem(remark.level, remark.where, remark.what, _MEND if remark.level == "error" else "")


def _new_alone(site: Site, old: Content, told: Sequence[_Told]) -> list[_Told]:
    """Errors that were there before the change become warnings: they must not stand in the way of another change.

    One profile is asked for each error; the others only if that one had it before.
    """
    failing = [each for each in told if each.problem.level == "error" and each.sample.profile in old.profiles]
    first = {each.key: each.sample.profile for each in reversed(failing)}
    before = _before(site, old, first.values())
    doubtful = {key for key, profile in first.items() if (profile, key) in before}
    rest = {each.sample.profile for each in failing if each.key in doubtful} - set(first.values())
    before |= _before(site, old, rest)
    return [
        replace(
            each, problem=replace(each.problem, level="warning", message=f"{each.problem.message}; it was so before")
        )
        if each.key in doubtful and (each.sample.profile, each.key) in before
        else each
        for each in told
    ]


def _before(site: Site, old: Content, profiles: Iterable[str]) -> set[tuple[str, tuple[str, str]]]:
    samples, _ = every(old, set(profiles))
    return {(each.sample.profile, each.key) for each in _rendered(site, old, samples)}


def _merged(told: Sequence[_Told]) -> list[Problem]:
    """Each problem once, with whom it was met by; errors first. What is wrong at one line is told once."""
    met: dict[tuple[str, str, str], list[_Told]] = {}
    for each in told:
        problem = each.problem
        same = ":" in problem.where or problem.code == RenderLimit.code
        met.setdefault((problem.level, problem.where, "" if same else each.key[1]), []).append(each)
    merged = []
    for group in met.values():
        first, others = group[0], len({each.sample.profile for each in group}) - 1
        more = f", and {others} other profile{'s' if others > 1 else ''}" if others else ""
        merged.append(replace(first.problem, message=f"{first.problem.message} ({first.sample.said}{more})"))
    return sorted(merged, key=lambda each: each.level)


def _not_looked_at(
    profiles: Mapping[str, ProfileContent], without: Mapping[str, ProvisionerError], done: int, reached: int
) -> list[Problem]:
    found = [
        Problem("warning", f"profile {name}", f"not validated: {error}", error.hint)
        for name, error in without.items()
        if name in profiles and isinstance(error, UnknownReference)
    ]
    if done < reached:
        message = f"only {done} of the {reached} profiles that this reaches were rendered and validated"
        hint = "`provisioner check --templates` does all; each is validated anyway when a machine is armed"
        found.append(Problem("warning", "", message, hint))
    return found
