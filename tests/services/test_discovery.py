"""Machines that nobody registered, through the services, on both engines."""

import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from conftest import both_engines, wait_for
from outage import down
from sqlalchemy import select, update
from structlog.testing import capture_logs
from world import ACTOR, IP, MAC, OTHER_IP, World

from provisioner.core.facts import Facts, from_query
from provisioner.core.lifecycle import NextBoot
from provisioner.errors import Conflict, IllegalTransition, InvalidInput, NotFound
from provisioner.services import arming, boot, builds, discovery, machines, quarantine, records
from provisioner.services.boot import BootAnswer, BootRequest
from provisioner.services.discovery import Recorded, Recorder, Sighting
from provisioner.services.machines import InterfaceInput
from provisioner.services.site import Site
from provisioner.settings import Settings
from provisioner.store.engine import read, write
from provisioner.store.models import Discovery, Event, Machine

STRANGER = "52:54:00:cc:00:01"
UUID = "4c4c4544-0037-3310-8052-b4c04f4d3732"
FOREIGN = "127.0.9.9"


def ask(site: Site, mac: str = STRANGER, source: str = OTHER_IP, **query: str) -> BootAnswer:
    """A machine asks, and what is worth recording is recorded."""
    request = BootRequest(mac, source, facts=from_query(query), wait=query.get("wait", ""))
    answer = boot.boot_script(site, request)
    if answer.sighting is not None:
        discovery.record(site, [answer.sighting])
    return answer


def with_settings(site: Site, **changes: Any) -> Site:
    """The same installation under other settings."""
    return Site(Settings(**(site.settings.model_dump() | changes)), site.engine, site.keys)


def time_passes(site: Site, **length: float) -> None:
    """As if every machine in quarantine had asked that much earlier."""
    with write(site.engine) as session:
        for row in session.scalars(select(Discovery)):
            row.first_seen -= timedelta(**length)
            row.last_seen -= timedelta(**length)


def only(site: Site) -> dict[str, Any]:
    rows = quarantine.listing(site)
    assert len(rows) == 1, rows
    return rows[0]


def flag_of(site: Site, name: str = "web01") -> str:
    return str(machines.show(site, name)["flag"])


@both_engines
def test_s25_an_unknown_machine_is_quarantined_and_never_a_machine(world: World) -> None:
    world.subnet()
    site = world.site
    answer = ask(site, serial="ABC1234", uuid=UUID.upper(), manufacturer="Lab", product="Virtual", ip=OTHER_IP)
    assert answer.decision.next_boot is NextBoot.DISCOVERY
    assert "serial ABC1234" in answer.text and f"provisioner machine add NAME --mac {STRANGER}" in answer.text
    row = only(site)
    assert (row["mac"], row["serial"], row["uuid"], row["vendor"]) == (STRANGER, "ABC1234", UUID, "Lab")
    assert (row["address"], row["times"], row["conflict"]) == (OTHER_IP, 1, "")
    assert machines.listing(site) == []
    with pytest.raises(NotFound):
        arming.start(site, ACTOR, STRANGER)


@both_engines
def test_s25_a_machine_that_asks_again_at_once_writes_nothing(world: World) -> None:
    world.subnet()
    ask(world.site, serial="ABC1234")
    for number in range(5):
        assert ask(world.site, serial=f"OTHER{number}").sighting is None
    assert only(world.site)["times"] == 1
    time_passes(world.site, seconds=11)
    assert ask(world.site, serial="XYZ5678").sighting is not None
    row = only(world.site)
    assert (row["times"], row["serial"]) == (2, "XYZ5678")


@both_engines
def test_s25_fifty_unknown_machines_at_once_are_all_recorded_once(world: World) -> None:
    world.subnet()
    site = world.site
    macs = [f"52:54:00:cc:01:{number:02x}" for number in range(50)]
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda mac: ask(site, mac, serial=f"SN{mac}"), macs * 2))
    assert {answer.decision.next_boot for answer in answers} == {NextBoot.DISCOVERY}
    assert sorted(row["mac"] for row in quarantine.listing(site)) == macs


@both_engines
def test_s25_the_quota_of_a_minute_and_half_of_it_for_one_address(world: World) -> None:
    world.subnet()
    site = with_settings(world.site, discovery_per_minute=6)

    def asks(number: int, source: str) -> BootAnswer:
        return ask(site, f"52:54:00:cc:02:{number:02x}", source)

    for number in range(5):
        assert asks(number, OTHER_IP).decision.next_boot is NextBoot.DISCOVERY
    assert len(quarantine.listing(site)) == 3, "one address may use half of it"
    for number in range(10, 20):
        answer = asks(number, f"127.0.2.{100 + number}")
        assert "waits to be added" in answer.text, "it waits all the same"
    assert len(quarantine.listing(site)) == 6
    time_passes(site, seconds=61)
    asks(30, OTHER_IP)
    assert len(quarantine.listing(site)) == 7


@both_engines
def test_s25_the_quarantine_is_limited_and_who_asked_only_once_gives_way(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery, "MOST_ROWS", 3)
    world.subnet()
    site = world.site
    faithful, once, twice = (f"52:54:00:cc:03:{number:02x}" for number in range(3))
    for mac in (faithful, once, twice):
        ask(site, mac)
    for _ in range(2):
        time_passes(site, seconds=20)
        for mac in (faithful, twice):
            ask(site, mac)
    ask(site, "52:54:00:cc:03:aa")
    held = {row["mac"] for row in quarantine.listing(site)}
    assert held == {faithful, twice, "52:54:00:cc:03:aa"}
    time_passes(site, seconds=20)
    for mac in held:
        ask(site, mac)
    ask(site, "52:54:00:cc:03:bb")
    assert {row["mac"] for row in quarantine.listing(site)} == held, "nobody who waits is pushed out"
    time_passes(site, days=2)
    ask(site, "52:54:00:cc:03:bb")
    assert "52:54:00:cc:03:bb" in {row["mac"] for row in quarantine.listing(site)}


def test_s25_outside_every_subnet_nothing_is_recorded_and_the_console_says_so(world: World) -> None:
    world.subnet()
    answer = ask(world.site, source=FOREIGN)
    assert answer.decision.next_boot is NextBoot.DISCOVERY
    assert f"asked from {FOREIGN}, which no subnet contains" in answer.text
    assert quarantine.listing(world.site) == []


def test_s25_head_records_nothing(world: World) -> None:
    world.subnet()
    assert boot.boot_script(world.site, BootRequest(STRANGER, OTHER_IP, peek=True)).sighting is None


def test_s25_off_leaves_unknown_machines_to_their_disk(world: World) -> None:
    world.subnet()
    site = with_settings(world.site, discovery="off")
    answer = ask(site, serial="ABC1234")
    assert answer.decision.next_boot is NextBoot.LOCAL
    assert "discovery is off" in answer.decision.reason
    discovery.record(site, [Sighting(STRANGER, OTHER_IP, Facts(), is_new=True)])
    assert quarantine.listing(site) == []


@both_engines
def test_s25_register_makes_a_machine_that_waits_for_its_profile(world: World) -> None:
    world.subnet()
    world.distro()
    site = with_settings(world.site, discovery="register")
    ask(site, serial="ABC1234", uuid=UUID, product="Virtual")
    machine = machines.show(site, STRANGER)
    assert (machine["name"], machine["state"], machine["profile"]) == ("new-525400cc0001", "discovered", None)
    assert (machine["serial"], machine["uuid"], machine["facts"]["product"]) == ("ABC1234", UUID, "Virtual")
    assert machine["interfaces"][0]["subnet"] == "lab"
    assert "new-525400cc0001 waits for a profile" in ask(site).text
    assert quarantine.listing(site) == []
    assert records.listing(site, "new-525400cc0001", 10)[0]["actor"] == "discovery"
    machines.edit(site, ACTOR, "new-525400cc0001", {"profile": "rocky9"}, [InterfaceInput(STRANGER, OTHER_IP)])
    assert "new-525400cc0001 waits for a build" in ask(site).text
    arming.start(site, ACTOR, "new-525400cc0001")
    assert ask(site).decision.next_boot is NextBoot.BUILD


def test_s25_register_keeps_to_the_quota_and_leaves_contradictions_in_quarantine(world: World) -> None:
    world.subnet()
    site = with_settings(world.site, discovery="register", discovery_per_minute=4)
    world.machine(profile=None, serial="ABC1234")
    ask(site, "52:54:00:cc:04:00", serial="ABC1234")
    assert only(site)["mac"] == "52:54:00:cc:04:00"
    for number in range(1, 9):
        ask(site, f"52:54:00:cc:04:{number:02x}", f"127.0.2.{100 + number}")
    assert len(machines.listing(site)) == 1 + 3


@both_engines
def test_from_quarantine_to_a_build_without_a_power_cycle(world: World) -> None:
    world.subnet()
    world.distro()
    site = world.site
    ask(site, serial="ABC1234", uuid=UUID, product="Virtual", ip=OTHER_IP)
    before = len(records.listing(site, None, 1000))
    added = world.machine("web01", STRANGER, IP, profile=None)
    assert (added["state"], added["serial"], added["uuid"]) == ("discovered", "ABC1234", UUID)
    assert added["facts"] == {"serial": "ABC1234", "uuid": UUID, "product": "Virtual"}
    assert quarantine.listing(site) == []
    assert len(records.listing(site, None, 1000)) == before + 1
    assert records.verify(site) == []
    assert "web01 waits for a profile: " not in ask(site, source=IP, wait="5").text
    assert "web01 waits for a profile\n" in ask(site, source=IP, wait="5").text
    machines.edit(site, ACTOR, "web01", {"profile": "rocky9"})
    assert "web01 waits for a build\n" in ask(site, source=IP, wait="5").text
    arming.start(site, ACTOR, "web01")
    # Its lease is still the first one: it is told to get another, and does not stand still until a power cycle.
    early = boot.boot_script(site, BootRequest(STRANGER, FOREIGN, wait="5"))
    assert early.decision.next_boot is NextBoot.HALT
    assert "asking again in" in early.text and FOREIGN in early.text and "goto halt" not in early.text
    assert ask(site, source=IP, wait="5").decision.next_boot is NextBoot.BUILD
    builds.cancel(site, ACTOR, "web01")
    assert ask(site, source=IP, wait="5").decision.next_boot is NextBoot.LOCAL


@both_engines
def test_a_ready_way_out_of_waiting(world: World) -> None:
    world.subnet()
    site = world.site
    ask(site)
    ask(site, "52:54:00:cc:00:02")
    world.machine("web01", STRANGER, IP, profile=None)
    assert machines.show(site, "web01")["state"] == "discovered"
    assert machines.edit(site, ACTOR, "web01", {"ready": True})["state"] == "ready"
    assert records.listing(site, "web01", 1)[0]["action"] == "edit"
    assert ask(site, source=IP).decision.next_boot is NextBoot.LOCAL
    other = world.machine("web02", "52:54:00:cc:00:02", "127.0.2.12", profile=None, ready=True)
    assert other["state"] == "ready"
    machines.edit(site, ACTOR, "web02", {"retired": True})
    with pytest.raises(IllegalTransition):
        machines.edit(site, ACTOR, "web02", {"ready": True})


def test_an_inventory_s_machines_that_never_asked_are_ready(world: World) -> None:
    world.subnet()
    assert world.machine(profile=None)["state"] == "ready"


@both_engines
@pytest.mark.parametrize(
    "said", [{"serial": "abc1234"}, {"uuid": UUID}, {"uuid": str(uuid.UUID(bytes=uuid.UUID(UUID).bytes_le))}]
)
def test_r11_r15_a_stranger_with_a_known_identity_is_flagged_once_and_not_installed(
    world: World, said: dict[str, str]
) -> None:
    world.armed(serial="ABC1234", uuid=UUID)
    site = world.site
    for _ in range(3):
        answer = ask(site, **said)
        assert answer.decision.next_boot is NextBoot.DISCOVERY
        assert "this machine says it is web01" in answer.text
        assert f"provisioner machine edit web01 --add-interface {STRANGER}" in answer.text
        time_passes(site, seconds=11)
    assert STRANGER in flag_of(site)
    assert "web01" in only(site)["conflict"]
    with read(site.engine) as session:
        assert len(session.scalars(select(Event).where(Event.kind == "flag")).all()) == 1
    machines.clear_flag(site, "web01")
    ask(site, **said)
    assert flag_of(site) == "", "once for each MAC"


@both_engines
def test_r11_adding_the_interface_resolves_it(world: World) -> None:
    world.armed(serial="ABC1234", uuid=UUID)
    site = world.site
    ask(site, serial="ABC1234", uuid=UUID, product="Virtual")
    after = machines.edit(site, ACTOR, "web01", {}, plus=[InterfaceInput(STRANGER, "127.0.2.12")])
    assert [(nic["mac"], nic["ip"]) for nic in after["interfaces"]] == [(MAC, IP), (STRANGER, "127.0.2.12")]
    assert quarantine.listing(site) == []
    assert ask(site, source="127.0.2.12").decision.next_boot is NextBoot.BUILD
    after = machines.edit(site, ACTOR, "web01", {}, minus=[MAC.upper()])
    assert [nic["mac"] for nic in after["interfaces"]] == [STRANGER]
    with pytest.raises(InvalidInput):
        machines.edit(site, ACTOR, "web01", {}, minus=[STRANGER])
    with pytest.raises(NotFound):
        machines.edit(site, ACTOR, "web01", {}, minus=[MAC])
    with pytest.raises(Conflict):
        world.machine("web02", STRANGER, "127.0.2.13", profile=None)


@both_engines
def test_r15_adding_an_interface_that_said_another_serial_is_flagged(world: World) -> None:
    world.subnet()
    world.machine(profile=None, serial="ABC1234")
    ask(world.site, serial="XYZ5678")
    after = machines.edit(world.site, ACTOR, "web01", {}, plus=[InterfaceInput(STRANGER)])
    assert after["serial"] == "ABC1234"
    assert "XYZ5678" in after["flag"] and "ABC1234" in after["flag"]


@both_engines
def test_r14_dummies_are_never_merged_nor_matched(world: World) -> None:
    world.subnet()
    site = world.site
    dummy = {"serial": "To be filled by O.E.M.", "uuid": "03000200-0400-0500-0006-000700080009"}
    kept = world.machine(profile=None, **dummy)
    assert kept["serial"] == dummy["serial"], "an inventory copies what firmware says"
    for number in range(2):
        answer = ask(site, f"52:54:00:cc:05:{number:02x}", **dummy)
        assert "waits to be added" in answer.text
    rows = quarantine.listing(site)
    assert [(row["serial"], row["uuid"], row["conflict"]) for row in rows] == [(None, None, "")] * 2
    assert rows[0]["facts"]["serial"] == dummy["serial"]
    assert flag_of(site) == ""
    assert world.machine("web02", "52:54:00:cc:05:00", None, profile=None)["serial"] is None


@both_engines
def test_r15_a_registered_mac_with_another_serial_is_flagged_once_and_boots(world: World) -> None:
    world.armed(serial="ABC1234", uuid=UUID)
    site = world.site
    assert ask(site, MAC, IP, serial="abc1234", uuid=UUID.upper(), product="Old").decision.next_boot is NextBoot.BUILD
    assert flag_of(site) == ""
    assert ask(site, MAC, IP, serial="NEW9999", product="New").decision.next_boot is NextBoot.BUILD
    assert "NEW9999" in flag_of(site) and "ABC1234" in flag_of(site)
    shown = machines.show(site, "web01")
    assert (shown["serial"], shown["facts"]["serial"], shown["facts"]["product"]) == ("ABC1234", "NEW9999", "New")
    machines.clear_flag(site, "web01")
    assert ask(site, MAC, IP, serial="NEW9999", product="New").sighting is None
    discovery.record(site, [Sighting(MAC, IP, from_query({"serial": "NEW9999", "product": "New"}))])
    assert flag_of(site) == "", "another process saw the same question"


def test_a_machine_without_a_serial_learns_facts_and_never_a_serial(world: World) -> None:
    world.ready()
    ask(world.site, MAC, IP, serial="ABC1234", product="Virtual", ip=IP)
    shown = machines.show(world.site, "web01")
    assert (shown["serial"], shown["flag"]) == (None, "")
    assert shown["facts"] == {"serial": "ABC1234", "product": "Virtual"}
    assert ask(world.site, MAC, IP, serial="ABC1234", product="Virtual", ip="127.0.2.77").sighting is None


@both_engines
def test_r15_a_deleted_machine_that_comes_back_is_quarantined(world: World) -> None:
    world.armed(serial="ABC1234")
    site = world.site
    token = boot.boot_script(site, BootRequest(MAC, IP)).text
    assert "/answer" in token
    builds.cancel(site, ACTOR, "web01")
    machines.remove(site, ACTOR, "web01")
    answer = ask(site, MAC, IP, serial="ABC1234")
    assert answer.decision.next_boot is NextBoot.DISCOVERY
    assert (only(site)["mac"], only(site)["conflict"]) == (MAC, "")


@both_engines
def test_an_administrator_s_serial_counts_and_a_contradiction_is_flagged(world: World) -> None:
    world.subnet()
    ask(world.site, serial="ABC1234")
    added = world.machine("web01", STRANGER, IP, profile=None, serial="OTHER99")
    assert added["serial"] == "OTHER99"
    assert "ABC1234" in added["flag"] and "OTHER99" in added["flag"]


@both_engines
def test_s37_quarantine_is_searched_literally_and_forgotten(world: World) -> None:
    world.subnet()
    site = world.site
    ask(site, serial="x'; DROP TABLE discovery; --%")
    ask(site, "52:54:00:cc:00:02", serial="SN-77")
    assert [row["mac"] for row in quarantine.search(site, "drop table")] == [STRANGER]
    assert quarantine.search(site, "_") == []
    assert [row["mac"] for row in quarantine.search(site, "5254.00cc.0002")] == ["52:54:00:cc:00:02"]
    quarantine.forget(site, STRANGER.upper())
    with pytest.raises(NotFound):
        quarantine.forget(site, STRANGER)
    assert quarantine.forget_all(site) == 1
    assert quarantine.listing(site) == []


def test_the_recorder_records_behind_the_answer_and_survives_what_it_is_given(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.subnet()
    recorder = Recorder(world.site)
    broken = iter([RuntimeError("boom"), RuntimeError("boom")])
    real = discovery.record

    def record(site: Site, sightings: Any) -> Recorded:
        for error in broken:
            raise error
        return real(site, sightings)

    monkeypatch.setattr(discovery, "record", record)
    recorder.put(None)
    with capture_logs() as logged:
        for number in (1, 2):
            recorder.put(Sighting(f"52:54:00:cc:06:0{number}", OTHER_IP, Facts(), is_new=True))
            wait_for(lambda number=number: recorder._failures == number)
        recorder.put(Sighting("52:54:00:cc:06:03", OTHER_IP, Facts(), is_new=True))
        wait_for(lambda: quarantine.listing(world.site))
    assert only(world.site)["mac"] == "52:54:00:cc:06:03"
    told = [each for each in logged if each["event"] == "discovery failed"]
    assert [(each["machines"], each["failures"]) for each in told] == [(1, 1)], "a traceback a minute, all counted"


def test_failures_of_the_recorder_are_told_again_after_a_minute(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def record(_site: Site, _sightings: Any) -> Recorded:
        raise RuntimeError("boom")

    monkeypatch.setattr(discovery, "record", record)
    monkeypatch.setattr(discovery, "_LOG_SECONDS", 0.0)
    recorder = Recorder(world.site)
    with capture_logs() as logged:
        for number in (1, 2):
            recorder.put(Sighting(f"52:54:00:cc:06:0{number}", OTHER_IP, Facts(), is_new=True))
            wait_for(lambda number=number: len(logged) == number)
    assert [each["failures"] for each in logged] == [1, 2]


def test_the_answer_does_not_need_the_recording(world: World) -> None:
    """With the database held by another writer an unknown machine is told what it waits for, at once."""
    world.subnet()
    recorder = Recorder(world.site)
    with write(world.site.engine) as session:
        session.execute(update(Machine).values(description="held"))
        answer = boot.boot_script(world.site, BootRequest(STRANGER, OTHER_IP))
        recorder.put(answer.sighting)
        assert "waits to be added" in answer.text
        assert quarantine.listing(world.site) == []
    wait_for(lambda: quarantine.listing(world.site))


@both_engines
def test_a_waiting_machine_waits_for_the_database_and_others_get_their_disk(world: World) -> None:
    """Who was told to wait has perhaps nothing on its disk, and would stand at `no bootable device`."""
    world.subnet()
    with down(world.site) as broken:
        waiting = boot.boot_script(broken, BootRequest(STRANGER, OTHER_IP, wait="60", waited_for="adding"))
        assert "the database cannot be asked" in waiting.text and "asking again in 5 seconds" in waiting.text
        assert waiting.decision.next_boot is NextBoot.DISCOVERY
        assert boot.boot_script(broken, BootRequest(STRANGER, OTHER_IP)).decision.next_boot is NextBoot.LOCAL
        recorder = Recorder(broken)
        recorder.put(Sighting(STRANGER, OTHER_IP, Facts(), is_new=True))
        wait_for(recorder._waiting.empty)
    assert "waits to be added" in ask(world.site, wait="5").text
