"""The administered objects on the server's own host: one table says which functions serve a noun."""

from dataclasses import dataclass
from typing import Any, Protocol

from provisioner.cli.client.protocol import MOST, Fields, Progress, Thing, newest
from provisioner.services import (
    addresses,
    ansible,
    arming,
    asof,
    catalogue,
    deliveries,
    explain,
    installables,
    listing,
    logins,
    machines,
    people,
    profiles,
    rows,
    subnets,
    templates,
    tokens,
    webhooks,
)
from provisioner.services.installables import DistroInput, ImageInput
from provisioner.services.machines import InterfaceInput
from provisioner.services.resolve import BuildRequest
from provisioner.services.site import Actor, Site


class _Show(Protocol):
    def __call__(self, site: Site, name: str, /) -> Thing: ...


class _Add(Protocol):
    def __call__(self, site: Site, actor: Actor, name: str, fields: dict[str, Any], /) -> Thing: ...


class _Edit(Protocol):
    def __call__(
        self, site: Site, actor: Actor, name: str, fields: dict[str, Any], /, *, expect: str | None
    ) -> Thing: ...


class _AddFetched(Protocol):
    def __call__(
        self, site: Site, actor: Actor, name: str, fields: dict[str, Any], progress: Progress | None = None, /
    ) -> Thing: ...


class _EditFetched(Protocol):
    def __call__(
        self,
        site: Site,
        actor: Actor,
        name: str,
        fields: dict[str, Any],
        progress: Progress | None = None,
        /,
        *,
        expect: str | None,
    ) -> Thing: ...


class _Rename(Protocol):
    def __call__(self, site: Site, actor: Actor, name: str, new_name: str, /, *, expect: str | None) -> Thing: ...


class _Remove(Protocol):
    def __call__(self, site: Site, actor: Actor, name: str, /, *, expect: str | None) -> None: ...


@dataclass(frozen=True)
class _Verbs:
    """The functions that serve a noun."""

    plural: str
    show: _Show
    add: _Add
    edit: _Edit
    rename: _Rename
    remove: _Remove


@dataclass(frozen=True)
class _Fetching(_Verbs):
    """The same, where files are fetched first."""

    add: _AddFetched
    edit: _EditFetched


@dataclass(frozen=True)
class Noun:
    """A noun of this installation."""

    site: Site
    actor: Actor
    verbs: _Verbs

    def every(self, **filters: Any) -> list[Thing]:
        return list(listing.every(self.site, self.verbs.plural, **filters))

    def show(self, name: str) -> Thing:
        return self.verbs.show(self.site, name)

    def add(self, name: str, fields: Fields) -> Thing:
        return self.verbs.add(self.site, self.actor, name, dict(fields))

    def edit(self, name: str, fields: Fields, expect: str | None = None) -> Thing:
        return self.verbs.edit(self.site, self.actor, name, dict(fields), expect=expect)

    def rename(self, name: str, new_name: str, expect: str | None = None) -> Thing:
        return self.verbs.rename(self.site, self.actor, name, new_name, expect=expect)

    def remove(self, name: str, expect: str | None = None) -> None:
        self.verbs.remove(self.site, self.actor, name, expect=expect)


def _interfaces(fields: dict[str, Any]) -> list[InterfaceInput] | None:
    given = fields.pop("interfaces", None)
    return None if given is None else [InterfaceInput(**each) for each in given]


def _add_machine(site: Site, actor: Actor, name: str, fields: dict[str, Any]) -> Thing:
    interfaces = _interfaces(fields) or []
    return machines.add(site, actor, name, interfaces, fields)


def _edit_machine(site: Site, actor: Actor, name: str, fields: dict[str, Any], *, expect: str | None) -> Thing:
    interfaces = _interfaces(fields)
    return machines.edit(site, actor, name, fields, interfaces, expect=expect)


def _add_subnet(site: Site, actor: Actor, name: str, fields: dict[str, Any]) -> Thing:
    cidr = fields.pop("cidr")
    return subnets.add(site, actor, name, cidr, fields)


def _add_profile(site: Site, actor: Actor, name: str, fields: dict[str, Any]) -> Thing:
    return profiles.add(site, actor, {"name": name} | fields)


def _add_template(site: Site, actor: Actor, name: str, fields: dict[str, Any]) -> Thing:
    return templates.add(site, actor, name, fields["text"])


def _edit_template(site: Site, actor: Actor, name: str, fields: dict[str, Any], *, expect: str | None) -> Thing:
    return templates.edit(site, actor, name, fields["text"], expect=expect)


def _add_distro(site: Site, actor: Actor, name: str, fields: dict[str, Any], progress: Progress | None = None) -> Thing:
    return installables.add_distro(site, actor, name, DistroInput(**fields), progress)


def _add_image(site: Site, actor: Actor, name: str, fields: dict[str, Any], progress: Progress | None = None) -> Thing:
    return installables.add_image(site, actor, name, ImageInput(**fields), progress)


def _add_token(site: Site, actor: Actor, name: str, fields: dict[str, Any]) -> Thing:
    owner = fields.pop("user", None)
    return tokens.add(site, actor, owner, name, fields)


def _edit_webhook(site: Site, actor: Actor, name: str, fields: dict[str, Any], *, expect: str | None) -> Thing:
    new_secret = bool(fields.pop("new_secret", False))
    return webhooks.edit(site, actor, name, fields, expect=expect, new_secret=new_secret)


MACHINES = _Verbs("machines", machines.show, _add_machine, _edit_machine, machines.rename, machines.remove)
SUBNETS = _Verbs("subnets", subnets.show, _add_subnet, subnets.edit, subnets.rename, subnets.remove)
PROFILES = _Verbs("profiles", profiles.show, _add_profile, profiles.edit, profiles.rename, profiles.remove)
TEMPLATES = _Verbs("templates", templates.show, _add_template, _edit_template, templates.rename, templates.remove)
DISTROS = _Fetching(
    "distros",
    catalogue.distro,
    _add_distro,
    installables.edit_distro,
    catalogue.rename_distro,
    catalogue.remove_distro,
)
IMAGES = _Fetching(
    "images", catalogue.image, _add_image, installables.edit_image, catalogue.rename_image, catalogue.remove_image
)
USERS = _Verbs("users", people.show, people.add, people.edit, people.rename, people.remove)
TOKENS = _Verbs("tokens", tokens.show, _add_token, tokens.edit, tokens.rename, tokens.remove)
WEBHOOKS = _Verbs("webhooks", webhooks.show, webhooks.add, _edit_webhook, webhooks.rename, webhooks.remove)


class Profiles(Noun):
    def as_of(self, name: str, moment: str) -> Thing:
        return asof.profile(self.site, name, moment)


class Machines(Noun):
    def some(self, limit: int, **filters: Any) -> list[Thing]:
        return newest(lambda **page: listing.machines(self.site, **page, **filters), limit)

    def add_row(self, pattern: str, fields: Fields) -> list[Thing]:
        given = dict(fields)
        return rows.add(self.site, self.actor, pattern, _interfaces(given) or [], given)

    def as_of(self, name: str, moment: str) -> Thing:
        return asof.machine(self.site, name, moment)

    def rendered_as_of(self, name: str, moment: str) -> Thing:
        return asof.render(self.site, name, moment)

    def set_secret(self, name: str, secret: str, value: str | None) -> None:
        machines.set_secret(self.site, self.actor, name, secret, value)

    def clear_flag(self, name: str) -> None:
        machines.clear_flag(self.site, name)

    def explain(self, name: str) -> Thing:
        return arming.explain(self.site, name)

    def render(self, name: str, parameters: Fields) -> dict[str, str]:
        return arming.preview(self.site, name, BuildRequest(parameters))

    def ansible(self, *, retired: bool) -> Thing:
        return ansible.inventory(self.site, retired=retired)

    def ansible_host(self, name: str) -> Thing:
        return ansible.host(self.site, name)

    def boot(self, name: str, arch: str, source: str | None) -> Thing:
        return explain.boot(self.site, name, arch, source)


class Tokens(Noun):
    def revoke(self, name: str, expect: str | None = None) -> Thing:
        return tokens.revoke(self.site, self.actor, name, expect=expect)


class Users(Noun):
    def sessions(self, name: str | None = None) -> list[Thing]:
        return logins.sessions(self.site, name)


class Subnets(Noun):
    def counts(self, name: str) -> Thing:
        return dict(addresses.overview(self.site, name, limit=1)["counts"])

    def used(self, name: str) -> list[Thing]:
        found: list[Thing] = []
        cursor: str | None = None
        while True:
            page = addresses.overview(self.site, name, limit=MOST, cursor=cursor)
            found += page["used"]
            cursor = page["next"]
            if cursor is None:
                return found

    def free(self, name: str, count: int) -> list[str]:
        return addresses.free(self.site, name, count)

    def hold(self, name: str, count: int, minutes: int) -> list[str]:
        return addresses.hold(self.site, self.actor, name, count, minutes)


class Webhooks(Noun):
    def test(self, name: str) -> Thing:
        return webhooks.test(self.site, self.actor, name)

    def deliveries(self, name: str, limit: int, cursor: str | None) -> Thing:
        return deliveries.listing(self.site, name, limit, cursor)

    def redeliver(self, uid: str) -> Thing:
        return deliveries.redeliver(self.site, self.actor, uid)


@dataclass(frozen=True)
class Fetched(Noun):
    """Distros and images; what they name may be files of this host."""

    verbs: _Fetching

    def add(self, name: str, fields: Fields, progress: Progress | None = None) -> Thing:
        return self.verbs.add(self.site, self.actor, name, dict(fields), progress)

    def edit(self, name: str, fields: Fields, expect: str | None = None, progress: Progress | None = None) -> Thing:
        return self.verbs.edit(self.site, self.actor, name, dict(fields), progress, expect=expect)
