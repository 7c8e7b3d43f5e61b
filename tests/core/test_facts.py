"""What machines say of themselves."""

import json
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.core.facts import (
    Facts,
    from_query,
    from_report,
    inert,
    merged,
    normal_serial,
    normal_uuid,
    serial_spellings,
    uuid_of_option_97,
    uuid_spellings,
    uuid_text,
)
from provisioner.errors import InvalidInput

DUMMY_SERIALS = [
    "",
    " ",
    "0",
    "00000000",
    "FFFFFFFF",
    "xxxxxxxxxx",
    "..........",
    "----",
    "None",
    "N/A",
    "Not Specified",
    "not  specified",
    "Default string",
    "System Serial Number",
    "Chassis Serial Number",
    "To be filled by O.E.M.",
    "To Be Filled By O.E.M",
    "TO BE FILLED BY OEM",
    "0123456789",
    "123456789",
    "1234567890",
    "12345",
    "9876543210",
    "MB-1234567890",
    "SerNum0",
    "Unknown",
    "INVALID",
    "Asset Tag",
    "O.E.M.",
    "\x00\x00",
    "\t\r\n",
]
REAL_SERIALS = [
    "5XKGLW3",
    "CZC1234ABC",
    "S417223X9A01234",
    "VMware-56 4d 12 ab",
    "LAB-lab01",
    "1001",
    "PF2ABCDE",
    "00A1",
]
DUMMY_UUIDS = [
    "00000000-0000-0000-0000-000000000000",
    "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
    "fefefefe-fefe-fefe-fefe-fefefefefefe",
    "11111111-1111-1111-1111-111111111111",
    "03000200-0400-0500-0006-000700080009",
    "00020003-0004-0005-0006-000700080009",
    "12345678-1234-5678-90AB-CDDEEFAABBCC",
    "4C4C4544-0000-2010-8020-80C04F202020",
    "00010203-0405-0607-0809-0a0b0c0d0e0f",
    "",
    "not a uuid",
    "Not Settable",
]
uuids = st.uuids(version=4)


@pytest.mark.parametrize("text", DUMMY_SERIALS)
def test_r14_dummy_serials_identify_nothing(text: str) -> None:
    assert normal_serial(text) is None
    assert normal_serial(f"  {text.upper()} ") is None
    assert from_query({"serial": text}).serial is None


@pytest.mark.parametrize("text", REAL_SERIALS)
def test_r14_real_serials_do(text: str) -> None:
    assert normal_serial(f" {text}\t") == text


@pytest.mark.parametrize("text", DUMMY_UUIDS)
def test_r14_dummy_uuids_identify_nothing(text: str) -> None:
    assert normal_uuid(text) is None
    assert normal_uuid(text.lower()) is None


@pytest.mark.parametrize("text", [each for each in DUMMY_UUIDS if each.count("-") == 4])
def test_r14_dummies_are_dummies_in_either_byte_order(text: str) -> None:
    """Firmware that swaps its fields swaps those of its filler too."""
    assert normal_uuid(str(uuid.UUID(bytes_le=uuid.UUID(text).bytes))) is None


@given(uuids)
def test_r11_every_spelling_of_a_uuid_has_one_normal_form(value: uuid.UUID) -> None:
    text = str(value)
    for spelling in (text, text.upper(), value.hex, f"{{{text}}}", f" {text} ", value.urn):
        assert normal_uuid(spelling) == text == uuid_text(spelling)


@given(uuids)
def test_r11_option_97_and_ipxe_s_text_meet_in_one_form(value: uuid.UUID) -> None:
    """On the wire the first three fields are little-endian, in ``${uuid}`` they are not."""
    assert uuid_of_option_97(b"\0" + value.bytes_le) == normal_uuid(str(value))


def test_option_97_as_it_was_seen() -> None:
    """FIRMWARE: 00112233-4455-6677-... arrives as 00 33221100 5544 7766 ..."""
    wire = bytes.fromhex("00 33221100 5544 7766 8899aabbccddeeff")
    assert uuid_of_option_97(wire) == "00112233-4455-6677-8899-aabbccddeeff"
    assert uuid_of_option_97(wire[:-1]) is None
    assert uuid_of_option_97(b"\1" + wire[1:]) is None
    assert uuid_of_option_97(b"") is None


@given(uuids)
def test_a_swapped_uuid_is_among_the_spellings(value: uuid.UUID) -> None:
    swapped = str(uuid.UUID(bytes=value.bytes_le))
    assert uuid_spellings(str(value)) == uuid_spellings(swapped) == {str(value), swapped}


@pytest.mark.parametrize("text", ["web01", "1234", "4c4c4544-0037-3310-8052-b4c04f4d37zz"])
def test_an_administrator_s_uuid_must_be_one(text: str) -> None:
    with pytest.raises(InvalidInput):
        uuid_text(text)


@given(st.text(max_size=2000))
def test_s54_facts_are_inert_text_of_limited_length(text: str) -> None:
    facts = from_query({"serial": text, "product": text, "unheard-of": text})
    assert set(facts.said) <= {"serial", "product"}
    for value in facts.said.values():
        assert 0 < len(value) <= 128
        assert value.isprintable()
        value.encode()
    serial = normal_serial(text)
    assert serial is None or (serial.isprintable() and len(serial) <= 255 and serial in serial_spellings(serial))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\r\nb", "a b"),
        ("\x1b[2J", r"\x1b[2J"),
        ("a\u202eb", r"a\u202eb"),
        ("\x00", r"\x00"),
        ("\ud800", r"\ud800"),
        ("<svg onload>", "<svg onload>"),
        ("x" * 200_000, "x" * 128),
    ],
)
def test_s54_s61_hostile_texts(text: str, shown: str) -> None:
    assert inert(text) == shown


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=300),
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True), inner)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True), plain, max_size=5))
def test_s73_a_ramdisk_s_report_is_refused_or_becomes_plain_inert_json(body: dict[str, Any]) -> None:
    try:
        facts = from_report(body)
    except InvalidInput:
        return
    text = json.dumps(dict(facts.said), allow_nan=False)
    assert json.loads(text) == facts.said
    assert text.isprintable()


def _deep(levels: int) -> Any:
    return [_deep(levels - 1)] if levels else "x"


@pytest.mark.parametrize(
    "body",
    [
        {f"f{index}": 1 for index in range(65)},
        {"nics": list(range(65))},
        {"a": _deep(5)},
        {"A": 1},
        {"": 1},
        {"a": {"b c": 1}},
        {"x" * 33: 1},
    ],
)
def test_s73_too_many_too_deep_and_odd_names_are_refused(body: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        from_report(body)


def test_r11_a_report_lists_its_nics() -> None:
    facts = from_report({"nics": [{"mac": "52-54-00-00-00-01"}, {"mac": "junk"}, "odd", {"mac": "0:0:0:0:0:0"}]})
    assert facts.macs == ("52:54:00:00:00:01",)
    assert from_report({"nics": "none"}).macs == ()


def test_what_changes_from_boot_to_boot_is_not_kept_and_the_rest_is_merged() -> None:
    facts = from_query({"serial": "ABC1", "ip": "10.0.0.1"})
    assert facts.lasting == {"serial": "ABC1"}
    assert merged({"disks": 2, "serial": "OLD"}, facts.lasting) == {"disks": 2, "serial": "ABC1"}
    assert merged(None, {}) == {}
    assert len(merged({f"a{i}": 1 for i in range(64)}, {f"b{i}": 1 for i in range(64)})) == 64
    assert Facts().said == {}
