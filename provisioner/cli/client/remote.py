"""The protocol against a server's API: each method is one request, or a few."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any
from urllib.parse import quote

from provisioner.cli.client import listening
from provisioner.cli.client.protocol import ENDED, Counting, Fields, Thing, joined, newest, together
from provisioner.cli.client.remote_nouns import (
    Fetched,
    Machines,
    Profiles,
    Subnets,
    Templates,
    Tokens,
    Users,
    Webhooks,
    segment,
    thing,
)
from provisioner.cli.client.transport import BATCH_SECONDS, Api
from provisioner.errors import NotFound, TooMany

_AGAIN_SECONDS = 2.0
_FILES = ("kernel", "initrd", "tree", "file")


@dataclass(frozen=True)
class _Plans:
    api: Api

    def plan(self, machines: Sequence[Any], flag_missing: str | None, progress: Counting | None) -> Thing:
        del progress
        body = {"machines": list(machines), "flag_missing": flag_missing}
        return thing(self.api.change("POST", "/machines:plan", body, seconds=BATCH_SECONDS))

    def apply(self, plan_id: str, progress: Counting | None) -> Thing:
        del progress
        return thing(self.api.change("POST", "/machines:apply", {"plan": plan_id}, seconds=BATCH_SECONDS))

    def export(self) -> list[Thing]:
        return joined(self.api.pages("/machines"))


@dataclass(frozen=True)
class _Builds:
    """Builds: the API knows them by an id, people by machine and number."""

    api: Api
    ids: dict[tuple[str, int], int] = field(default_factory=dict)
    """Those that were looked up: who watches a build asks for it again and again."""

    def every(self, machine: str | None = None, most: int | None = None) -> list[Thing]:
        path = "/builds" if machine is None else self._of(machine)
        if most is not None:
            return newest(lambda **page: self.api.get(path, **page), most)
        return joined(self.api.pages(path))

    def _of(self, machine: str) -> str:
        return f"/machines/{segment('machine', machine)}/builds"

    def _find(self, machine: str, number: int | None) -> Thing:
        if number is None:
            page = self.api.get(self._of(machine), limit=1)["items"]
            found = page[0] if page else None
        else:
            found = next((row for row in self._numbered(machine) if row["number"] == number), None)
        if found is None:
            which = "build" if number is None else f"build {number}"
            raise NotFound(f"{machine} has no {which}", hint=f"`provisioner build start {machine}`")
        return thing(found)

    def _numbered(self, machine: str) -> list[Thing]:
        try:
            return self.every(machine)
        except NotFound:
            # Either there is no such machine, which this says, or it was never built.
            self.api.get(f"/machines/{segment('machine', machine)}")
            return []

    def _path(self, machine: str, number: int | None = None) -> str:
        if number is not None and (machine, number) in self.ids:
            return f"/builds/{self.ids[machine, number]}"
        found = self._find(machine, number)
        self.ids[machine, found["number"]] = found["id"]
        return f"/builds/{found['id']}"

    def show(self, machine: str, number: int | None = None) -> Thing:
        return thing(self.api.get(self._path(machine, number)))

    def follow(self, machine: str, number: int | None = None) -> Iterator[Thing]:
        view = self.show(machine, number)
        yield view
        while view["state"] not in ENDED:
            try:
                for _ in self._signs(view):
                    view = self.show(machine, view["number"])
                    yield view
                    if view["state"] in ENDED:
                        return
            except TooMany:
                pass  # of streams: it is asked for again until there is one
            time.sleep(_AGAIN_SECONDS)
            view = self.show(machine, view["number"])
            yield view

    def _signs(self, view: Thing) -> Iterator[str]:
        """That something happened to the build since that view, or the server is still there."""
        last = max((event["id"] for event in view["events"]), default=0)
        path = f"{self._path(view['machine'], view['number'])}/events?after={last}"
        return listening.names(self.api.wire.server, self.api.headers, path)

    def log(self, machine: str, number: int | None = None) -> list[Thing]:
        return list(self.api.get(f"{self._path(machine, number)}/log")["items"])

    def sealed(self, machine: str, number: int | None = None) -> Thing:
        return thing(self.api.get(f"{self._path(machine, number)}/sealed"))

    def diff(self, machine: str, old: int | None = None, new: int | None = None) -> str:
        later = self._find(machine, new)
        earlier = self._find(machine, later["number"] - 1 if old is None else old)
        return str(self.api.get(f"/builds/{later['id']}/diff", other=earlier["id"])["diff"])

    def start(self, machine: str, parameters: Fields, kernel_options: Sequence[str]) -> Thing:
        body = {"parameters": dict(parameters), "kernel_options": list(kernel_options)}
        return _armed(self.api.change("POST", self._of(machine), body))

    def repeat(self, machine: str, number: int | None = None) -> Thing:
        return _armed(self.api.change("POST", f"{self._path(machine, number)}:repeat"))

    def reseal(self, machine: str) -> Thing:
        return _armed(self.api.change("POST", f"{self._path(machine)}:reseal"))

    def cancel(self, machine: str) -> Thing:
        return thing(self.api.change("POST", f"{self._path(machine)}:cancel"))

    def go_on(self, machine: str) -> Thing:
        return thing(self.api.change("POST", f"{self._path(machine)}:continue"))

    def retry_handoff(self, machine: str) -> Thing:
        return thing(self.api.change("POST", f"{self._path(machine)}:retry-handoff"))


def _armed(answer: Mapping[str, Any]) -> Thing:
    return {key: value for key, value in answer.items() if key != "location"}


@dataclass(frozen=True)
class _Discoveries:
    api: Api

    @property
    def setting(self) -> str:
        return ""

    def every(self, q: str | None = None) -> list[Thing]:
        return joined(self.api.pages("/discoveries", q=q))

    def forget(self, mac: str) -> None:
        self.api.change("DELETE", f"/discoveries/{quote(mac, safe='', errors='replace')}")

    def forget_all(self) -> int:
        count = 0
        for row in self.every():
            self.forget(row["mac"])
            count += 1
        return count


@dataclass(frozen=True)
class _History:
    api: Api

    def newest(self, limit: int, **filters: Any) -> list[Thing]:
        return newest(lambda **page: self.api.get("/history", **page, **filters), limit)

    def show(self, number: int) -> Thing:
        return thing(self.api.get(f"/history/{number}"))

    def verify(self) -> list[str]:
        return list(self.api.get("/history:verify")["problems"])


@dataclass(frozen=True)
class RemoteClient:
    """The installation behind a server's API."""

    api: Api

    def rehearsing(self) -> "RemoteClient":
        return replace(self, api=self.api.rehearsing())

    def storm(self, **given: Any) -> Thing:
        return thing(self.api.get("/storm:plan", **given))

    def radius(self, progress: Counting | None = None) -> Thing | None:
        del progress
        return together(self.api.reached or ())

    def close(self) -> None:
        self.api.wire.close()

    @property
    def machines(self) -> Machines:
        return Machines(self.api, "machine")

    @property
    def subnets(self) -> Subnets:
        return Subnets(self.api, "subnet")

    @property
    def profiles(self) -> Profiles:
        return Profiles(self.api, "profile")

    @property
    def templates(self) -> Templates:
        return Templates(self.api, "template")

    @property
    def distros(self) -> Fetched:
        return Fetched(self.api, "distro")

    @property
    def images(self) -> Fetched:
        return Fetched(self.api, "image")

    @cached_property
    def builds(self) -> _Builds:
        return _Builds(self.api)

    @property
    def discoveries(self) -> _Discoveries:
        return _Discoveries(self.api)

    @property
    def history(self) -> _History:
        return _History(self.api)

    @property
    def users(self) -> Users:
        return Users(self.api, "user")

    @property
    def tokens(self) -> Tokens:
        return Tokens(self.api, "token")

    @property
    def webhooks(self) -> Webhooks:
        return Webhooks(self.api, "webhook")

    @property
    def plans(self) -> _Plans:
        return _Plans(self.api)
