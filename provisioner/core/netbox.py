"""NetBox's devices as machines: what the answers of its API (4.0 and later) say, in the shape that plans take.

Nothing is guessed: a device that cannot be a machine is named with the reason, and stays out.
"""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from provisioner.core.addresses import normal_ip, normal_mac
from provisioner.core.names import machine_name, tag
from provisioner.errors import ProvisionerError

SOURCE = "netbox/"
"""What a machine's ``inventory`` begins with; NetBox's number of the device follows."""
PARAMETER = "inventory"
"""The parameter that tells templates and Ansible where the machine is."""
_NOT_A_CARD = {"virtual", "bridge", "lag"}
# Addresses that several devices share, or that are on no card.
_SHARED_ROLES = {"anycast", "carp", "glbp", "hsrp", "loopback", "vip", "vrrp"}
_MOST_STEPS = 8


@dataclass(frozen=True)
class Rule:
    """Devices that have all of these slugs (an empty one fits any) get the profile."""

    profile: str
    role: str = ""
    tag: str = ""
    platform: str = ""
    site: str = ""


@dataclass(frozen=True)
class Conversion:
    """How devices become machines; see the setting ``netbox``."""

    rules: Sequence[Rule] = ()
    name: str = "{name}"
    all_addresses: bool = False


@dataclass(frozen=True)
class LeftOut:
    """A device that is no machine here, and why."""

    id: int
    name: str
    reason: str


@dataclass(frozen=True)
class Machines:
    """The machines that plans take, the devices that stay out, and what else somebody should know."""

    machines: list[dict[str, Any]] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class _Unfit(Exception):
    """A device cannot be a machine; the text says why."""


def inventory_of(device: int) -> str:
    """What the machine of this device has as its ``inventory``."""
    return f"{SOURCE}{device}"


def convert(
    devices: Iterable[Mapping[str, Any]],
    interfaces: Iterable[Mapping[str, Any]],
    addresses: Iterable[Mapping[str, Any]],
    conversion: Conversion,
) -> Machines:
    """The machines that these devices are; of a card of which NetBox knows no address none is said.

    The interfaces may be of other devices too: NetBox lists those of all members of a virtual chassis under its
    master. Each counts for the device that it names itself.
    """
    cards = _by_device(interfaces)
    assigned = _by_device(each | {"device": _device_of(each)} for each in map(dict, addresses))
    found = Machines()
    for device in sorted({int(each["id"]): each for each in devices}.values(), key=lambda each: int(each["id"])):
        number = int(device["id"])
        try:
            machine = _machine(device, cards[number], assigned[number], conversion, found.notes)
            found.machines.append(machine)
        except _Unfit as reason:
            found.left_out.append(LeftOut(number, _called(device), str(reason)))
        except ProvisionerError as error:
            found.left_out.append(LeftOut(number, _called(device), error.message))
    return _without_namesakes(found)


def _by_device(rows: Iterable[Mapping[str, Any]]) -> dict[int, list[Mapping[str, Any]]]:
    grouped: dict[int, dict[int, Mapping[str, Any]]] = defaultdict(dict)
    for row in rows:
        if row.get("device"):
            grouped[int(row["device"]["id"])][int(row["id"])] = row
    return defaultdict(list, {key: [rows[each] for each in sorted(rows)] for key, rows in grouped.items()})


def _device_of(address: Mapping[str, Any]) -> Mapping[str, Any] | None:
    on_device = address.get("assigned_object_type") == "dcim.interface"
    return (address.get("assigned_object") or {}).get("device") if on_device else None


def _called(device: Mapping[str, Any]) -> str:
    return str(device.get("name") or device.get("display") or "")


def _without_namesakes(found: Machines) -> Machines:
    names = Counter(each["name"] for each in found.machines)
    twice = [each for each in found.machines if names[each["name"]] > 1]
    for each in twice:
        others = [other for other in twice if other["name"] == each["name"] and other is not each]
        told = ", ".join(f"{other['inventory']} at site {other['parameters'][PARAMETER]['site']}" for other in others)
        reason = f"another device has this name: {told}; rename one, or set netbox.name to {{name}}.{{site}}"
        found.left_out.append(LeftOut(int(each["inventory"].removeprefix(SOURCE)), each["name"], reason))
    found.machines[:] = [each for each in found.machines if names[each["name"]] == 1]
    found.left_out.sort(key=lambda each: each.id)
    return found


def _machine(
    device: Mapping[str, Any],
    interfaces: Sequence[Mapping[str, Any]],
    addresses: Sequence[Mapping[str, Any]],
    conversion: Conversion,
    notes: list[str],
) -> dict[str, Any]:
    name = _name(device, conversion.name)
    told = device.get("interface_count")
    if told is not None and int(told) > len(interfaces):
        raise _Unfit(
            f"NetBox counts {told} interfaces and shows {len(interfaces)}: may the token see dcim.interface of it?"
        )
    cards = _cards(interfaces, name, notes)
    if not cards:
        raise _Unfit("none of its interfaces that are cards has a MAC address (management ones do not count)")
    ips = _ips(device, interfaces, addresses, cards, all_addresses=conversion.all_addresses)
    primary = device.get("primary_ip")
    if primary and int(primary["id"]) not in {each for each, _ in ips.values()}:
        notes.append(f"{name}: its primary address {primary['address']} is on none of its cards, and left out")
    tags = _tags(device, name, notes)
    machine: dict[str, Any] = {
        "name": name,
        "interfaces": [
            {"mac": mac, "name": str(card["name"])[:64]}
            | ({"ip": ips[int(card["id"])][1]} if int(card["id"]) in ips else {})
            for mac, card in cards.items()
        ],
        "parameters": {PARAMETER: _place(device)},
        "tags": tags,
        "serial": str(device.get("serial") or "").strip() or None,
        "inventory": inventory_of(int(device["id"])),
    }
    profile = _profile(device, tags, conversion.rules)
    return machine | ({"profile": profile} if profile else {})


def _tags(device: Mapping[str, Any], name: str, notes: list[str]) -> list[str]:
    found = set()
    for each in device.get("tags") or ():
        try:
            found.add(tag(str(each["slug"])))
        except ProvisionerError as error:
            notes.append(f"{name}: a tag is left out: {error.message}")
    return sorted(found)


def _name(device: Mapping[str, Any], pattern: str) -> str:
    """A host name: NetBox allows any text, spaces and slashes too, and none at all."""
    if "{name}" in pattern and not device.get("name"):
        raise _Unfit("it has no name in NetBox")
    site, rack = device.get("site") or {}, device.get("rack") or {}
    values = {
        "name": device.get("name"),
        "site": site.get("slug"),
        "rack": rack.get("name"),
        "asset_tag": device.get("asset_tag"),
        "id": device.get("id"),
    }
    missing = [key for key, value in values.items() if f"{{{key}}}" in pattern and not value]
    if missing:
        raise _Unfit(f"it has no {missing[0]}, and netbox.name is {pattern}")
    spelled = pattern
    for key, value in values.items():
        spelled = spelled.replace(f"{{{key}}}", _label(str(value)))
    if not spelled:
        raise _Unfit("its name cannot be a host name: it has neither letters from a to z nor digits")
    try:
        return machine_name(spelled)
    except ProvisionerError as error:
        raise _Unfit(f"its name cannot be a host name: {error.message}") from error


def _label(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    labels = (re.sub(r"[^a-z0-9]+", "-", label).strip("-") for label in plain.split("."))
    return ".".join(label for label in labels if label)


def _cards(interfaces: Sequence[Mapping[str, Any]], name: str, notes: list[str]) -> dict[str, Mapping[str, Any]]:
    """MAC to interface, only physical ones: a bond or VLAN has the MAC of the card below it."""
    cards: dict[str, Mapping[str, Any]] = {}
    for interface in interfaces:
        if interface.get("mgmt_only") or not _is_card(interface):
            continue
        spelled = _mac(interface)
        if not spelled:
            continue
        try:
            mac = normal_mac(spelled)
        except ProvisionerError as error:
            notes.append(f"{name}: interface {interface['name']} is left out: {error.message}")
            continue
        first = cards.setdefault(mac, interface)
        if first is not interface:
            notes.append(f"{name}: {first['name']} and {interface['name']} have one MAC; {first['name']} is taken")
    return cards


def _is_card(interface: Mapping[str, Any]) -> bool:
    return (interface.get("type") or {}).get("value") not in _NOT_A_CARD


def _mac(interface: Mapping[str, Any]) -> str:
    """An interface's MAC: until 4.1 ``mac_address`` alone; since 4.2 one of several is marked as primary."""
    several = interface.get("mac_addresses") or ()
    primary = interface.get("primary_mac_address") or (several[0] if several else {})
    return str(primary.get("mac_address") or interface.get("mac_address") or "")


def _ips(
    device: Mapping[str, Any],
    interfaces: Sequence[Mapping[str, Any]],
    addresses: Sequence[Mapping[str, Any]],
    cards: Mapping[str, Mapping[str, Any]],
    *,
    all_addresses: bool,
) -> dict[int, tuple[int, str]]:
    """Interface to NetBox's number of the address and the address: the primary one first, then IPv4, then by number."""
    primary = (device.get("primary_ip") or {}).get("id")
    known = {int(each["id"]): each for each in interfaces}
    wanted = [each for each in addresses if each["id"] == primary or (all_addresses and _is_own(each))]
    wanted.sort(key=lambda each: (each["id"] != primary, ":" in each["address"], int(each["id"])))
    chosen: dict[int, tuple[int, str]] = {}
    usable = {int(card["id"]): mac for mac, card in cards.items()}
    for address in wanted:
        card = _card_of(int(address["assigned_object_id"]), known, usable)
        if card is not None and card not in chosen:
            chosen[card] = (int(address["id"]), normal_ip(str(address["address"]).partition("/")[0]))
    return chosen


def _is_own(address: Mapping[str, Any]) -> bool:
    role, status = address.get("role") or {}, address.get("status") or {}
    return role.get("value") not in _SHARED_ROLES and status.get("value") in {"active", "reserved", "dhcp"}


def _card_of(interface: int, known: Mapping[int, Mapping[str, Any]], usable: Mapping[int, str]) -> int | None:
    """The card that carries an interface: itself, the card of its parent, the first member of its bond or bridge."""
    for _ in range(_MOST_STEPS):
        if interface in usable or interface not in known:
            break
        above = known[interface]
        below = [int(above["parent"]["id"])] if above.get("parent") else _members(interface, known, usable)
        below = below or [card for card, mac in usable.items() if mac == _mac(above).lower()]
        if not below:
            break
        interface = below[0]
    return interface if interface in usable else None


def _members(interface: int, known: Mapping[int, Mapping[str, Any]], usable: Mapping[int, str]) -> list[int]:
    members = [
        number
        for number, each in known.items()
        if any((each.get(way) or {}).get("id") == interface for way in ("lag", "bridge"))
    ]
    return sorted(members, key=lambda number: (number not in usable, number))


def _place(device: Mapping[str, Any]) -> dict[str, Any]:
    """Where the device stands and what it is, by NetBox's slugs; racks and positions have none."""
    kind = device.get("device_type") or {}
    return {
        "site": (device.get("site") or {}).get("slug"),
        "location": (device.get("location") or {}).get("slug"),
        "rack": (device.get("rack") or {}).get("name"),
        "position": device.get("position"),
        "role": (device.get("role") or {}).get("slug"),
        "platform": (device.get("platform") or {}).get("slug"),
        "tenant": (device.get("tenant") or {}).get("slug"),
        "manufacturer": (kind.get("manufacturer") or {}).get("slug"),
        "model": kind.get("slug"),
        "asset_tag": device.get("asset_tag"),
    }


def _profile(device: Mapping[str, Any], tags: Sequence[str], rules: Iterable[Rule]) -> str | None:
    slugs = {key: (device.get(key) or {}).get("slug") for key in ("role", "platform", "site")}
    for rule in rules:
        wanted = {"role": rule.role, "platform": rule.platform, "site": rule.site}
        if all(not slug or slugs[key] == slug for key, slug in wanted.items()) and rule.tag.lower() in ("", *tags):
            return rule.profile
    return None
