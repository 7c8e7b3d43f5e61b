"""Work that is the same in every test, done cheaply or once: half of the time of all quick tests went there.

``conftest`` takes both at its start; processes that tests start (commands, services) do it as it is shipped.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from argon2 import PasswordHasher

from provisioner.render import confined, validate
from provisioner.render.validate import programs
from provisioner.services import crypthash, passwords

SHIPPED_HASHER, SHIPPED_CRYPT = passwords._HASHER, crypthash.sha512_crypt

_render, _check = confined._run, programs.run
_checkers = [each for each in vars(validate).values() if getattr(each, "run", None) is _check] + [programs]
_seen: dict[bytes, Any] = {}


def hashes() -> None:
    """Passwords of people (64 MiB and a tenth of a second each) and of machines (a quarter) at the lowest cost."""
    passwords._HASHER = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    crypthash.sha512_crypt = SHIPPED_CRYPT.using(rounds=1000)


def renderings(remembered: bool) -> None:
    """Whether renderings and checks that were made before in this process are told again instead of made again.

    Each is a process of its own, whose answer follows from what it is given alone; what is told again is the real
    answer to exactly the same question.
    """
    confined._run = _rendered if remembered else _render
    for module in _checkers:
        module.run = _checked if remembered else _check


def _rendered(
    jobs: Sequence[confined.Job], sources: Mapping[str, str], limits: confined.Limits, marks: str
) -> tuple[list[bytes], str]:
    asked = [[job.template, job.context and dict(job.context)] for job in jobs]
    key = _key("render", asked, sources, marks, repr(limits))
    if key in _seen:
        return list(_seen[key]), ""
    lines, reason = _render(jobs, sources, limits, marks)
    if not reason:  # a limit that was met says something of the moment too
        _seen[key] = tuple(lines)
    return lines, reason


def _checked(argv: list[str], text: str, suffix: str) -> tuple[int, str] | None:
    key = _key("check", programs._program(argv[0]), programs.TIMEOUT_SECONDS, argv, text, suffix)
    if key not in _seen:
        _seen[key] = _check(argv, text, suffix)
    return _seen[key]  # type: ignore[no-any-return]


def _key(*parts: Any) -> bytes:
    return hashlib.sha256(json.dumps(parts).encode()).digest()
