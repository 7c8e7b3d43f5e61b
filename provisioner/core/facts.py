"""What machines say of themselves: cut, printable, and never mistaken for an identity when it is a filler.

Everything here came from a stranger's query string, a ramdisk's report or an inventory. SMBIOS fields that a board
vendor forgot to fill are the same on thousands of machines; such a dummy is kept as it was said, and matches nothing.
"""

import math
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from provisioner.core.addresses import looks_like_mac, normal_mac
from provisioner.errors import InvalidInput, MalformedMac

TEXT_CHARACTERS = 128
SERIAL_CHARACTERS = 255
MOST_FIELDS = 64
MOST_DEPTH = 4
_QUERY = ("uuid", "serial", "manufacturer", "product", "asset", "arch", "platform", "ip")
_PASSING = ("ip",)  # not a property of the machine
_KEY = re.compile(r"[a-z][a-z0-9_]{0,31}")
_LARGEST_INTEGER = 2**63

# Compared without case, spaces and punctuation.
_FILLERS = """
assettag basebordserialnumber baseboardserialnumber boardserialnumber chassisserialnumber default defaultserial
defaultstring empty fillbyoem filledbyoem invalid mb1234567890 na noassettag none noserial noserialnumber
notapplicable notassigned notavailable notdefined notprovided notset notspecified null oem productserialnumber
serial serialnumber sernum0 sn sysserialnumber systemserialnumber systemsn tbd tobefilledbyoem tobefilledbyom
type1productconfigid type2boardserialnumber undefined uninitialized unknown unset unspecified
"""
_DUMMY_SERIALS = frozenset(_FILLERS.split())
_DIGITS_IN_ORDER = ("01234567890123456789012345678901", "98765432109876543210987654321098")
_DUMMY_UUIDS = frozenset(
    (
        "00010203-0405-0607-0809-0a0b0c0d0e0f",
        "01020304-0506-0708-090a-0b0c0d0e0f10",
        "03000200-0400-0500-0006-000700080009",
        "12345678-1234-1234-1234-123456789abc",
        "12345678-1234-5678-90ab-cddeefaabbcc",
        "12345678-9012-3456-7890-123456789012",
        "11111111-2222-3333-4444-555555555555",
        "4c4c4544-0000-2010-8020-80c04f202020",
    )
)
"""AMI's default, the vendors' counting ones, and Dell's for a service tag of blanks; each in either byte order."""


@dataclass(frozen=True)
class Facts:
    """A machine's report. ``serial`` and ``uuid`` are in normal form, and None where it said none or a dummy."""

    serial: str | None = None
    uuid: str | None = None
    said: Mapping[str, Any] = field(default_factory=dict)
    """All it said, as inert text, numbers, lists and mappings of them."""

    @property
    def lasting(self) -> dict[str, Any]:
        """What it said, without what changes from boot to boot."""
        return {name: value for name, value in self.said.items() if name not in _PASSING}

    @property
    def macs(self) -> tuple[str, ...]:
        """The MAC addresses of the NICs it listed, in normal form."""
        nics = self.said.get("nics", ())
        told = [str(nic.get("mac", "")) for nic in nics if isinstance(nic, dict)] if isinstance(nics, list) else []
        return tuple(mac for mac in map(_mac, told) if mac)


def from_query(query: Mapping[str, str]) -> Facts:
    """The facts in an iPXE query string; what it has besides is left out."""
    texts = {name: inert(query[name]) for name in _QUERY if name in query}
    return _facts(query, {name: text for name, text in texts.items() if text})


def from_report(body: Mapping[str, Any]) -> Facts:
    """The facts that a ramdisk posted. Raises InvalidInput for too many fields, too deep a nesting, or odd names."""
    if len(body) > MOST_FIELDS:
        raise InvalidInput(f"{len(body)} facts are too many", where="body", hint=f"send at most {MOST_FIELDS}")
    said = {_key(name): _inert_value(value, MOST_DEPTH) for name, value in body.items()}
    return _facts(body, {name: value for name, value in said.items() if value not in ("", None, [], {})})


def merged(known: Mapping[str, Any] | None, said: Mapping[str, Any]) -> dict[str, Any]:
    """Old facts with those said later put over them; at most ``MOST_FIELDS``."""
    together = {**(known or {}), **said}
    return dict(list(together.items())[:MOST_FIELDS])


def inert(text: str, most: int = TEXT_CHARACTERS) -> str:
    """The text on one line, spaces squeezed, control and direction characters as escapes, cut to ``most``."""
    plain = " ".join(text[: 4 * most].split())
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in plain)[:most]


def serial_text(text: str | None) -> str | None:
    """A serial number as it is stored: inert and with single spaces; None for an empty one."""
    return inert(text or "", SERIAL_CHARACTERS) or None


def normal_serial(text: str | None) -> str | None:
    """A serial number that identifies a machine, or None for an empty or a dummy one."""
    serial = serial_text(text)
    if serial is None:
        return None
    squeezed = re.sub(r"[\W_]", "", text or "").lower()
    counts = len(squeezed) >= 5 and any(squeezed in digits for digits in _DIGITS_IN_ORDER)
    return None if len(set(squeezed)) < 2 or counts or squeezed in _DUMMY_SERIALS else serial


def serial_spellings(serial: str) -> set[str]:
    """How the same serial number may have been written down: inventories change the case."""
    return {serial, serial.upper(), serial.lower()}


def uuid_text(text: str | None) -> str | None:
    """A UUID as it is stored: lower case with hyphens; None for an empty one. Raises InvalidInput for what is none."""
    if not text or not text.strip():
        return None
    try:
        return str(uuid.UUID(text.strip()))
    except ValueError as error:
        raise InvalidInput(
            f"{text[:80]!r} is not a UUID",
            where="uuid",
            hint="write it as SMBIOS tells it, for example 4c4c4544-0037-3310-8052-b4c04f4d3732",
        ) from error


def normal_uuid(text: str | None) -> str | None:
    """A UUID that identifies a machine, or None for an empty, a broken or a dummy one.

    iPXE's ``${uuid}`` and GRUB's ``smbios --get-uuid`` are in text order, as this form is; for DHCP's option 97 see
    :func:`uuid_of_option_97`.
    """
    try:
        found = uuid_text(text)
    except InvalidInput:
        return None
    if found is None or _DUMMY_UUIDS & uuid_spellings(found) or len(set(found) - {"-"}) < 2:
        return None
    return None if len(set(uuid.UUID(found).bytes)) < 2 else found


def uuid_of_option_97(value: bytes) -> str | None:
    """The UUID in DHCP's option 97 (RFC 4578), or None. Its first three fields are little-endian, as in SMBIOS."""
    if len(value) != 17 or value[0] != 0:
        return None
    return normal_uuid(str(uuid.UUID(bytes_le=value[1:])))


def uuid_spellings(text: str) -> set[str]:
    """The UUID in both byte orders: SMBIOS before 2.6 did not say which, and tools differ."""
    return {text, str(uuid.UUID(bytes=uuid.UUID(text).bytes_le))}


def _facts(raw: Mapping[str, Any], said: dict[str, Any]) -> Facts:
    texts = {name: raw[name] for name in ("serial", "uuid") if isinstance(raw.get(name), str)}
    return Facts(normal_serial(texts.get("serial")), normal_uuid(texts.get("uuid")), said)


def _key(name: str) -> str:
    if not _KEY.fullmatch(name):
        raise InvalidInput(
            f"{name[:40]!r} is not a fact's name", where="body", hint="use lower-case letters, digits and underscores"
        )
    return name


def _inert_value(value: Any, depth: int) -> Any:
    if isinstance(value, dict | list) and (depth == 0 or len(value) > MOST_FIELDS):
        raise InvalidInput(
            "the facts are nested too deeply or too many",
            where="body",
            hint=f"send at most {MOST_DEPTH} levels of at most {MOST_FIELDS} each",
        )
    if isinstance(value, dict):
        return {_key(name): _inert_value(each, depth - 1) for name, each in value.items()}
    if isinstance(value, list):
        return [_inert_value(each, depth - 1) for each in value]
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float) and math.isfinite(value) and abs(value) < _LARGEST_INTEGER:
        return value
    return inert(str(value))


def _mac(text: str) -> str | None:
    try:
        return normal_mac(text) if looks_like_mac(text) else None
    except MalformedMac:
        return None
