"""The protocol on the server's own host: each method is one call of a service."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from provisioner.cli.client.local_nouns import (
    DISTROS,
    IMAGES,
    MACHINES,
    PROFILES,
    SUBNETS,
    TEMPLATES,
    TOKENS,
    USERS,
    WEBHOOKS,
    Fetched,
    Machines,
    Noun,
    Profiles,
    Subnets,
    Tokens,
    Users,
    Webhooks,
)
from provisioner.cli.client.protocol import ENDED, Counting, Fields, Thing, newest
from provisioner.services import (
    arming,
    builds,
    listing,
    plans,
    quarantine,
    records,
    resealing,
    storm,
)
from provisioner.services.radius import Watch, report
from provisioner.services.resolve import BuildRequest
from provisioner.services.site import Actor, Site

_WATCH_SECONDS = 0.5


@dataclass(frozen=True)
class _Plans:
    site: Site
    actor: Actor

    def plan(self, machines: Sequence[Any], flag_missing: str | None, progress: Counting | None) -> Thing:
        return plans.plan(self.site, self.actor, machines, flag_missing=flag_missing, progress=progress)

    def apply(self, plan_id: str, progress: Counting | None) -> Thing:
        return plans.apply(self.site, self.actor, plan_id=plan_id, progress=progress)

    def export(self) -> list[Thing]:
        return plans.export(self.site)


@dataclass(frozen=True)
class _Builds:
    site: Site
    actor: Actor

    def every(self, machine: str | None = None, most: int | None = None) -> list[Thing]:
        if most is not None:
            return newest(lambda **page: listing.page(self.site, "builds", machine=machine, **page), most)
        return list(listing.every(self.site, "builds", machine=machine))

    def show(self, machine: str, number: int | None = None) -> Thing:
        return builds.show(self.site, machine, number)

    def follow(self, machine: str, number: int | None = None) -> Iterator[Thing]:
        while True:
            view = self.show(machine, number)
            yield view
            if view["state"] in ENDED:
                return
            number = view["number"]
            time.sleep(_WATCH_SECONDS)

    def log(self, machine: str, number: int | None = None) -> list[Thing]:
        return builds.log(self.site, machine, number)

    def sealed(self, machine: str, number: int | None = None) -> Thing:
        return builds.sealed(self.site, machine, number)

    def diff(self, machine: str, old: int | None = None, new: int | None = None) -> str:
        return arming.diff(self.site, machine, old, new)

    def start(self, machine: str, parameters: Fields, kernel_options: Sequence[str]) -> Thing:
        return arming.start(self.site, self.actor, machine, BuildRequest(parameters, list(kernel_options)))

    def repeat(self, machine: str, number: int | None = None) -> Thing:
        return arming.repeat(self.site, self.actor, machine, number)

    def reseal(self, machine: str) -> Thing:
        return resealing.again(self.site, self.actor, builds.show(self.site, machine)["id"])

    def cancel(self, machine: str) -> Thing:
        return builds.cancel(self.site, self.actor, machine)

    def go_on(self, machine: str) -> Thing:
        return builds.go_on(self.site, self.actor, machine)

    def retry_handoff(self, machine: str) -> Thing:
        return builds.retry_handoff(self.site, self.actor, machine)


@dataclass(frozen=True)
class _Discoveries:
    site: Site

    @property
    def setting(self) -> str:
        return self.site.settings.discovery

    def every(self, q: str | None = None) -> list[Thing]:
        return list(listing.every(self.site, "discoveries", q=q))

    def forget(self, mac: str) -> None:
        quarantine.forget(self.site, mac)

    def forget_all(self) -> int:
        return quarantine.forget_all(self.site)


@dataclass(frozen=True)
class _History:
    site: Site

    def newest(self, limit: int, **filters: Any) -> list[Thing]:
        return newest(lambda **page: records.page(self.site, **page, **filters), limit)

    def show(self, number: int) -> Thing:
        return records.show(self.site, number)

    def verify(self) -> list[str]:
        return records.verify(self.site)


@dataclass(frozen=True)
class LocalClient:
    """The installation on this host."""

    site: Site
    actor: Actor
    watch: Watch | None = None

    def rehearsing(self) -> "LocalClient":
        watch = Watch(self.site)
        return replace(self, site=self.site.rehearsing(watch), watch=watch)

    def storm(self, **given: Any) -> Thing:
        return storm.plan(self.site, **given)

    def radius(self, progress: Counting | None = None) -> Thing | None:
        return report(self.site, self.watch, progress)

    def close(self) -> None:
        self.site.engine.dispose()

    @property
    def machines(self) -> Machines:
        return Machines(self.site, self.actor, MACHINES)

    @property
    def subnets(self) -> Subnets:
        return Subnets(self.site, self.actor, SUBNETS)

    @property
    def profiles(self) -> Profiles:
        return Profiles(self.site, self.actor, PROFILES)

    @property
    def templates(self) -> Noun:
        return Noun(self.site, self.actor, TEMPLATES)

    @property
    def distros(self) -> Fetched:
        return Fetched(self.site, self.actor, DISTROS)

    @property
    def images(self) -> Fetched:
        return Fetched(self.site, self.actor, IMAGES)

    @property
    def builds(self) -> _Builds:
        return _Builds(self.site, self.actor)

    @property
    def discoveries(self) -> _Discoveries:
        return _Discoveries(self.site)

    @property
    def history(self) -> _History:
        return _History(self.site)

    @property
    def users(self) -> Users:
        return Users(self.site, self.actor, USERS)

    @property
    def tokens(self) -> Tokens:
        return Tokens(self.site, self.actor, TOKENS)

    @property
    def webhooks(self) -> Webhooks:
        return Webhooks(self.site, self.actor, WEBHOOKS)

    @property
    def plans(self) -> _Plans:
        return _Plans(self.site, self.actor)
