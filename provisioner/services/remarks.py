"""What validators say of rendered files, told at the place in the template that the line came from."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

from provisioner.core.names import template_kind
from provisioner.errors import AnswerInvalid
from provisioner.render import confined, validate

_MOST_SAID = 5
_AT_ONCE = 4


@dataclass(frozen=True)
class Answer:
    """A rendered answer file, what it was rendered from, and which installer reads it."""

    job: confined.Job
    text: str
    os: str
    version: str


@dataclass(frozen=True)
class Remark:
    """One remark; ``where`` is ``TEMPLATE:LINE``, of a snippet too, or the template alone where no line is known."""

    level: Literal["error", "warning"]
    where: str
    what: str
    """With the line in the output and the offending text."""

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


def remarks(answers: Sequence[Answer], sources: Mapping[str, str]) -> list[list[Remark]]:
    """What is wrong with, or odd in, each of these files. ``sources`` are the templates that they came from.

    Equal files are validated once. Those with remarks are rendered again, all in one process, to find their places.
    """
    keys = [(template_kind(each.job.template), each.text, each.os, each.version) for each in answers]
    distinct = list(dict.fromkeys(keys))
    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:  # they wait for programs most of the time
        told = dict(zip(distinct, pool.map(_findings, distinct), strict=True))
    found = [told[key] for key in keys]
    marked = [each for each, findings in zip(answers, found, strict=True) if any(finding.line for finding in findings)]
    places = iter(confined.where([each.job for each in marked], sources, [each.text for each in marked]))
    lines = [next(places) if any(finding.line for finding in findings) else () for findings in found]
    return [
        [Remark(finding.level, _place(finding, here) or answer.job.template, str(finding)) for finding in findings]
        for answer, findings, here in zip(answers, found, lines, strict=True)
    ]


def _findings(key: tuple[str, str, str, str]) -> list[validate.Finding]:
    kind, text, os, version = key
    return validate.findings(kind, text, os=os, version=version)


def _place(finding: validate.Finding, places: Sequence[str]) -> str:
    return places[finding.line - 1] if 0 < finding.line <= len(places) else ""


def refuse(found: Sequence[Remark]) -> tuple[str, ...]:
    """The warnings among the remarks, as texts. Raises AnswerInvalid, at the place of the first, if any is an error."""
    errors = [each for each in found if each.level == "error"]
    if not errors:
        return tuple(str(each) for each in found)
    first, *others = errors
    said = [first.what, *(str(each) for each in others[: _MOST_SAID - 1])]
    if len(errors) > _MOST_SAID:
        said.append(f"and {len(errors) - _MOST_SAID} more")
    raise AnswerInvalid(f"the rendered file is wrong: {'; '.join(said)}", where=first.where)
