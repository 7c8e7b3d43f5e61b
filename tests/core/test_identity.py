"""R14, R15: who a machine is; a contradiction is shown, never merged by guess."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.core.identity import Index, Known, Wanted, match, serial_key, uuid_key
from provisioner.errors import IdentityConflict

A, B, C, D = (f"52:54:00:00:00:0{each}" for each in "abcd")
UUID = "4c4c4544-0037-3310-8052-b4c04f4d3732"
SWAPPED = "44454c4c-3700-1033-8052-b4c04f4d3732"
OTHER = "4c4c4544-0037-3310-8052-b4c04f4d3799"
WEB = Known(1, "web01", (A, B), "SN-1", UUID)
DB = Known(2, "db01", (C,), "SN-2", OTHER)
BARE = Known(3, "n001", (), None, None, awaits_mac=True)
RACKED = Known(4, "n002", (), "SN-4", None, awaits_mac=True)
ALL = (WEB, DB, BARE, RACKED)
FILLERS = [
    "To be filled by O.E.M.",
    "to be filled by o.e.m.",
    "None",
    "Default string",
    "0",
    "00000000",
    "System Serial Number",
    "0123456789",
    "Not Specified",
    " ",
    "",
]
EMPTY_UUIDS = [
    "00000000-0000-0000-0000-000000000000",
    "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
    "03000200-0400-0500-0006-000700080009",
    "",
]


def meant(*macs: str, **more: Any) -> Known | None:
    """The machine among ALL."""
    return match(Wanted(macs, **more), Index.of(ALL))


@pytest.mark.parametrize(
    ("macs", "more", "found"),
    [
        ((A,), {}, WEB),
        ((B,), {}, WEB),
        ((D, B), {}, WEB),  # one card more
        ((A,), {"serial": "sn-1", "uuid": UUID.upper()}, WEB),
        ((A,), {"uuid": SWAPPED}, WEB),  # SMBIOS before 2.6
        ((A,), {"serial": "None", "uuid": EMPTY_UUIDS[0]}, WEB),
        ((D,), {}, None),
        ((D,), {"serial": "SN-9", "name": "web09"}, None),
        ((D,), {"serial": "SN-4"}, RACKED),
        ((D,), {"name": "n001"}, BARE),
        ((D,), {"name": "n001", "serial": "SN-9"}, BARE),
        ((A,), {"name": "db01"}, WEB),  # its new name: whether that is free is another question
    ],
)
def test_a_machine_is_found_by_mac_then_serial_then_uuid(macs: tuple[str, ...], more: Any, found: Known | None) -> None:
    assert meant(*macs, **more) == found


@pytest.mark.parametrize(
    ("macs", "more", "matched", "other", "where", "said"),
    [
        ((D,), {"serial": "SN-1"}, "web01", None, "/serial", "new card"),
        ((D,), {"uuid": UUID}, "web01", None, "/uuid", "new card"),
        ((D,), {"uuid": SWAPPED}, "web01", None, "/uuid", "new card"),
        ((A, C), {}, "web01", "db01", "/interfaces/1/mac", f"{A} belongs to machine web01, {C} to db01"),
        ((A,), {"serial": "SN-2"}, "web01", "db01", "/serial", "the MAC address is machine web01's"),
        ((A,), {"uuid": OTHER}, "web01", "db01", "/uuid", "machine db01's"),
        ((A,), {"serial": "SN-9"}, "web01", None, "/serial", "board swapped"),
        ((A,), {"uuid": OTHER.replace("99", "98")}, "web01", None, "/uuid", "board swapped"),
        ((D,), {"serial": "SN-4", "uuid": OTHER}, "n002", "db01", "/uuid", "the serial number is machine n002's"),
        ((D,), {"name": "web01"}, "web01", "web01", "/name", "is there already"),
        ((D,), {"name": "n002", "serial": "SN-5"}, "n002", "n002", "/serial", "board swapped"),
    ],
)
def test_r15_a_contradiction_shows_both_sides(
    macs: tuple[str, ...], more: Any, matched: str, other: str | None, where: str, said: str
) -> None:
    with pytest.raises(IdentityConflict, match=re.escape(said)) as caught:
        meant(*macs, **more)
    sides = caught.value.details
    assert (sides["matched"]["name"], sides["other"]["name"]) == (matched, other)
    assert caught.value.where == where
    assert set(sides["matched"]) == set(sides["other"]) == {"name", "macs", "serial", "uuid"}
    assert caught.value.hint


def test_two_records_with_one_serial_are_a_contradiction() -> None:
    twin = Known(9, "twin", (), "sn-4", None, awaits_mac=True)
    with pytest.raises(IdentityConflict, match="n002 and twin both have") as caught:
        match(Wanted((D,), "SN-4"), Index.of((*ALL, twin)))
    assert caught.value.details["other"]["name"] == "twin"


@pytest.mark.parametrize("serial", FILLERS)
@pytest.mark.parametrize("uuid", EMPTY_UUIDS)
def test_r14_fillers_match_nothing(serial: str, uuid: str) -> None:
    """Two machines of which the firmware says the same nothing are two machines."""
    first = Known(1, "one", (A,), serial, uuid)
    waiting = Known(2, "two", (), serial, uuid, awaits_mac=True)
    index = Index.of((first, waiting))
    assert match(Wanted((B,), serial, uuid), index) is None
    assert match(Wanted((A,), serial, uuid), index) == first
    assert (serial_key(serial), uuid_key(uuid)) == (None, None)


macs = st.sampled_from([A, B, C, D])
serials = st.sampled_from(["SN-1", "sn-1", "SN-2", "None", None])
uuids = st.sampled_from([UUID, SWAPPED, OTHER, EMPTY_UUIDS[0], None])


@given(
    st.lists(st.tuples(st.sets(macs, max_size=2), serials, uuids), max_size=4),
    st.sets(macs, min_size=1, max_size=2),
    serials,
    uuids,
)
def test_a_match_is_never_against_a_fact(
    records: list[tuple[set[str], str | None, str | None]], wanted: set[str], serial: str | None, uuid: str | None
) -> None:
    """Whatever is found shares a MAC or awaits one, differs in no fact, and is the only one, or the only one by MAC."""
    seen: set[str] = set()
    machines = []
    for key, (cards, number, identity) in enumerate(records):
        mine = tuple(sorted(cards - seen))
        seen |= cards
        machines.append(Known(key, f"m{key}", mine, number, identity, awaits_mac=not mine))
    said = Wanted(tuple(sorted(wanted)), serial, uuid)

    def sharing(each: Known) -> bool:
        return bool(
            set(each.macs) & wanted
            or (serial_key(serial) and serial_key(each.serial) == serial_key(serial))
            or (uuid_key(uuid) and uuid_key(each.uuid) == uuid_key(uuid))
        )

    involved = [each for each in machines if sharing(each)]
    try:
        found = match(said, Index.of(machines))
    except IdentityConflict as error:
        assert involved
        assert error.details["matched"]["name"] in {each.name for each in involved}
        return
    if found is None:
        assert involved == []
    for other in involved:
        # Of two records with one serial number, a MAC says which is meant; of two with one UUID, the serial number,
        # whether the other has another one or none.
        by_mac = found is not None and set(found.macs) & wanted and not set(other.macs) & wanted
        numbers = {serial_key(serial), serial_key(other.serial)}
        by_serial = found is not None and serial_key(found.serial) == serial_key(serial) != serial_key(other.serial)
        assert other is found or by_mac or by_serial or (None not in numbers and len(numbers) == 2)
    if found is not None:
        assert set(found.macs) & wanted or found.awaits_mac
        assert None in {serial_key(serial), serial_key(found.serial)} or serial_key(serial) == serial_key(found.serial)
        assert None in {uuid_key(uuid), uuid_key(found.uuid)} or uuid_key(uuid) == uuid_key(found.uuid)
