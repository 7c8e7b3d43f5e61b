"""Canary secrets (S80, S81): looks for given values in everything that a handoff leaves behind.

    canaries = Canaries({"chef-client-key": PEM, "admin key": OTHER_PEM})
    with canaries.in_processes():                     # samples /proc/*/cmdline and environ meanwhile
        ...the whole flow...
    canaries.assert_nowhere(served, machine="web01", left=[root / "var/log"])

A value may also be given later, by ``canaries.add(name, value)``: what the server made is known only once it is there.
"""

import base64
import contextlib
import html
import itertools
import json
import re
import threading
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

from asking import Api
from conftest import Served
from markupsafe import escape
from sqlalchemy import MetaData, select
from uiclient import Browser

from provisioner.services.site import Site
from provisioner.store.engine import read
from provisioner.store.models import Build, Machine, Profile
from provisioner.web import admin

_SHORTEST = 8
_STREAMED_BYTES = 1 << 16


def forms(value: str) -> set[bytes]:
    """How a value may be written: as it is, in JSON, in HTML, in a URL or form, in base64.

    Of several lines each long one counts; of a PEM block the second half, since an RSA key begins with its public
    modulus.
    """
    lines = [line.strip() for line in value.strip().splitlines()]
    if len(lines) > 1:
        if lines[0].startswith("-----BEGIN"):
            lines = lines[1:-1][len(lines) // 2 :]
        told = [line for line in lines if len(line) >= 2 * _SHORTEST]
        assert told, "no line of this canary is long enough to be looked for"
    else:
        told = lines
        assert len(told[0]) >= _SHORTEST, "a canary this short is found by accident"
    written = (
        str,
        html.escape,
        escape,
        quote_plus,
        lambda text: quote(text, safe=""),
        lambda text: json.dumps(text)[1:-1],
    )
    found = {str(write(each)) for each in told for write in written}
    whole = base64.b64encode(value.encode()).decode()
    return {form.encode() for form in (*found, whole[: len(whole) // 4 * 3])}


@dataclass
class Canaries:
    """The values to look for, by the names that a failed test tells instead of them."""

    values: Mapping[str, str] = field(default_factory=dict)
    hits: list[str] = field(default_factory=list)
    looked: int = 0

    def __post_init__(self) -> None:
        self._forms: dict[str, set[bytes]] = {}
        for name, value in self.values.items():
            self.add(name, value)
        self._samples: dict[bytes, str] = {}

    def add(self, name: str, value: str) -> None:
        """One more value, for all that is looked at after; processes seen before are looked at again in the end."""
        self._forms[name] = forms(value)

    def look(self, where: str, text: bytes | str) -> None:
        """Look at one text, and note what is in it."""
        content = text.encode(errors="replace") if isinstance(text, str) else text
        self.looked += 1
        for name, written in self._forms.items():
            if any(form in content for form in written):
                self.hits.append(f"{name} in {where}")

    @contextlib.contextmanager
    def in_processes(self, pause: float = 0.05) -> Iterator[None]:
        """Sample the command line and the environment of every process of this host meanwhile."""
        over = threading.Event()
        thread = threading.Thread(target=self._sample, args=(over, pause), daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _sample(self, over: threading.Event, pause: float) -> None:
        while True:
            for entry in Path("/proc").glob("[0-9]*"):
                for file in ("cmdline", "environ"):
                    with contextlib.suppress(OSError):
                        told = (entry / file).read_bytes()
                        if told:
                            self._samples.setdefault(told, f"{file} of {told.split(bytes(1))[0][:60]!r}")
            if over.wait(pause):
                return

    def look_at_processes(self) -> None:
        """At every command line and environment that was sampled."""
        for told, where in self._samples.items():
            self.look(where, told)

    def look_at_files(self, paths: Iterable[Path], skip: Iterable[Path] = ()) -> None:
        """At files, and at all files below directories, also at what zlib makes of them."""
        skipped = [each.resolve() for each in skip]
        for path in paths:
            for file in [path, *path.rglob("*")] if path.is_dir() else [path]:
                if file.is_file() and not any(file.resolve().is_relative_to(each) for each in skipped):
                    self.look(str(file), file.read_bytes())

    def look_at_database(self, site: Site) -> None:
        """At every column of every row of every table, unpacked where it is packed (sealed files, logs)."""
        known = MetaData()
        known.reflect(site.engine)
        with site.engine.connect() as connection:
            for table in known.sorted_tables:
                for row in connection.execute(select(table)).mappings():
                    for column, value in row.items():
                        self.look(f"{table.name}.{column}", _unpacked(value))

    def look_at_answers(self, site: Site, names: Iterable[str], numbers: Iterable[int]) -> None:
        """At every page and every API answer that GET gives an administrator, for these names and numbers."""
        browser = Browser(site)
        token = Api(site).bearer()
        names, numbers = list(names), list(numbers)
        for rule in sorted({each.rule for each in admin.create(site).url_map.iter_rules() if "GET" in each.methods}):
            for path in _paths(rule, names, numbers):
                headers = {"Authorization": f"Bearer {token}"} if path.startswith("/api/") else {"Accept": "text/html"}
                answer = browser.client.get(path, headers=headers, buffered=False)
                self.look(f"GET {path}", _read(answer))
                answer.close()

    def look_at_commands(self, served: Served, machine: str) -> None:
        """At what the commands print that an administrator would use."""
        for command in (
            ["machine", "show", machine],
            ["build", "list"],
            ["build", "show", machine],
            ["build", "show", machine, "--output", "json"],
            ["build", "log", machine, "--sealed"],
            ["profile", "explain", machine],
            ["render", machine],
            ["history"],
            ["check"],
        ):
            done = served.cli(*command, code=None)
            self.look(f"provisioner {' '.join(command)}", done.stdout + done.stderr)

    def assert_nowhere(self, served: Served, machine: str, left: Iterable[Path] = ()) -> None:
        """Look everywhere: ``left`` are files and directories that the machine and the tool left, logs above all.

        Of the state directory only ``credentials`` is left out, where the administrator's own keys lie.
        """
        site = served.site
        try:
            with read(site.engine) as session:
                found = session.scalars(select(Machine).where(Machine.name == machine)).one()
                profiles = session.scalars(select(Profile.name).where(Profile.id == found.profile_id))
                names = [machine, *profiles]
                numbers = [1, *session.scalars(select(Build.id).where(Build.machine_id == found.id))]
            self.look_at_processes()
            self.look_at_answers(site, names, numbers)
            self.look_at_database(site)
            self.look_at_commands(served, machine)
        finally:
            site.engine.dispose()
        self.look("the service's log", served.log.read_bytes())
        self.look_at_files([served.state], skip=[served.state / "credentials"])
        self.look_at_files(left)
        assert self.looked > 100, f"only {self.looked} places were looked at"
        assert not self.hits, f"secrets are in: {sorted(set(self.hits))}"


def _unpacked(value: Any) -> bytes:
    if isinstance(value, bytes | memoryview):
        content = bytes(value)
        with contextlib.suppress(zlib.error):
            return content + zlib.decompress(content)
        return content
    told = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    return told.encode(errors="replace")


def _paths(rule: str, names: list[str], numbers: list[int]) -> Iterator[str]:
    """The rule's paths with every name and number in its places, those of 50 at most."""
    parts = re.split(r"<([^>]*)>", rule)
    choices = [numbers if place.startswith("int:") or place == "id" else names for place in parts[1::2]]
    for chosen in itertools.islice(itertools.product(*choices), 50):
        yield "".join(text + quote(str(value)) for text, value in zip(parts[::2], [*chosen, ""], strict=True))


def _read(answer: Any) -> bytes:
    """The body; of a stream that has no end, its beginning."""
    if answer.mimetype != "text/event-stream":
        return bytes(answer.get_data())
    return bytes(next(iter(answer.response), b""))[:_STREAMED_BYTES]
