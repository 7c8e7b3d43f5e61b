"""Plan and apply: what it says is what it does, whole or not at all, and never over somebody else's change."""

import json
import threading
from datetime import timedelta
from typing import Any

import pytest
from bulkworlds import applied, bodies, snapshots, subnets_of
from conftest import both_engines
from hypothesis import HealthCheck, Phase, given, settings
from sqlalchemy import func, select, text, update
from world import ACTOR, World

from provisioner.errors import NotFound, PlanRefused, ProvisionerError, Stale, TooLarge
from provisioner.services import addresses, arming, dhcp, machines, plans, quarantine, records, subnets
from provisioner.services.machines import InterfaceInput
from provisioner.services.site import Actor, Site
from provisioner.store.engine import read, write
from provisioner.store.models import Discovery, Interface, Machine, MachineWords, now
from provisioner.store.plans import STAGED, Plan

SOME = [
    {
        "name": f"web{number:02d}",
        "interfaces": [{"mac": f"52:54:00:00:00:{number:02x}", "ip": f"127.0.2.{number}"}],
        "tags": ["web"],
        "profile": "rocky9",
    }
    for number in range(10, 14)
]
# An example takes most of a second: shrinking would take minutes.
quickly = settings(
    max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate]
)


@pytest.fixture
def lab(site: Site) -> Site:
    """A site with the subnets."""
    subnets_of(site)
    return site


def changed(*edits: tuple[int, dict[str, Any]]) -> list[dict[str, Any]]:
    """SOME with some of it changed."""
    body: list[dict[str, Any]] = json.loads(json.dumps(SOME))
    for index, edit in edits:
        body[index] |= edit
    return body


def mac(number: int) -> str:
    return f"52:54:00:00:00:{number:02x}"


def refusals(site: Site, body: list[Any]) -> list[tuple[int, str, str]]:
    """What a plan refuses: row, code, pointer."""
    return [(each["index"], each["code"], each["pointer"]) for each in plans.plan(site, ACTOR, body)["refused"]]


def clean(site: Site) -> None:
    """The history is whole, nothing is staged, the words are those of the machines."""
    assert records.verify(site) == []
    with read(site.engine) as session:
        assert [session.scalar(select(func.count()).select_from(model)) for model in STAGED] == [0, 0, 0]
        assert session.scalar(select(func.count()).select_from(MachineWords)) == session.scalar(
            select(func.count()).select_from(Machine)
        )


@both_engines
def test_a_plan_is_what_apply_does(lab: Site) -> None:
    wanted = dhcp.generation(lab)
    plan = plans.plan(lab, ACTOR, SOME)
    assert [each["name"] for each in plan["created"]] == ["web10", "web11", "web12", "web13"]
    assert (plan["changed"], plan["refused"], plan["unchanged"], plan["machines"]) == ([], [], 0, 4)
    assert snapshots(lab) == []
    assert plans.show(lab, plan["id"]) == plan
    done = plans.apply(lab, ACTOR, plan_id=plan["id"])
    assert snapshots(lab) == [each["machine"] for each in plan["created"]]
    assert (done["created"], done["changed"], done["again"]) == (["web10", "web11", "web12", "web13"], [], False)
    assert dhcp.generation(lab) == wanted + 1
    assert machines.show(lab, "web10")["interfaces"][0] == {
        "name": "nic0", "mac": "52:54:00:00:00:0a", "ip": "127.0.2.10", "subnet": "lab"
    }  # fmt: skip
    assert plans.plan(lab, ACTOR, SOME)["unchanged"] == 4
    newest = records.listing(lab, "web13")[0]
    assert (newest["action"], newest["actor"], newest["after"]) == ("add", "tester", snapshots(lab)[-1])
    machines.add(lab, ACTOR, "later", [InterfaceInput("52:54:00:00:01:01", "127.0.2.99")], {})  # the next row numbers
    clean(lab)


@both_engines
def test_changes_are_told_and_done_field_by_field(lab: Site) -> None:
    applied(lab, SOME)
    body = changed((0, {"description": "Grüße", "parameters": {"a": {"b": 1}}}), (1, {"tags": ["db"], "profile": None}))
    body[2]["interfaces"].append({"mac": "5254.0000.0199", "name": "eth1"})
    plan = plans.plan(lab, ACTOR, body)
    assert {
        each["name"]: [(c["pointer"], c["before"], c["after"]) for c in each["changes"]] for each in plan["changed"]
    } == {
        "web10": [("/description", "", "Grüße"), ("/parameters/a", None, {"b": 1})],
        "web11": [("/profile", "rocky9", None), ("/tags/0", "web", "db")],
        "web12": [
            (
                "/interfaces",
                [{"name": "nic0", "mac": "52:54:00:00:00:0c", "ip": "127.0.2.12", "subnet": "lab"}],
                [
                    {"name": "nic0", "mac": "52:54:00:00:00:0c", "ip": "127.0.2.12", "subnet": "lab"},
                    {"name": "eth1", "mac": "52:54:00:00:01:99", "ip": None, "subnet": None},
                ],
            )
        ],
    }
    before = {each["name"]: each for each in snapshots(lab)}
    plans.apply(lab, ACTOR, plan_id=plan["id"])
    assert machines.show(lab, "52:54:00:00:01:99")["name"] == "web12"
    assert machines.show(lab, "web11")["tags"] == ["db"]
    assert records.listing(lab, "web10")[0]["before"] == before["web10"]
    with read(lab.engine) as session:
        versions = dict(session.execute(select(Machine.name, Machine.version)).all())
    newest = {each["name"]: each["id"] for each in reversed(records.listing(lab))}
    assert versions == {name: newest[name] for name in versions}
    assert versions["web13"] < versions["web10"]
    clean(lab)


@both_engines
def test_what_is_left_out_stays_and_none_takes_away(lab: Site) -> None:
    full = {"description": "x", "parameters": {"a": 1, "b": 2}, "serial": "SN1234567", "kernel_options": ["quiet"]}
    applied(lab, [SOME[0] | full])
    applied(lab, [{"name": "web10", "parameters": {"a": None}, "serial": None}])
    shown = machines.show(lab, "web10")
    assert (shown["description"], shown["parameters"], shown["serial"]) == ("x", {"b": 2}, None)
    assert (shown["kernel_options"], shown["tags"], len(shown["interfaces"])) == (["quiet"], ["web"], 1)
    applied(lab, [{"interfaces": [{"mac": "52-54-00-00-00-0A"}], "description": "by its MAC"}])
    shown = machines.show(lab, "web10")
    assert (shown["description"], shown["interfaces"][0]["ip"]) == ("by its MAC", "127.0.2.10")


@both_engines
def test_addresses_may_change_places(lab: Site) -> None:
    applied(lab, SOME)
    body = changed()
    body[0]["interfaces"][0]["ip"], body[1]["interfaces"][0]["ip"] = "127.0.2.11", "127.0.2.10"
    assert refusals(lab, body[:1]) == [(0, "address-taken", "/interfaces/0/ip")]
    applied(lab, body)
    assert machines.show(lab, "web10")["interfaces"][0]["ip"] == "127.0.2.11"
    clean(lab)


@both_engines
def test_names_may_change_places(lab: Site) -> None:
    """By pairs and in a ring; half of it is refused, with what to do."""
    applied(lab, [{"name": f"n{number}", "interfaces": [{"mac": mac(number)}]} for number in range(5)])
    before = {each["name"]: each for each in snapshots(lab)}
    swap = [{"name": "n1", "interfaces": [{"mac": mac(0)}]}, {"name": "n0", "interfaces": [{"mac": mac(1)}]}]
    assert refusals(lab, swap[:1]) == [(0, "name-taken", "/name")]
    assert "names may change places" in plans.plan(lab, ACTOR, swap[:1])["refused"][0]["hint"]
    plan = plans.plan(lab, ACTOR, swap)
    assert [each["changes"] for each in plan["changed"]] == [
        [{"pointer": "/name", "before": "n0", "after": "n1"}],
        [{"pointer": "/name", "before": "n1", "after": "n0"}],
    ]
    plans.apply(lab, ACTOR, plan_id=plan["id"])
    ring = [{"name": f"n{2 + (number + 1) % 3}", "interfaces": [{"mac": mac(2 + number)}]} for number in range(3)]
    applied(lab, ring)
    after = {each["name"]: each["interfaces"][0]["mac"] for each in snapshots(lab)}
    assert after == {"n0": mac(1), "n1": mac(0), "n3": mac(2), "n4": mac(3), "n2": mac(4)}
    assert machines.show(lab, "n1")["interfaces"] == before["n0"]["interfaces"]
    assert records.listing(lab, "machine/n3")[0]["changed"] == ["name"]
    clean(lab)


@both_engines
def test_macs_that_change_places_are_the_names_that_do_unless_a_serial_number_says_otherwise(lab: Site) -> None:
    first: list[dict[str, Any]] = [
        {"name": f"n{number}", "serial": f"SN{number}", "interfaces": [{"mac": mac(number)}]} for number in (0, 1)
    ]
    applied(lab, first)
    swapped = [first[0] | {"interfaces": [{"mac": mac(1)}]}, first[1] | {"interfaces": [{"mac": mac(0)}]}]
    assert {each[1] for each in refusals(lab, swapped)} == {"identity-conflict"}
    reason = plans.plan(lab, ACTOR, swapped)["refused"][0]["reason"]
    assert reason == "the MAC address is machine n1's, the serial number SN0 machine n0's"
    both = [{"name": "n0", "interfaces": [{"mac": mac(0)}, {"mac": mac(1)}]}]
    assert refusals(lab, both)[0][1] == "identity-conflict"
    applied(lab, [{key: each[key] for key in ("name", "interfaces")} for each in swapped])
    assert machines.show(lab, "n0")["serial"] == "SN1"
    clean(lab)


@both_engines
def test_s18_every_refusal_has_its_row_its_place_and_its_reason(lab: Site, world: World) -> None:
    world.distro()
    applied(lab, SOME)
    arming.start(lab, ACTOR, "web13")
    nic = {"mac": "52:54:00:00:09:09"}
    rows: list[tuple[Any, str, str]] = [
        ("text", "content-malformed", ""),
        ({"name": "a", "colour": 1}, "content-malformed", "/colour"),
        ({"name": "a b", "interfaces": [nic]}, "name-malformed", "/name"),
        ({"name": "a1", "interfaces": [{"mac": "52:54"}]}, "mac-malformed", "/interfaces/0/mac"),
        (
            {"name": "a2", "interfaces": [{"mac": "52:54:00:00:08:01", "ip": "1.2.3"}]},
            "address-malformed",
            "/interfaces/0/ip",
        ),
        (
            {"name": "a3", "interfaces": [{"mac": "52:54:00:00:08:02", "ip": "9.9.9.9"}]},
            "address-outside-subnet",
            "/interfaces/0/ip",
        ),
        (
            {"name": "a4", "interfaces": [{"mac": "52:54:00:00:08:03", "ip": "127.0.2.255"}]},
            "address-outside-subnet",
            "/interfaces/0/ip",
        ),
        (
            {"name": "a5", "interfaces": [{"mac": "52:54:00:00:08:04", "ip": "127.0.2.10"}]},
            "address-taken",
            "/interfaces/0/ip",
        ),
        (
            {"name": "a6", "interfaces": [{"mac": "52:54:00:00:08:05", "subnet": "nope"}]},
            "unknown-reference",
            "/interfaces/0/subnet",
        ),
        (
            {"name": "a7", "interfaces": [{"mac": "52:54:00:00:08:06", "ip": "next"}]},
            "invalid-input",
            "/interfaces/0/ip",
        ),
        ({"name": "a8", "interfaces": [{"mac": "52:54:00:00:08:07"}] * 2}, "invalid-input", "/interfaces/1/mac"),
        (
            {"name": "a9", "interfaces": [{"mac": f"52:54:00:00:07:{n:02x}"} for n in range(65)]},
            "too-large",
            "/interfaces",
        ),
        (
            {"name": "b1", "profile": "nope", "interfaces": [{"mac": "52:54:00:00:08:08"}]},
            "unknown-reference",
            "/profile",
        ),
        ({"name": "b2", "kernel_options": ["a b"], "interfaces": [nic]}, "content-malformed", "/kernel_options"),
        ({"name": "b3", "parameters": {"A-B": 1}, "interfaces": [nic]}, "name-malformed", "/parameters"),
        ({"name": "b4", "parameters": {"a": float("inf")}, "interfaces": [nic]}, "content-malformed", "/parameters"),
        ({"name": "b5", "tags": ["two words"], "interfaces": [nic]}, "invalid-input", "/tags/0"),
        ({"name": "b6", "uuid": "x", "interfaces": [nic]}, "invalid-input", "/uuid"),
        ({"name": "b7", "local_boot": "x", "interfaces": [nic]}, "invalid-input", "/local_boot"),
        ({"name": "b8", "protected": "yes", "interfaces": [nic]}, "invalid-input", "/protected"),
        ({"name": "b9"}, "invalid-input", "/interfaces"),
        ({"name": "c1", "interfaces": []}, "invalid-input", "/interfaces"),
        ({"interfaces": [{"mac": "52:54:00:00:08:09"}]}, "invalid-input", "/name"),
        ({"name": "web10", "interfaces": [{"mac": "52:54:00:00:08:10"}]}, "identity-conflict", "/name"),
        ({"name": "web13", "protected": True}, "still-in-use", "/protected"),
    ]
    found = plans.plan(lab, ACTOR, [row for row, _, _ in rows])
    told = [(each["index"], each["code"], each["pointer"]) for each in found["refused"]]
    for index, (row, code, pointer) in enumerate(rows):
        assert told[index] == (index, code, pointer), (row, found["refused"][index])
    assert all(each["reason"] and each["hint"] for each in found["refused"])
    assert (found["created"], found["changed"]) == ([], [])
    with pytest.raises(PlanRefused, match="25 of 25") as caught:
        plans.apply(lab, ACTOR, plan_id=found["id"])
    assert caught.value.as_dict()["refused"] == found["refused"]
    assert [each["name"] for each in snapshots(lab)] == ["web10", "web11", "web12", "web13"]


def test_what_stands_twice_in_a_body_is_refused(lab: Site) -> None:
    one = {"name": "a", "interfaces": [{"mac": "52:54:00:00:00:01", "ip": "127.0.2.1"}], "serial": "SN1234567"}
    mac, ip = [{"mac": "52:54:00:00:00:01"}], [{"mac": "52:54:00:00:00:02", "ip": "127.0.2.1"}]
    other = [{"mac": "52:54:00:00:00:03"}]
    twice = [
        ({"name": "b", "interfaces": mac}, ("mac-taken", "/interfaces/0/mac")),
        ({"name": "b", "interfaces": ip}, ("address-taken", "/interfaces/0/ip")),
        ({"name": "A", "interfaces": other}, ("name-taken", "/name")),
        ({"name": "b", "interfaces": other, "serial": "sn1234567"}, ("identity-conflict", "/serial")),
    ]
    subnets.edit(lab, ACTOR, "lab", {"gateway": None})
    for second, expected in twice:
        assert refusals(lab, [one, second]) == [(1, *expected)]
    applied(lab, [one])
    assert refusals(lab, [one, {"name": "a", "description": "x"}]) == [(1, "conflict", "/name")]


def test_r14_dummies_match_nothing_and_r15_contradictions_are_refused(lab: Site) -> None:
    dummy = {"serial": "To be filled by O.E.M.", "uuid": "00000000-0000-0000-0000-000000000000"}
    body = [each | dummy for each in SOME]
    applied(lab, body)
    assert plans.plan(lab, ACTOR, body)["unchanged"] == 4
    applied(lab, [{"name": "web10", "serial": "SN1234567"}])
    new_card = {"name": "web10", "interfaces": [{"mac": "52:54:00:00:05:05"}], "serial": "SN1234567"}
    assert refusals(lab, [new_card])[0][1] == "identity-conflict"
    assert refusals(lab, [{"name": "web10", "serial": "SN7654321"}])[0][1] == "identity-conflict"
    moved = {"name": "web11", "interfaces": [*SOME[1]["interfaces"], {"mac": "52:54:00:00:00:0a"}]}  # type: ignore[misc]
    assert refusals(lab, [moved])[0][1] == "identity-conflict"


@both_engines
def test_r16_next_addresses_are_free_ones_and_stay(lab: Site) -> None:
    subnets.edit(lab, ACTOR, "lab", {"gateway": "127.0.2.1", "ranges": ["static:127.0.2.1-127.0.2.6"]})
    machines.add(lab, ACTOR, "there", [InterfaceInput("52:54:00:00:00:01", "127.0.2.2")], {})
    (held,) = addresses.hold(lab, Actor("somebody", "cli"), "lab")
    assert held == "127.0.2.3"
    rows = [
        {"name": f"n{i}", "interfaces": [{"mac": f"52:54:00:00:02:{i:02x}", "ip": "next", "subnet": "lab"}]}
        for i in range(3)
    ]
    rows[1]["interfaces"][0]["ip"] = "127.0.2.4"  # type: ignore[index]
    plan = plans.plan(lab, ACTOR, rows)
    chosen = [each["machine"]["interfaces"][0]["ip"] for each in plan["created"]]
    assert chosen == ["127.0.2.5", "127.0.2.4", "127.0.2.6"]
    assert plans.plan(lab, ACTOR, rows)["created"] == plan["created"]
    plans.apply(lab, ACTOR, plan_id=plan["id"])
    assert plans.plan(lab, ACTOR, rows)["unchanged"] == 3
    more = {"name": "n9", "interfaces": [{"mac": "52:54:00:00:03:01", "ip": "next", "subnet": "lab"}]}
    assert refusals(lab, [more]) == [(0, "no-address-free", "/interfaces/0/ip")]


def test_an_address_that_is_held_between_plan_and_apply_is_not_given_away(lab: Site) -> None:
    rows = [{"name": "n1", "interfaces": [{"mac": "52:54:00:00:02:01", "ip": "next", "subnet": "lab"}]}]
    plan = plans.plan(lab, ACTOR, rows)
    chosen = plan["created"][0]["machine"]["interfaces"][0]["ip"]
    assert addresses.hold(lab, Actor("somebody", "cli"), "lab") == [chosen]
    with pytest.raises(Stale):
        plans.apply(lab, ACTOR, plan_id=plan["id"])
    applied(lab, rows)
    assert machines.show(lab, "n1")["interfaces"][0]["ip"] != chosen


@both_engines
def test_a_changed_world_makes_another_plan(lab: Site) -> None:
    applied(lab, SOME)
    plan = plans.plan(lab, ACTOR, changed((0, {"description": "new"}), (1, {"description": "other"})))
    machines.edit(lab, ACTOR, "web10", {"description": "by hand"})
    with pytest.raises(Stale, match="web10") as caught:
        plans.apply(lab, ACTOR, plan_id=plan["id"])
    assert (caught.value.status, caught.value.as_dict()["machines"]) == (412, ["web10"])
    assert machines.show(lab, "web11")["description"] == ""
    machines.remove(lab, ACTOR, "web11")
    with pytest.raises(Stale):
        plans.apply(lab, ACTOR, plan_id=plan["id"])
    clean(lab)


@both_engines
def test_a_change_that_does_not_touch_the_plan_does_not_stop_it(lab: Site) -> None:
    applied(lab, SOME)
    plan = plans.plan(lab, ACTOR, changed((0, {"description": "new"}))[:1])
    machines.edit(lab, ACTOR, "web13", {"description": "by hand"})
    machines.edit(lab, ACTOR, "web10", {"parameters": {"other": 1}})
    plans.apply(lab, ACTOR, plan_id=plan["id"])
    shown = machines.show(lab, "web10")
    assert (shown["description"], shown["parameters"]) == ("new", {"other": 1})
    assert machines.show(lab, "web13")["description"] == "by hand"
    clean(lab)


@both_engines
def test_a_build_that_starts_between_plan_and_apply(lab: Site, world: World) -> None:
    world.distro()
    applied(lab, SOME)
    free = plans.plan(lab, ACTOR, changed((0, {"description": "new"})))
    bound = plans.plan(lab, ACTOR, changed((0, {"retired": True})))
    arming.start(lab, ACTOR, "web10")
    with pytest.raises(Stale, match="web10"):
        plans.apply(lab, ACTOR, plan_id=bound["id"])
    plans.apply(lab, ACTOR, plan_id=free["id"])
    shown = machines.show(lab, "web10")
    assert (shown["description"], shown["state"]) == ("new", "building")


@both_engines
@pytest.mark.parametrize("meddle", ["edit", "hold", "discovery"])
def test_what_comes_while_the_rows_are_staged_is_seen_in_the_switch(
    lab: Site, meddle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    applied(lab, SOME)
    subnets.edit(lab, ACTOR, "lab", {"ranges": ["static:127.0.2.77-127.0.2.77"]})
    new = {"name": "n1", "interfaces": [{"mac": "52:54:00:00:02:01", "ip": "127.0.2.77"}]}
    body = [*changed((0, {"description": "new"})), new]
    stages = []

    def interfere(what: str, done: int, total: int) -> None:
        if what == "switching":
            stages.append(what)
            if len(stages) == 1:
                if meddle == "edit":
                    machines.edit(lab, ACTOR, "web10", {"parameters": {"x": 1}})
                elif meddle == "hold":
                    addresses.hold(lab, Actor("somebody", "cli"), "lab")
                else:
                    with write(lab.engine) as session:
                        session.add(Discovery(mac="52:54:00:00:02:01", serial="SN99", facts={"product": "X"}))

    if meddle == "hold":
        with pytest.raises(PlanRefused):
            plans.apply(lab, ACTOR, machines=body, progress=interfere)
        assert len(snapshots(lab)) == 4
    else:
        plans.apply(lab, ACTOR, machines=body, progress=interfere)
        assert len(stages) == 2
        if meddle == "edit":
            assert machines.show(lab, "web10")["parameters"] == {"x": 1}
            assert machines.show(lab, "web10")["description"] == "new"
        else:
            assert (machines.show(lab, "n1")["serial"], machines.show(lab, "n1")["state"]) == ("SN99", "discovered")
    clean(lab)


@both_engines
def test_applying_twice_changes_nothing_the_second_time(lab: Site) -> None:
    plan = plans.plan(lab, ACTOR, SOME)
    first = plans.apply(lab, ACTOR, plan_id=plan["id"])
    machines.edit(lab, ACTOR, "web10", {"description": "by hand"})
    revisions = len(records.listing(lab, limit=1000))
    assert plans.apply(lab, ACTOR, plan_id=plan["id"]) == first | {"again": True}
    assert len(records.listing(lab, limit=1000)) == revisions
    assert machines.show(lab, "web10")["description"] == "by hand"


@both_engines
def test_two_at_once_take_turns_and_one_body_is_applied_once(lab: Site) -> None:
    said: list[Any] = []

    def apply(body: list[dict[str, Any]]) -> None:
        try:
            said.append(plans.apply(lab, ACTOR, machines=body))
        except ProvisionerError as error:
            said.append(error)

    other = [each | {"name": f"other{number}"} for number, each in enumerate(SOME)]
    threads = [threading.Thread(target=apply, args=(body,)) for body in (SOME, other, SOME, other)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert not [each for each in said if isinstance(each, ProvisionerError)], said
    assert sum(len(each["created"]) for each in said) == 4, "MACs are identities: later ones rename, none is doubled"
    assert len(snapshots(lab)) == 4
    clean(lab)


@both_engines
def test_machines_that_wait_in_quarantine_are_adopted_as_one_by_one(lab: Site) -> None:
    for number in (10, 11, 12):
        with write(lab.engine) as session:
            facts = {"product": f"P{number}"}
            session.add(Discovery(mac=f"52:54:00:00:00:{number:02x}", serial=f"SNQ{number}77", uuid=None, facts=facts))
    one = SOME[0]["interfaces"][0]  # type: ignore[index]
    machines.add(lab, ACTOR, "web10", [InterfaceInput(one["mac"], one["ip"])], {"serial": "OTHER", "tags": ["web"]})
    body = changed((1, {"serial": "OTHER1"}))[1:3]
    applied(lab, body)
    alone, same = machines.show(lab, "web10"), machines.show(lab, "web11")
    assert alone["flag"].replace("10", "11").replace("OTHER", "OTHER1") == same["flag"] != ""
    shown = machines.show(lab, "web12")
    assert (shown["serial"], shown["state"], shown["facts"]) == ("SNQ1277", "discovered", {"product": "P12"})
    assert quarantine.listing(lab) == []
    assert plans.plan(lab, ACTOR, [{"name": "web12", "description": ""}])["unchanged"] == 1
    with write(lab.engine) as session:
        session.add(Discovery(mac="52:54:00:00:02:01", serial="ANOTHER99", facts={"product": "P9"}))
    body[0]["interfaces"].append({"mac": "52:54:00:00:02:01"})
    applied(lab, body)
    assert "ANOTHER99" in machines.show(lab, "web11")["flag"]
    assert quarantine.listing(lab) == []
    clean(lab)


@both_engines
def test_machines_are_found_by_their_new_words(lab: Site) -> None:
    applied(lab, SOME)
    applied(lab, [SOME[0] | {"serial": "FINDME77"}, SOME[1] | {"name": "renamed11"}])
    for word, names in (
        ("findme77", ["web10"]),
        ("renamed", ["renamed11"]),
        ("52:54:00:00:00:0c", ["web12"]),
        ("web11", []),
    ):
        assert [each["name"] for each in machines.search(lab, word)] == names


def test_missing_machines_are_told_and_never_removed(lab: Site) -> None:
    applied(lab, [each | {"inventory": f"netbox/{number}"} for number, each in enumerate(SOME[:2])])
    applied(lab, SOME[2:])
    plan = plans.plan(lab, ACTOR, [SOME[0]], flag_missing="netbox/")
    assert plan["missing"] == ["web11"]
    plans.apply(lab, ACTOR, plan_id=plan["id"])
    assert len(snapshots(lab)) == 4


def test_limits_and_unknown_and_old_plans(lab: Site) -> None:
    with pytest.raises(TooLarge, match="10001"):
        plans.plan(lab, ACTOR, [{}] * 10_001)
    for wrong in ([], "text", {"name": "x"}):
        with pytest.raises(ProvisionerError) as caught:
            plans.plan(lab, ACTOR, wrong)  # type: ignore[arg-type]
        assert caught.value.where == "/machines"
    with pytest.raises(NotFound):
        plans.apply(lab, ACTOR, plan_id="unknown")
    plan = plans.plan(lab, ACTOR, SOME)
    with write(lab.engine) as session:
        session.execute(update(Plan).values(expires_at=now() - timedelta(seconds=1)))
    with pytest.raises(NotFound, match="no plan"):
        plans.apply(lab, ACTOR, plan_id=plan["id"])
    with read(lab.engine) as session:
        assert session.scalars(select(Plan)).all() == [], "swept"


@both_engines
def test_what_a_killed_process_left_staged_is_swept(lab: Site) -> None:
    with write(lab.engine) as session:
        session.execute(text("INSERT INTO staged_tag (plan_id, number, tag) VALUES ('dead', 7, 'x')"))
    applied(lab, SOME[:1])
    clean(lab)


@pytest.mark.slow
@quickly
@given(body=bodies(), again=bodies())
def test_one_by_one_and_together_are_the_same(_template: Any, tmp_path_factory: Any, body: Any, again: Any) -> None:
    """What `plans` writes, all columns of it, is what `machines` would have."""
    worlds = []
    for way in ("together", "single"):
        site = bulk_site(_template, tmp_path_factory)
        for each in (body, again):
            if way == "together":
                applied(site, each)
            else:
                for machine in each:
                    put(site, machine)
        worlds.append((snapshots(site), columns(site), records.verify(site)))
        site.engine.dispose()
    for together, single in zip(worlds[0][1], worlds[1][1], strict=True):
        assert together == single
    assert worlds[0] == worlds[1]
    assert worlds[0][2] == []


def bulk_site(template: Any, factory: Any) -> Site:
    """A fresh site with the subnets, for each example."""
    import shutil

    from provisioner.services.site import open_site
    from provisioner.settings import Settings

    state = factory.mktemp("bulk") / "state"
    shutil.copytree(template, state)
    site = open_site(Settings(state_dir=state, boot_url="http://127.0.0.1:8080"))
    subnets_of(site)
    return site


def put(site: Site, machine: dict[str, Any]) -> None:
    """One machine by `machines.add` or `machines.edit`."""
    fields = {key: value for key, value in machine.items() if key not in {"name", "interfaces"}}
    nics = [
        InterfaceInput(nic["mac"], nic.get("ip"), nic.get("name"), nic.get("subnet"), keep="ip" not in nic)
        for nic in machine["interfaces"]
    ]
    known = {each["name"] for each in snapshots(site)}
    if machine["name"] in known:
        machines.edit(site, ACTOR, machine["name"], fields, nics)
    else:
        machines.add(site, ACTOR, machine["name"], nics, fields)


def columns(site: Site) -> Any:
    """All columns of all machines and interfaces but row numbers and times."""
    with read(site.engine) as session:
        words = dict(session.execute(select(MachineWords.machine_id, MachineWords.words)).all())
        found = []
        for machine in session.scalars(select(Machine).order_by(Machine.name)):
            plain = {c.name: getattr(machine, c.name) for c in Machine.__table__.columns}
            plain["words"] = words[machine.id]
            plain["nics"] = [
                {
                    c.name: getattr(nic, c.name)
                    for c in Interface.__table__.columns
                    if c.name not in {"id", "machine_id"}
                }
                for nic in machine.interfaces
            ]
            found.append({key: plain[key] for key in plain if key not in {"id", "created_at", "updated_at"}})
        return found
