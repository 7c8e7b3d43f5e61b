"""NetBox as the inventory: sync by plan and apply, and its webhooks."""

import hashlib
import hmac
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import both_engines
from netbox_server import TOKEN, NetBoxServer, netbox_server
from sqlalchemy import select
from world import ACTOR, World

from provisioner.errors import (
    Forbidden,
    InvalidSettings,
    InventoryFailed,
    MalformedContent,
    PlanRefused,
    ProvisionerError,
    Stale,
    TooLarge,
)
from provisioner.services import check, machines, netbox, plans, records
from provisioner.services.machines import InterfaceInput
from provisioner.services.site import Site
from provisioner.settings import NetBox

SECRET = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
RULES = [{"tag": "db", "profile": "rocky9"}, {"role": "hypervisor", "profile": "debian12"}]


@pytest.fixture
def server() -> Iterator[NetBoxServer]:
    """A NetBox with 16 devices."""
    with netbox_server() as running:
        yield running


@pytest.fixture
def world(site: Site, tmp_path: Path) -> World:
    """The networks that the devices' addresses are in."""
    world = World(site, tmp_path)
    world.subnet("lab", "10.0.2.0/24")
    world.subnet("lab6", "fd00:2::/64")
    return world


def configured(site: Site, server: NetBoxServer, **settings: Any) -> Site:
    """The site with this NetBox in its settings."""
    token, secret = site.settings.state_dir / "netbox.token", site.settings.state_dir / "hook.secret"
    for path, text in ((token, TOKEN), (secret, SECRET)):
        path.write_text(f"{text}\n")
        path.chmod(0o600)
    given = {"url": server.url, "token_file": token, "webhook_secret_file": secret, "profiles": RULES} | settings
    return replace(site, settings=site.settings.model_copy(update={"netbox": NetBox(**given)}))


def synced(site: Site) -> dict[str, Any]:
    """Plan and apply."""
    planned = netbox.plan(site, ACTOR)
    return planned | netbox.apply(site, ACTOR, planned)


def names(rows: list[dict[str, Any]]) -> list[str]:
    """Their names, sorted."""
    return sorted(row["name"] for row in rows)


def nics(site: Site, name: str) -> list[tuple[str, str | None]]:
    """MAC and address of each interface."""
    return [(nic["mac"], nic["ip"]) for nic in machines.show(site, name)["interfaces"]]


@both_engines
def test_devices_become_machines_and_the_next_plan_is_empty(site: Site, world: World, server: NetBoxServer) -> None:
    site = configured(site, server)
    planned = netbox.plan(site, ACTOR)
    everyone = ["db01", "lab-server-3-old", "noip", "stack-1", "stack-2", "v6only", "web01", "white01", "white02"]
    assert names(planned["created"]) == everyone
    assert (planned["changed"], planned["refused"], planned["missing"]) == ([], [], [])
    assert [each["id"] for each in planned["left_out"]] == [7, 8, 10, 11, 12, 13]
    assert machines.listing(site) == [], "a plan changes nothing"
    netbox.apply(site, ACTOR, planned)
    assert sorted(each["name"] for each in machines.listing(site)) == everyone
    db01 = machines.show(site, "db01")
    assert (db01["profile"], db01["tags"], db01["inventory"]) == ("rocky9", ["db", "pxe"], "netbox/2")
    assert db01["parameters"]["inventory"]["rack"] == "R 07"
    assert db01["state"] == "ready"
    assert nics(site, "db01") == [("52:54:00:aa:00:04", "10.0.2.22"), ("52:54:00:aa:00:05", None)]
    assert nics(site, "v6only") == [("52:54:00:aa:00:06", "fd00:2::23")]
    again = netbox.plan(site, ACTOR)
    assert (again["created"], again["changed"], again["unchanged"]) == ([], [], 9)


@both_engines
def test_more_devices_than_one_plan_takes_make_several(
    site: Site, world: World, server: NetBoxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is whole; two that swap their addresses are in one; a failure says what was done by then."""
    monkeypatch.setattr(plans, "MOST_MACHINES", 3)
    site = configured(site, server)
    planned = netbox.plan(site, ACTOR)
    assert [each["machines"] for each in planned["parts"]] == [3, 3, 3]
    assert planned["ids"] == [each["id"] for each in planned["parts"]]
    done = netbox.apply(site, ACTOR, planned)
    assert (len(done["created"]), len(machines.listing(site))) == (9, 9)
    again = netbox.plan(site, ACTOR)
    assert (again["created"], again["changed"], again["unchanged"]) == ([], [], 9)
    rows = {each["address"]: each for each in server.lists["ipam/ip-addresses"]}
    first, last = rows["10.0.2.21/24"], rows["10.0.2.26/24"]
    first["address"], last["address"] = last["address"], first["address"]
    swapped = netbox.plan(site, ACTOR)
    assert (len(swapped["changed"]), swapped["refused"]) == (2, [])
    netbox.apply(site, ACTOR, swapped)
    assert records.verify(site) == []


@pytest.mark.full
@both_engines
def test_twelve_thousand_devices_are_synced_with_the_limit_as_it_is(
    site: Site, world: World, server: NetBoxServer
) -> None:
    server.many(12_000)
    site = configured(site, server)
    planned = netbox.plan(site, ACTOR)
    assert [each["machines"] for each in planned["parts"]] == [10_000, 2_009]
    assert (len(planned["created"]), planned["refused"]) == (12_009, [])
    assert len(netbox.apply(site, ACTOR, planned)["created"]) == 12_009
    again = netbox.plan(site, ACTOR)
    assert (again["created"], again["changed"], again["missing"], again["unchanged"]) == ([], [], [], 12_009)
    server.device(12_500)["tags"] = []
    server.remove_device(1001)
    changed = synced(site)
    assert (changed["changed"], changed["missing"]) == (["node12500"], ["node1001"])
    assert records.verify(site) == []


@both_engines
def test_of_several_plans_a_failure_says_which_were_applied(
    site: Site, world: World, server: NetBoxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plans, "MOST_MACHINES", 4)
    site = configured(site, server)
    planned = netbox.plan(site, ACTOR)
    theirs = planned["created"][5]["machine"]["interfaces"][0]["mac"]
    machines.add(site, ACTOR, "stranger", [InterfaceInput(theirs)], {})
    with pytest.raises(Stale) as caught:
        netbox.apply(site, ACTOR, planned)
    assert caught.value.hint == "1 of 3 plans were applied, each whole; sync again for the rest"
    assert len(machines.listing(site)) == 1 + 4


@both_engines
def test_what_changed_in_netbox_is_changed_here(site: Site, world: World, server: NetBoxServer) -> None:
    site = configured(site, server)
    synced(site)
    server.device(1) | {"name": "web01"}
    server.device(1)["tags"] = []
    server.device(1)["rack"]["name"] = "R 08"
    server.interface(12)["primary_mac_address"]["mac_address"] = "52:54:00:AA:FF:02"
    done = synced(site)
    assert done["changed"] == ["web01"]
    web01 = machines.show(site, "web01")
    assert (web01["tags"], web01["parameters"]["inventory"]["rack"]) == ([], "R 08")
    assert nics(site, "web01") == [("52:54:00:aa:00:01", "10.0.2.21"), ("52:54:00:aa:ff:02", None)]
    (row,) = [each for each in records.listing(site, "web01", 10) if each["action"] == "edit"]
    assert row["actor"] == ACTOR.who


def test_what_netbox_does_not_know_stays(site: Site, world: World, server: NetBoxServer) -> None:
    site = configured(site, server, profiles=[])
    synced(site)
    nic = InterfaceInput("52:54:00:aa:00:07", "10.0.2.77")
    fields = {"profile": "rocky9", "description": "mine", "parameters": {"disk": "sda"}, "protected": True}
    machines.edit(site, ACTOR, "noip", fields, [nic, InterfaceInput("52:54:00:aa:00:08")])
    assert synced(site)["unchanged"] == 9
    noip = machines.show(site, "noip")
    assert (noip["profile"], noip["description"], noip["protected"]) == ("rocky9", "mine", True)
    assert noip["parameters"]["disk"] == "sda"
    assert nics(site, "noip")[0] == ("52:54:00:aa:00:07", "10.0.2.77")


def test_addresses_may_change_places(site: Site, world: World, server: NetBoxServer) -> None:
    site = configured(site, server)
    synced(site)
    first, second = server.lists["ipam/ip-addresses"][0], server.lists["ipam/ip-addresses"][4]
    first["address"], second["address"] = second["address"], first["address"]
    first["assigned_object_id"], first["assigned_object"] = 12, first["assigned_object"] | {"id": 12}
    synced(site)
    assert nics(site, "web01") == [("52:54:00:aa:00:01", None), ("52:54:00:aa:00:02", "10.0.2.22")]
    assert nics(site, "db01") == [("52:54:00:aa:00:04", "10.0.2.21"), ("52:54:00:aa:00:05", None)]


def test_a_machine_that_is_here_already_is_taken_over(site: Site, world: World, server: NetBoxServer) -> None:
    site = configured(site, server)
    world.machine("web01", "52:54:00:aa:00:01", "10.0.2.21", profile="rocky9")
    planned = netbox.plan(site, ACTOR)
    assert names(planned["changed"]) == ["web01"]
    netbox.apply(site, ACTOR, planned)
    assert machines.show(site, "web01")["inventory"] == "netbox/1"
    assert machines.show(site, "web01")["profile"] == "rocky9", "no rule fits, so it stays"


def test_r14_a_contradiction_is_refused_and_does_not_stop_the_others(
    site: Site, world: World, server: NetBoxServer
) -> None:
    site = configured(site, server)
    fields = {"profile": "rocky9", "serial": "SN0002"}
    machines.add(site, ACTOR, "other", [InterfaceInput("52:54:00:00:00:99", "10.0.2.99")], fields)
    done = synced(site)
    (refused,) = done["refused"]
    assert (refused["name"], refused["code"], refused["inventory"]) == ("db01", "identity-conflict", "netbox/2")
    assert "db01" not in [each["name"] for each in machines.listing(site)]
    assert "web01" in done["created"]
    assert machines.show(site, "other")["inventory"] is None


def test_an_address_in_no_subnet_is_refused_with_the_reason(site: Site, server: NetBoxServer, tmp_path: Path) -> None:
    world = World(site, tmp_path)
    world.subnet("lab", "10.0.2.0/24")
    done = synced(configured(site, server))
    assert [(each["name"], each["code"]) for each in done["refused"]] == [("v6only", "address-outside-subnet")]


def test_a_profile_that_does_not_exist_is_refused(site: Site, world: World, server: NetBoxServer) -> None:
    planned = netbox.plan(configured(site, server, profiles=[{"tag": "db", "profile": "nothing"}]), ACTOR)
    assert [(each["name"], each["code"]) for each in planned["refused"]] == [("db01", "unknown-reference")]


@both_engines
def test_deleted_devices_are_only_flagged(site: Site, world: World, server: NetBoxServer) -> None:
    site = configured(site, server)
    world.machine("mine", "52:54:00:00:00:99", None)
    synced(site)
    server.remove_device(1)
    server.device(2)["status"] = {"value": "offline", "label": "Offline"}
    planned = netbox.plan(site, ACTOR)
    assert planned["missing"] == ["db01", "web01"]
    assert netbox.apply(site, ACTOR, planned)["flagged"] == ["db01", "web01"]
    for name, device in (("web01", 1), ("db01", 2)):
        shown = machines.show(site, name)
        assert shown["flag"].startswith(f"NetBox no longer has netbox/{device}")
        assert (shown["state"], shown["inventory"]) == ("ready", f"netbox/{device}")
    assert machines.show(site, "mine")["flag"] == ""
    server.device(2)["status"] = {"value": "active", "label": "Active"}
    synced(site)
    assert machines.show(site, "db01")["flag"] == "", "it came back"
    assert machines.show(site, "web01")["flag"]


def test_a_device_that_cannot_be_a_machine_any_more_is_not_missing(
    site: Site, world: World, server: NetBoxServer
) -> None:
    site = configured(site, server)
    synced(site)
    server.device(1)["name"] = None
    planned = netbox.plan(site, ACTOR)
    assert planned["missing"] == []
    assert planned["left_out"][0]["id"] == 1


def test_a_flag_that_says_something_else_stays(site: Site, world: World, server: NetBoxServer) -> None:
    from provisioner.store.engine import write
    from provisioner.store.models import Machine

    site = configured(site, server)
    synced(site)
    with write(site.engine) as session:
        session.scalars(select(Machine).where(Machine.name == "web01")).one().flag = "board swapped?"
    server.remove_device(1)
    synced(site)
    assert received(site, "deleted", "device", {"id": 1})["done"] == "flagged"
    assert machines.show(site, "web01")["flag"] == "board swapped?"


def test_no_device_at_all_is_an_error_once_there_were_some(site: Site, world: World, server: NetBoxServer) -> None:
    site = configured(site, server)
    synced(site)
    server.lists["dcim/devices"] = []
    with pytest.raises(InventoryFailed, match="shows no device at all, and 9 machines"):
        netbox.plan(site, ACTOR)


def test_an_empty_netbox_is_an_empty_plan(site: Site, world: World, server: NetBoxServer) -> None:
    server.keep_devices()
    done = synced(configured(site, server))
    assert (done["ids"], done["created"], done["flagged"]) == ([], [], [])


def test_r17_a_world_that_changed_since_the_plan_is_not_overwritten(
    site: Site, world: World, server: NetBoxServer
) -> None:
    site = configured(site, server)
    planned = netbox.plan(site, ACTOR)
    world.machine("web01", "52:54:00:00:00:99", "10.0.2.21")
    with pytest.raises(Stale):
        netbox.apply(site, ACTOR, planned)
    assert [each["name"] for each in machines.listing(site)] == ["web01"]


def test_an_answer_that_lacks_what_it_should_have(site: Site, world: World, server: NetBoxServer) -> None:
    server.interface(11).pop("name")
    with pytest.raises(InventoryFailed, match="lacks what it should have: KeyError"):
        netbox.plan(configured(site, server), ACTOR)


@pytest.mark.parametrize("content", [None, "", " \n", "two words", "Grüße", "directory"])
def test_s12_without_a_token_nothing_is_asked(
    site: Site, server: NetBoxServer, tmp_path: Path, content: str | None
) -> None:
    path = tmp_path / "token"
    if content == "directory":
        path.mkdir()
    elif content is not None:
        path.write_text(content)
    with pytest.raises(InvalidSettings) as caught:
        netbox.plan(configured(site, server, token_file=path), ACTOR)
    assert caught.value.where == "netbox.token_file"
    assert server.asked == []


def test_without_a_netbox_the_error_says_which_setting(site: Site) -> None:
    with pytest.raises(InvalidSettings) as caught:
        netbox.plan(site, ACTOR)
    assert "netbox.url" in caught.value.hint


# What NetBox sends ----------------------------------------------------------------------------------------------------


def body(event: str, model: str, data: dict[str, Any], before: dict[str, Any] | None = None) -> bytes:
    """A webhook's default body, as NetBox 4.0 to 4.3 write it."""
    message = {
        "event": event,
        "timestamp": "2025-11-03 09:15:42.968016+00:00",
        "model": model,
        "username": "admin",
        "request_id": "fdbca812-3142-4783-b364-2e2bd5c16c6a",
        "data": data,
        "snapshots": {"prechange": before, "postchange": None if event == "deleted" else {}},
    }
    return json.dumps(message).encode()


def signed(content: bytes, secret: str = SECRET) -> str:
    """The signature that NetBox puts into X-Hook-Signature."""
    return hmac.new(secret.encode(), content, hashlib.sha512).hexdigest()


def received(site: Site, *message: Any) -> dict[str, Any]:
    """A signed webhook."""
    content = body(*message)
    return netbox.receive(site, ACTOR, content, signed(content))


@both_engines
def test_a_webhook_makes_and_refreshes_its_device(site: Site, world: World, server: NetBoxServer) -> None:
    site = configured(site, server)
    data = {"id": 2, "name": "what the body says does not count"}
    assert received(site, "created", "device", data) == {
        "device": 2, "done": "created", "machine": "db01", "reason": "",
    }  # fmt: skip
    assert [each["name"] for each in machines.listing(site)] == ["db01"]
    assert machines.show(site, "db01")["profile"] == "rocky9"
    assert received(site, "updated", "device", data)["done"] == "unchanged"
    server.device(2)["tags"] = []
    assert received(site, "updated", "device", data)["done"] == "changed"
    assert machines.show(site, "db01")["tags"] == []


@pytest.mark.parametrize(
    ("event", "model", "data", "before"),
    [
        ("updated", "interface", {"id": 22, "device": {"id": 2, "name": "db01"}}, None),
        ("deleted", "interface", {"id": 29, "device": {"id": 2, "name": "db01"}}, None),
        ("created", "ipaddress", {"id": 105, "assigned_object_type": "dcim.interface",
         "assigned_object": {"id": 24, "device": {"id": 2}}}, None),
        ("updated", "macaddress", {"id": 4, "assigned_object_type": "dcim.interface",
         "assigned_object": {"id": 22, "device": {"id": 2}}}, None),
        ("updated", "ipaddress", {"id": 105, "assigned_object_type": None, "assigned_object": None},
         {"assigned_object_type": 17, "assigned_object_id": 24}),
    ],
)  # fmt: skip
def test_what_belongs_to_a_device_refreshes_it(
    site: Site, world: World, server: NetBoxServer, event: str, model: str, data: Any, before: Any
) -> None:
    found = received(configured(site, server), event, model, data, before)
    assert (found["device"], found["done"]) == (2, "created")


def test_the_body_of_newer_versions(site: Site, world: World, server: NetBoxServer) -> None:
    message = {"event": "updated", "timestamp": "", "object_type": "dcim.device", "data": {"id": 2}, "request": {}}
    content = json.dumps(message).encode()
    found = netbox.receive(configured(site, server), ACTOR, content, signed(content).upper())
    assert found["done"] == "created"


@pytest.mark.parametrize(
    ("model", "data"),
    [("site", {"id": 1}), ("virtualmachine", {"id": 1}), ("ipaddress", {"id": 1, "assigned_object_type": None}),
     ("ipaddress", {"id": 1, "assigned_object_type": "virtualization.vminterface"})],
)  # fmt: skip
def test_what_is_about_no_device_is_ignored(
    site: Site, world: World, server: NetBoxServer, model: str, data: Any
) -> None:
    assert received(configured(site, server), "updated", model, data)["done"] == "ignored"
    assert machines.listing(site) == []


def test_a_deletion_only_flags_and_only_if_it_is_true(site: Site, world: World, server: NetBoxServer) -> None:
    site = configured(site, server)
    received(site, "created", "device", {"id": 1})
    assert received(site, "deleted", "device", {"id": 1})["done"] == "unchanged", "NetBox still has it"
    server.remove_device(1)
    found = received(site, "deleted", "device", {"id": 1})
    assert (found["done"], found["machine"]) == ("flagged", "web01")
    shown = machines.show(site, "web01")
    assert (shown["state"], shown["flag"][:20]) == ("ready", "NetBox no longer has")
    assert received(site, "deleted", "device", {"id": 9999})["done"] == "ignored"


def test_a_device_that_came_back_loses_its_flag(site: Site, world: World, server: NetBoxServer) -> None:
    site = configured(site, server)
    received(site, "created", "device", {"id": 1})
    server.device(1)["status"]["value"] = "offline"
    assert received(site, "updated", "device", {"id": 1})["done"] == "flagged"
    server.device(1)["status"]["value"] = "active"
    assert received(site, "updated", "device", {"id": 1})["done"] == "unchanged"
    assert machines.show(site, "web01")["flag"] == ""


def test_an_old_body_sent_again_does_no_harm(site: Site, world: World, server: NetBoxServer) -> None:
    site = configured(site, server)
    old = body("updated", "device", {"id": 1, "name": "oldname", "tags": []})
    received(site, "created", "device", {"id": 1})
    before = machines.show(site, "web01")
    for _ in range(3):
        assert netbox.receive(site, ACTOR, old, signed(old))["done"] == "unchanged"
    assert machines.show(site, "web01") == before


def test_a_device_that_is_no_machine_says_why(site: Site, world: World, server: NetBoxServer) -> None:
    found = received(configured(site, server), "updated", "device", {"id": 8})
    assert (found["done"], "MAC" in found["reason"]) == ("left out", True)


def test_r14_a_contradiction_is_refused(site: Site, world: World, server: NetBoxServer) -> None:
    site = configured(site, server)
    machines.add(site, ACTOR, "other", [InterfaceInput("52:54:00:00:00:99")], {"serial": "SN0002"})
    with pytest.raises(PlanRefused) as caught:
        received(site, "updated", "device", {"id": 2})
    assert caught.value.details["refused"][0]["code"] == "identity-conflict"


@pytest.mark.parametrize(
    "signature", ["", "x", "0" * 128, "é" * 128, signed(b"another body"), signed(b"", SECRET), f"sha512={'0' * 128}"]
)
def test_s11_a_wrong_signature_is_refused(site: Site, server: NetBoxServer, signature: str) -> None:
    with pytest.raises(Forbidden):
        netbox.receive(configured(site, server), ACTOR, body("created", "device", {"id": 1}), signature)
    assert server.asked == []


def test_s11_the_signature_is_over_the_bytes_as_they_came(site: Site, server: NetBoxServer) -> None:
    content = body("created", "device", {"id": 1})
    with pytest.raises(Forbidden):
        netbox.receive(configured(site, server), ACTOR, content + b" ", signed(content))


@pytest.mark.parametrize("content", [None, "", " \n\n", "short", "directory", b"\xff\xfe"])
def test_s12_without_a_secret_nothing_is_taken(
    site: Site, server: NetBoxServer, tmp_path: Path, content: str | bytes | None
) -> None:
    path = tmp_path / "secret"
    if content == "directory":
        path.mkdir()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        path.write_text(content)
    message = body("created", "device", {"id": 1})
    for secret in ("", "short", " \n\n", SECRET):
        with pytest.raises(ProvisionerError) as caught:
            netbox.receive(configured(site, server, webhook_secret_file=path), ACTOR, message, signed(message, secret))
        assert caught.value.where == "netbox.webhook_secret_file"
    assert server.asked == []


def test_s12_the_receiver_is_off_by_default(site: Site, server: NetBoxServer) -> None:
    message = body("created", "device", {"id": 1})
    off = configured(site, server, webhook_secret_file=None)
    for nobody in (site, off):
        with pytest.raises(Forbidden, match="not taken here"):
            netbox.receive(nobody, ACTOR, message, signed(message, ""))


@pytest.mark.parametrize(
    "content",
    [b"", b"x", b"[]", b"null", b"{}", b'{"event": "created"}', b"[" * 100_000, b"\xff",
     body("updated", "device", {}), body("updated", "device", {"id": "x"}), body("updated", "interface", {"id": 1}),
     body("updated", "interface", {"device": []}), body("updated", "device", {"id": [1]})],
)  # fmt: skip
def test_s36_a_signed_body_that_is_none(site: Site, server: NetBoxServer, content: bytes) -> None:
    with pytest.raises(MalformedContent):
        netbox.receive(configured(site, server), ACTOR, content, signed(content))


def test_a_body_has_a_limit(site: Site, server: NetBoxServer) -> None:
    content = b" " * (netbox.MOST_BODY_BYTES + 1)
    with pytest.raises(TooLarge):
        netbox.receive(configured(site, server), ACTOR, content, signed(content))


# What `check` says ----------------------------------------------------------------------------------------------------


def findings(site: Site) -> list[str]:
    """What `check` has to say of NetBox."""
    return [f"{each.level}: {each.what}" for each in check.netbox_inventory(site)]


def test_check_asks_netbox(site: Site, server: NetBoxServer, tmp_path: Path) -> None:
    assert findings(site) == [], "none is configured"
    fine = configured(site, server)
    assert findings(fine) == []
    server.version = "3.6"
    assert "NetBox 3.6" in findings(fine)[0]
    server.version = "4.3"
    (site.settings.state_dir / "netbox.token").write_text("another")
    assert "refuses the token" in findings(fine)[0]
    (site.settings.state_dir / "netbox.token").chmod(0o644)
    assert "can be read by everybody" in findings(fine)[0]
    assert "cannot be read" in findings(configured(site, server, token_file=tmp_path / "none"))[0]
    assert "fewer than 16" in findings(configured(site, server, webhook_secret_file=_file(tmp_path, "short")))[0]
    assert "nobody checks" in findings(configured(site, server, verify="off"))[0]


def _file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "file"
    path.write_text(text)
    path.chmod(0o600)
    return path
