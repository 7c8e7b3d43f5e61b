"""Two administrators and an inventory at one API, against a model of what must be there: hypothesis drives it."""

import contextlib
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from asking import Api
from conftest import postgres_url
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule, run_state_machine_as_test
from postgres import copied
from world import ACTOR

from provisioner.services import records, subnets
from provisioner.services.site import Site, open_site
from provisioner.settings import Settings

NAMES = st.sampled_from([f"m{number}" for number in range(6)])
MACS = st.sampled_from([f"52:54:00:00:00:0{number}" for number in range(1, 7)])
IPS = st.sampled_from([f"127.0.9.{number}" for number in (10, 11, 12, 13)])
SPELLINGS: list[Callable[[str], str]] = [
    str,
    str.upper,
    lambda mac: mac.replace(":", "-"),
    lambda mac: mac.replace(":", ""),
    lambda mac: f"01-{mac.replace(':', '-')}",
]
"""How the same MAC is written elsewhere."""


class Administrators(RuleBasedStateMachine):
    """The model holds what each machine is; every answer of the API must agree with it."""

    made: Callable[[], Site]
    etags = Bundle("etags")

    def __init__(self) -> None:
        super().__init__()
        self.api = Api(type(self).made())
        subnets.add(self.api.site, ACTOR, "net", "127.0.9.0/28", {})
        self.machines: dict[str, dict[str, Any]] = {}
        self.revisions: dict[str, str] = {}

    def teardown(self) -> None:
        assert records.verify(self.api.site) == []
        self.api.site.engine.dispose()

    def owner(self, key: str, value: str) -> str | None:
        """Which machine of the model has the MAC or address."""
        return next((name for name, each in self.machines.items() if each[key] == value), None)

    def keep(self, answer: Any) -> tuple[str, str]:
        """Take an answer into the model."""
        told = answer.json()
        card = told["interfaces"][0]
        self.machines[told["name"]] = {"mac": card["mac"], "ip": card["ip"], "description": told["description"]}
        self.revisions[told["name"]] = answer.etag
        return told["name"], answer.etag

    @rule(target=etags, name=NAMES, mac=MACS, ip=st.none() | IPS)
    def add(self, name: str, mac: str, ip: str | None) -> tuple[str, str]:
        answer = self.api.ask("POST", "/machines", {"name": name, "interfaces": [{"mac": mac, "ip": ip}]})
        taken = name in self.machines or self.owner("mac", mac) or (ip and self.owner("ip", ip))
        assert answer.status == (409 if taken else 201), answer.text()
        return self.keep(answer) if answer.status == 201 else (name, '"0.0"')

    @rule(target=etags, name=NAMES, mac=MACS)
    def add_with_the_next_address(self, name: str, mac: str) -> tuple[str, str]:
        body = {"name": name, "interfaces": [{"mac": mac, "ip": "next", "subnet": "net"}]}
        used = {each["ip"] for each in self.machines.values()}
        answer = self.api.ask("POST", "/machines", body)
        if answer.status == 201:
            assert answer.json()["interfaces"][0]["ip"] not in used, "an address twice"
            return self.keep(answer)
        assert answer.status == 409
        return name, '"0.0"'

    @rule(target=etags, mac=MACS, spell=st.sampled_from(SPELLINGS), words=st.sampled_from(["", "a", "b"]))
    def upsert(self, mac: str, spell: Callable[[str], str], words: str) -> tuple[str, str]:
        owner = self.owner("mac", mac)
        answer = self.api.ask("PUT", f"/machines/by-mac/{spell(mac)}", {"description": words})
        assert answer.status == (200 if owner else 201), answer.text()
        if owner:
            assert answer.json()["name"] == owner
            same = self.machines[owner]["description"] == words
            assert (answer.etag == self.revisions[owner]) == same, "a change that changes nothing leaves no revision"
        return self.keep(answer)

    @rule(target=etags, seen=etags, words=st.sampled_from(["", "a", "b", "c"]))
    def change(self, seen: tuple[str, str], words: str) -> tuple[str, str]:
        name, etag = seen
        answer = self.api.ask("PATCH", f"/machines/{name}", {"description": words}, match=etag)
        self.as_expected(answer, name, etag, 200)
        return self.keep(answer) if answer.status == 200 else seen

    @rule(target=etags, seen=etags, new=NAMES)
    def rename(self, seen: tuple[str, str], new: str) -> tuple[str, str]:
        name, etag = seen
        answer = self.api.ask("POST", f"/machines/{name}:rename", {"name": new}, match=etag)
        if name in self.machines and self.revisions[name] == etag and new in self.machines:
            assert answer.status == 409
            return seen
        self.as_expected(answer, name, etag, 200)
        if answer.status != 200:
            return seen
        del self.machines[name], self.revisions[name]
        return self.keep(answer)

    @rule(seen=consumes(etags))
    def remove(self, seen: tuple[str, str]) -> None:
        name, etag = seen
        answer = self.api.ask("DELETE", f"/machines/{name}", match=etag)
        self.as_expected(answer, name, etag, 204)
        if answer.status == 204:
            del self.machines[name], self.revisions[name]

    @rule(name=NAMES)
    def change_without_saying_which_version(self, name: str) -> None:
        assert self.api.ask("PATCH", f"/machines/{name}", {"description": "x"}).status == 428

    @rule(rows=st.lists(st.tuples(NAMES, MACS, st.sampled_from(["", "a", "b"])), min_size=1, max_size=4))
    def plan_and_apply(self, rows: list[tuple[str, str, str]]) -> None:
        body = [{"name": name, "interfaces": [{"mac": mac}], "description": words} for name, mac, words in rows]
        plan = self.api.ask("POST", "/machines:plan", {"machines": body}).json()
        applied = self.api.ask("POST", "/machines:apply", {"plan": plan["id"]})
        assert applied.status == (409 if plan["refused"] else 200), applied.text()
        if applied.status == 200:
            for name in {*applied.json()["created"], *applied.json()["changed"]}:
                self.machines.pop(name, None)
            self.read_all()
            assert self.api.ask("POST", "/machines:apply", {"plan": plan["id"]}).json()["again"] is True
            again = self.api.ask("POST", "/machines:plan", {"machines": body}).json()
            assert (again["created"], again["changed"]) == ([], [])

    def as_expected(self, answer: Any, name: str, etag: str, good: int) -> None:
        """404 for what is not there, 412 for another version, else it worked."""
        wanted = 404 if name not in self.machines else good if self.revisions[name] == etag else 412
        assert answer.status == wanted, (answer.status, wanted, answer.text())

    def read_all(self) -> None:
        """Take all machines from the list into the model."""
        self.machines, self.revisions = {}, {}
        for each in self.api.ask("GET", "/machines?limit=100").json()["items"]:
            self.keep(self.api.ask("GET", f"/machines/{each['name']}"))

    @invariant()
    def the_list_is_the_model(self) -> None:
        listed = self.api.ask("GET", "/machines?limit=100").json()["items"]
        told = {each["name"]: (each["interfaces"][0]["mac"], each["description"]) for each in listed}
        assert told == {name: (each["mac"], each["description"]) for name, each in self.machines.items()}
        revisions = {each["name"]: f'"{each["revision"]}"' for each in listed}
        assert revisions == self.revisions
        ips = [each["interfaces"][0]["ip"] for each in listed if each["interfaces"][0]["ip"]]
        assert len(ips) == len(set(ips))


def drive(make: Callable[[], Site], examples: int) -> None:
    """Run the machine on installations that ``make`` makes."""
    machine = type("Driven", (Administrators,), {"made": staticmethod(make)})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


@pytest.fixture
def fresh(site: Site) -> Any:
    """Makes copies of a SQLite installation."""
    site.engine.dispose()
    with contextlib.ExitStack() as stack:

        def make() -> Site:
            base = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            shutil.copytree(site.settings.state_dir, base / "state")
            return open_site(Settings(state_dir=base / "state"))

        yield make


@pytest.mark.slow
def test_r16_r17_administrators_and_an_inventory_at_once(fresh: Callable[[], Site]) -> None:
    drive(fresh, 8)


@pytest.mark.slow
def test_r16_r17_administrators_and_an_inventory_on_postgresql(_postgres: str, _template: Path) -> None:
    def make() -> Site:
        name = copied(_postgres, "initialised", "m")
        return open_site(Settings(state_dir=_template, database_url=postgres_url(_postgres, name)))

    drive(make, 3)


@pytest.mark.full
def test_r16_r17_administrators_and_an_inventory_at_once_for_long(fresh: Callable[[], Site]) -> None:
    drive(fresh, 200)
