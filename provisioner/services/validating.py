"""Content is rendered and validated before it is saved: for every profile that it reaches, outside any transaction."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from provisioner.core.content import ProfileContent
from provisioner.errors import (
    AnswerInvalid,
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
from provisioner.services import samplemachines, sealing
from provisioner.services.samples import Content, Sample, every, load, of_machine
from provisioner.services.samples import sample as sample_of
from provisioner.services.site import Site
from provisioner.services.trials import Problem as Problem  # noqa: PLC0414 - callers take it from here
from provisioner.services.trials import Told, Work, of_error, rendered, validated
from provisioner.store.engine import read
from provisioner.store.models import Distro, Image, Profile, Template

_MOST, _SECONDS = 20, 20.0
TRIES = 3
MOST_MACHINES = 100
"""So many machines besides the first of each profile are rendered; of those that come out alike one is validated."""
MOST_VALIDATED = 20
"""So many of the outputs of those, at most: each starts programs."""
MOST_CHECKED = 1000
"""The same, for who has the time."""
_ERRORS: Mapping[str, type[ContentError]] = {
    each.code: each for each in (TemplateError, RenderLimit, MissingParameter, AnswerInvalid)
}


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
    most ``most`` of them. Then `MOST_MACHINES` of their other machines are rendered, those that differ most first, and
    `MOST_VALIDATED` different outputs of theirs are validated. None is begun after so many ``seconds``; a warning says
    what was left out. A warning too is what was wrong before the change, and a parameter that only a machine that is
    made up lacks. ``progress`` is told how many renderings are done, and of how many. Runs programs for seconds: not
    for use inside a transaction.
    """
    with read(site.engine) as session:
        old = load(session)
    new = old.changed(texts, profiles)
    outlines = confined.outlines(new.sources)
    broken = [of_error(outlines[name], name) for name in texts if isinstance(outlines[name], ProvisionerError)]
    if broken:
        return broken
    samples, without = every(new)
    reached = _first_the_nearest([each for each in samples if _reaches(new, outlines, each, texts, profiles)], profiles)
    more, left_out = _more(site, new, reached[:most])
    work = Work(site, new, None if seconds is None else time.monotonic() + seconds, progress)
    work.do(reached[:most], more, MOST_VALIDATED)
    told = _new_alone(site, old, work.told)
    missed = _not_looked_at(profiles, without, work.done, len(reached))
    return _merged(told) + (missed or _not_rendered(work, len(more), left_out))


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
    broken = [of_error(each, name) for name, each in outlines.items() if isinstance(each, ProvisionerError)]
    samples, _ = every(content, names)
    more, _ = _more(site, content, samples, MOST_CHECKED)
    work = Work(site, content, None, progress)
    work.do(samples, more, MOST_CHECKED)
    known = {each.where for each in broken}
    return broken + [each for each in _merged(work.told) if each.where not in known]


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


def _more(site: Site, content: Content, samples: Sequence[Sample], most: int | None = None) -> tuple[list[Sample], int]:
    """Further machines of these profiles, and how many kinds of them are not among these."""
    firsts = {each.profile: each.machine for each in samples if each.machine}
    if not firsts:
        return [], 0
    with read(site.engine) as session:
        others = samplemachines.others(session, firsts, most or MOST_MACHINES)
    found = []
    for profile, machines in others.machines.items():
        for machine in machines:
            with suppress(ProvisionerError):  # it lacks a subnet, a MAC address, ...; that is not the content's fault
                found.append(of_machine(content, profile, machine))
    return found, others.left_out


def _new_alone(site: Site, old: Content, told: Sequence[Told]) -> list[Told]:
    """Errors that were there before the change become warnings: they must not stand in the way of another change.

    One sample is asked for each error; the others only if that one had it before.
    """
    failing = [each for each in told if each.problem.level == "error" and each.sample.profile in old.profiles]
    first = {each.key: each.sample for each in reversed(failing)}
    before = _before(site, old, first.values())
    doubtful = {key for key, sample in first.items() if (*sample.who, key) in before}
    asked = {sample.who for sample in first.values()}
    before |= _before(
        site, old, [each.sample for each in failing if each.key in doubtful and each.sample.who not in asked]
    )
    return [
        replace(
            each, problem=replace(each.problem, level="warning", message=f"{each.problem.message}; it was so before")
        )
        if each.key in doubtful and (*each.sample.who, each.key) in before
        else each
        for each in told
    ]


def _before(site: Site, old: Content, samples: Iterable[Sample]) -> set[tuple[str, str, tuple[str, str]]]:
    """Whose rendering had which error before."""
    then = [(each.who, was) for each in {each.who: each for each in samples}.values() for was in _as_it_was(old, each)]
    who = {id(was): each for each, was in then}
    told, outcomes = rendered(site, old, [was for _, was in then])
    found = told + validated(old, outcomes)
    return {(*who[id(each.sample)], each.key) for each in found}


def _as_it_was(old: Content, sample: Sample) -> Iterator[Sample]:
    with suppress(ProvisionerError):
        if sample.found is None or sample.first:
            yield sample_of(old, sample.profile)
        else:
            yield of_machine(old, sample.profile, sample.found)


def _merged(told: Sequence[Told]) -> list[Problem]:
    """Each problem once, with whom it was met by; errors first. What is wrong at one line is told once."""
    met: dict[tuple[str, str, str], list[Told]] = {}
    for each in told:
        problem = each.problem
        same = ":" in problem.where or problem.code == RenderLimit.code
        met.setdefault((problem.level, problem.where, "" if same else each.key[1]), []).append(each)
    merged = []
    for group in met.values():
        first = group[0]
        merged.append(replace(first.problem, message=f"{first.problem.message} ({_met_by(group)})"))
    return sorted(merged, key=lambda each: each.level)


def _met_by(group: Sequence[Told]) -> str:
    """The first, and how many others."""
    first = group[0].sample
    machines = {each.sample.machine for each in group if each.sample.profile == first.profile} - {first.machine}
    profiles = {each.sample.profile for each in group} - {first.profile}
    words = [first.said]
    for count, what in ((len(machines), "machine"), (len(profiles), "profile")):
        words += [f"and {count} other {what}{'s' if count > 1 else ''}"] if count else []
    return ", ".join(words)


def _not_rendered(work: Work, wanted: int, left_out: int) -> list[Problem]:
    """What is said when not every kind of machine could be looked at."""
    done = work.done_more
    if done == wanted and not left_out and not work.unvalidated:
        return []
    missed = [f"{wanted - done} that should be were not"] if done < wanted else []
    if work.unvalidated:
        missed.append(f"of those that came out differently {work.unvalidated} were not validated")
    if left_out:
        missed.append("1 kind of machine was not" if left_out == 1 else f"{left_out} kinds of machines were not")
    rendered_ones = "1 machine was" if done == 1 else f"{done} machines were"
    message = f"besides the first of each profile {rendered_ones} rendered, and {', and '.join(missed)}"
    hint = "`--dry-run` renders all of them; each is validated anyway when it is armed"
    return [Problem("warning", "", message, hint)]


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
