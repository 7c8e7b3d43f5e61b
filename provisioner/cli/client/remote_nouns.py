"""The administered objects behind a server's API."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from provisioner.cli.client.protocol import Fields, Progress, Thing, joined, newest
from provisioner.cli.client.transport import ANSWER_SECONDS, FETCH_SECONDS, Api
from provisioner.errors import InvalidInput, NotFound

_FILES = ("kernel", "initrd", "tree", "file")


def segment(kind: str, name: str) -> str:
    """A name as a part of a path. Raises NotFound for what can be no name, and would be another path."""
    if not name or "/" in name or name in {".", ".."}:
        raise _missing(kind, name)
    return quote(name, safe="", errors="replace")


def _missing(kind: str, name: str) -> NotFound:
    return NotFound(f"there is no {kind} {name!r}", hint=f"see `provisioner {kind} list`")


@dataclass(frozen=True)
class Noun:
    """A noun of the server."""

    api: Api
    kind: str

    @property
    def plural(self) -> str:
        return f"/{self.kind}s"

    def path(self, name: str) -> str:
        """Where the object is."""
        return f"{self.plural}/{segment(self.kind, name)}"

    def every(self, **filters: Any) -> list[Thing]:
        return joined(self.api.pages(self.plural, **filters))

    def show(self, name: str) -> Thing:
        return thing(self.api.get(self.path(name)))

    def add(self, name: str, fields: Fields) -> Thing:
        return thing(self.api.change("POST", self.plural, {"name": name, **fields}))

    def edit(self, name: str, fields: Fields, expect: str | None = None) -> Thing:
        return thing(self.api.change("PATCH", self.path(name), dict(fields), expect=expect))

    def rename(self, name: str, new_name: str, expect: str | None = None) -> Thing:
        return thing(self.api.change("POST", f"{self.path(name)}:rename", {"name": new_name}, expect=expect))

    def remove(self, name: str, expect: str | None = None) -> None:
        self.api.change("DELETE", self.path(name), expect=expect)


def thing(answer: Any) -> Thing:
    return dict(answer)


class Profiles(Noun):
    def as_of(self, name: str, moment: str) -> Thing:
        return thing(self.api.get(self.path(name), as_of=moment))


class Machines(Noun):
    def some(self, limit: int, **filters: Any) -> list[Thing]:
        return newest(lambda **page: self.api.get(self.plural, **page, **filters), limit)

    def add_row(self, pattern: str, fields: Fields) -> list[Thing]:
        return list(self.api.change("POST", "/machines:row", {"name": pattern, **fields})["items"])

    def as_of(self, name: str, moment: str) -> Thing:
        return thing(self.api.get(self.path(name), as_of=moment))

    def rendered_as_of(self, name: str, moment: str) -> Thing:
        return thing(self.api.get(f"{self.path(name)}/render", as_of=moment))

    def set_secret(self, name: str, secret: str, value: str | None) -> None:
        path = f"{self.path(name)}/secrets/{segment('secret', secret)}"
        expect = str(self.show(name)["revision"])
        if value is None:
            self.api.change("DELETE", path, expect=expect)
        else:
            self.api.change("PUT", path, {"value": value}, expect=expect)

    def clear_flag(self, name: str) -> None:
        self.api.change("POST", f"{self.path(name)}:clear-flag")

    def explain(self, name: str) -> Thing:
        return thing(self.api.get(f"{self.path(name)}/explain"))

    def render(self, name: str, parameters: Fields) -> dict[str, str]:
        body = {"parameters": dict(parameters)}
        return dict(self.api.change("POST", f"{self.path(name)}:render", body)["files"])

    def ansible(self, *, retired: bool) -> Thing:
        return thing(self.api.get("/machines:ansible", retired=retired))

    def ansible_host(self, name: str) -> Thing:
        return thing(self.api.get(f"{self.path(name)}/ansible"))

    def boot(self, name: str, arch: str, source: str | None) -> Thing:
        return thing(self.api.get(f"{self.path(name)}/boot", arch=arch, source=source))


class Subnets(Noun):
    def counts(self, name: str) -> Thing:
        return thing(self.api.get(f"{self.path(name)}/addresses", limit=1)["counts"])

    def used(self, name: str) -> list[Thing]:
        return joined(self.api.pages(f"{self.path(name)}/addresses", rows="used"))

    def free(self, name: str, count: int) -> list[str]:
        return list(self.api.get(f"{self.path(name)}/free", count=count)["addresses"])

    def hold(self, name: str, count: int, minutes: int) -> list[str]:
        body = {"count": count, "minutes": minutes}
        return list(self.api.change("POST", f"{self.path(name)}:hold", body)["addresses"])


class Webhooks(Noun):
    def test(self, name: str) -> Thing:
        return thing(self.api.change("POST", f"{self.path(name)}:test"))

    def deliveries(self, name: str, limit: int, cursor: str | None) -> Thing:
        return thing(self.api.get(f"{self.path(name)}/deliveries", limit=limit, cursor=cursor))

    def redeliver(self, uid: str) -> Thing:
        return thing(self.api.change("POST", f"/deliveries/{segment('delivery', uid)}:redeliver"))


class Templates(Noun):
    def path(self, name: str) -> str:
        kind, _, rest = name.partition("/")
        if not rest:
            raise _missing(self.kind, name)
        return f"{self.plural}/{segment(self.kind, kind)}/{segment(self.kind, rest)}"

    def edit(self, name: str, fields: Fields, expect: str | None = None) -> Thing:
        return thing(self.api.change("PUT", self.path(name), dict(fields), expect=expect))


class Fetched(Noun):
    """Distros and images: the server fetches what they name."""

    def add(self, name: str, fields: Fields, progress: Progress | None = None) -> Thing:
        del progress
        _refuse_files(fields)
        return thing(self.api.change("POST", self.plural, {"name": name, **fields}, seconds=FETCH_SECONDS))

    def edit(self, name: str, fields: Fields, expect: str | None = None, progress: Progress | None = None) -> Thing:
        del progress
        _refuse_files(fields)
        seconds = FETCH_SECONDS if {"kernel", "initrd", "file"} & set(fields) else ANSWER_SECONDS
        return thing(self.api.change("PATCH", self.path(name), dict(fields), expect=expect, seconds=seconds))


def _refuse_files(fields: Fields) -> None:
    for key in _FILES:
        value = str(fields.get(key, ""))
        if value and not value.startswith(("http://", "https://")):
            raise InvalidInput(
                f"{value} is not a URL, and files of this host do not reach the server",
                where=f"--{key}",
                hint="give a URL that the server can fetch, or run this command on the server",
            )


class Tokens(Noun):
    def revoke(self, name: str, expect: str | None = None) -> Thing:
        return thing(self.api.change("POST", f"{self.path(name)}:revoke", expect=expect))


class Users(Noun):
    def sessions(self, name: str | None = None) -> list[Thing]:
        return list(self.api.get("/sessions", user=name)["items"])
