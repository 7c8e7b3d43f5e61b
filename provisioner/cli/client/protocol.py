"""The protocol between commands and an installation: plain data in and out, one small protocol a noun.

`local.LocalClient` calls the services, `remote.RemoteClient` the API of a server; a command cannot tell which. Both
raise the same errors. What is read has a ``revision``; a change that is given it as ``expect`` is refused (Stale) when
somebody changed the object in between.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

Thing: TypeAlias = dict[str, Any]
Fields: TypeAlias = Mapping[str, Any]
Progress: TypeAlias = Callable[[int, int | None], None]
"""Told bytes done and in all."""
Counting: TypeAlias = Callable[[str, int, int], None]
"""Told what is done, how much of it, and in all."""

MOST = 500
"""The longest page of a list."""
ENDED = frozenset({"configured", "failed", "cancelled"})
"""The states of a build that is over."""


class Noun(Protocol):
    """What every administered object can be asked."""

    def every(self, **filters: Any) -> list[Thing]:
        """All objects in the list's order, or those that the filters choose; None filters nothing."""

    def show(self, name: str) -> Thing:
        """One object. Raises NotFound."""

    def add(self, name: str, fields: Fields) -> Thing:
        """Add an object; how it is then."""

    def edit(self, name: str, fields: Fields, expect: str | None = None) -> Thing:
        """Change the fields that are given; how it is then."""

    def rename(self, name: str, new_name: str, expect: str | None = None) -> Thing:
        """Give it another name."""

    def remove(self, name: str, expect: str | None = None) -> None:
        """Remove it."""


class Machines(Noun, Protocol):
    """Machines, by their name or any spelling of one of their MACs. ``interfaces`` among the fields replaces all."""

    def some(self, limit: int, **filters: Any) -> list[Thing]:
        """The first so many of those that the filters choose."""

    def add_row(self, pattern: str, fields: Fields) -> list[Thing]:
        """Add the machines that a pattern such as ``n[001-040]`` stands for, all or none; how they are then."""

    def as_of(self, name: str, moment: str) -> Thing:
        """The machine as it was then; the moment in ISO 8601."""

    def rendered_as_of(self, name: str, moment: str) -> Thing:
        """The files of then, and what they were made from; see `services.asof.render`."""

    def set_secret(self, name: str, secret: str, value: str | None) -> None:
        """Give it a secret, or take it away."""

    def clear_flag(self, name: str) -> None:
        """Somebody looked at what was flagged."""

    def explain(self, name: str) -> Thing:
        """Each effective value and where it came from."""

    def render(self, name: str, parameters: Fields) -> dict[str, str]:
        """The files that a build started now, with these parameters, would be sealed with."""

    def ansible(self, *, retired: bool) -> Thing:
        """What Ansible's inventory scripts answer to ``--list``."""

    def ansible_host(self, name: str) -> Thing:
        """What they answer to ``--host``."""

    def boot(self, name: str, arch: str, source: str | None) -> Thing:
        """The chain that this firmware would get."""


class Profiles(Noun, Protocol):
    """Profiles."""

    def as_of(self, name: str, moment: str) -> Thing:
        """The profile as it was then; the moment in ISO 8601."""


class Subnets(Noun, Protocol):
    """Subnets and their addresses."""

    def counts(self, name: str) -> Thing:
        """How many addresses are used, held and free."""

    def used(self, name: str) -> list[Thing]:
        """The addresses in use, with their machines."""

    def free(self, name: str, count: int) -> list[str]:
        """The next free addresses, kept for nobody."""

    def hold(self, name: str, count: int, minutes: int) -> list[str]:
        """The next free addresses, which nobody else is given for so long."""


class Fetched(Noun, Protocol):
    """Distros and images: their files are fetched before the object is written."""

    def add(self, name: str, fields: Fields, progress: Progress | None = None) -> Thing:
        """Add one; ``progress`` is told bytes done and in all, where the fetching happens here."""

    def edit(self, name: str, fields: Fields, expect: str | None = None, progress: Progress | None = None) -> Thing:
        """Change one."""


class Builds(Protocol):
    """Builds, by the machine's name and the build's number; None is the latest."""

    def every(self, machine: str | None = None, most: int | None = None) -> list[Thing]:
        """All builds, the newest first, or those of one machine; the newest ``most`` of them."""

    def show(self, machine: str, number: int | None = None) -> Thing:
        """A build with its timeline."""

    def follow(self, machine: str, number: int | None = None) -> Iterator[Thing]:
        """The build as `show` tells it, again each time something happened, until it ends."""

    def log(self, machine: str, number: int | None = None) -> list[Thing]:
        """Its events with their logs."""

    def sealed(self, machine: str, number: int | None = None) -> Thing:
        """What it was sealed with, tokens masked."""

    def diff(self, machine: str, old: int | None = None, new: int | None = None) -> str:
        """What differs between the sealed files of two builds; the latest two unless numbered."""

    def start(self, machine: str, parameters: Fields, kernel_options: Sequence[str]) -> Thing:
        """Arm a build."""

    def repeat(self, machine: str, number: int | None = None) -> Thing:
        """Arm a build from the sealed files of an earlier one."""

    def reseal(self, machine: str) -> Thing:
        """Arm a build from what there is now in the place of the armed one."""

    def cancel(self, machine: str) -> Thing:
        """Cancel the machine's build."""

    def go_on(self, machine: str) -> Thing:
        """Let a halted build have one more attempt."""

    def retry_handoff(self, machine: str) -> Thing:
        """Take reports of a failed handoff again."""


class Discoveries(Protocol):
    """Machines in quarantine."""

    @property
    def setting(self) -> str:
        """The setting `discovery`; empty when it is not known here."""

    def every(self, q: str | None = None) -> list[Thing]:
        """Those in quarantine, the latest seen first; ``q`` is a part of serial, UUID or address, or a MAC."""

    def forget(self, mac: str) -> None:
        """Take one out."""

    def forget_all(self) -> int:
        """Take all out; how many."""


class History(Protocol):
    """Who changed what."""

    def newest(self, limit: int, **filters: Any) -> list[Thing]:
        """So many revisions, the newest first; filters as of `services.records.page`."""

    def show(self, number: int) -> Thing:
        """One revision. Raises NotFound."""

    def verify(self) -> list[str]:
        """What is wrong with the chain."""


class Tokens(Noun, Protocol):
    """API tokens; ``user`` among the fields of a new one is its owner."""

    def revoke(self, name: str, expect: str | None = None) -> Thing:
        """Let it open nothing any more."""


class Users(Noun, Protocol):
    """People who may log in."""

    def sessions(self, name: str | None = None) -> list[Thing]:
        """Who is logged in."""


class Webhooks(Noun, Protocol):
    """URLs that are told of events. A secret that was made is in the view of the change alone, as ``key``; the field
    ``new_secret`` asks for one.
    """

    def test(self, name: str) -> Thing:
        """Send a `ping` at once; what came of it."""

    def deliveries(self, name: str, limit: int, cursor: str | None) -> Thing:
        """A page of what it was told, the newest first: ``items`` and ``next``."""

    def redeliver(self, uid: str) -> Thing:
        """Send a delivery again."""


class Plans(Protocol):
    """Machines by the thousand, as plain data (see `core.machineinput`)."""

    def plan(self, machines: Sequence[Any], flag_missing: str | None, progress: Counting | None) -> Thing:
        """What sending these machines would do; see `services.plans.plan`."""

    def apply(self, plan_id: str, progress: Counting | None) -> Thing:
        """Do what the plan says, whole or not at all."""

    def export(self) -> list[Thing]:
        """Every machine by name, as `plan` takes it, and more."""


class Client(Protocol):
    """An installation, wherever it is."""

    @property
    def machines(self) -> Machines: ...
    @property
    def subnets(self) -> Subnets: ...
    @property
    def profiles(self) -> Profiles: ...
    @property
    def templates(self) -> Noun: ...
    @property
    def distros(self) -> Fetched: ...
    @property
    def images(self) -> Fetched: ...
    @property
    def builds(self) -> Builds: ...
    @property
    def discoveries(self) -> Discoveries: ...
    @property
    def history(self) -> History: ...
    @property
    def users(self) -> Users: ...
    @property
    def tokens(self) -> Tokens: ...
    @property
    def webhooks(self) -> Webhooks: ...
    @property
    def plans(self) -> Plans: ...

    def rehearsing(self) -> "Client":
        """The same, with every change taken back at its end: for ``--dry-run``."""

    def storm(self, **given: Any) -> Thing:
        """The plan of a boot storm; see `services.storm.plan`."""

    def radius(self, progress: Counting | None = None) -> Thing | None:
        """What the changes that were rehearsed would do to machines; None when none depends on them.

        See `services.radius.report`.
        """

    def close(self) -> None:
        """Let go of connections."""


def together(reports: Sequence[Thing]) -> Thing | None:
    """What several rehearsed changes would do to machines, as one report; a machine counts once for each change."""
    whole: Thing | None = None
    for each in reports:
        whole = each if whole is None else {key: _both(whole[key], value) for key, value in each.items()}
    return whole


def _both(one: Any, other: Any) -> Any:
    return {key: one[key] + other[key] for key in one} if isinstance(one, dict) else one + other


def joined(pages: Iterable[Iterable[Thing]]) -> list[Thing]:
    """The rows of several pages."""
    return [row for page in pages for row in page]


def newest(page: Callable[..., Thing], limit: int) -> list[Thing]:
    """The first ``limit`` rows of a list whose pages ``page`` answers, given ``limit`` and ``cursor``."""
    found: list[Thing] = []
    cursor: str | None = None
    while len(found) < limit:
        got = page(limit=min(limit - len(found), MOST), cursor=cursor)
        found += got["items"]
        cursor = got["next"]
        if cursor is None:
            break
    return found
