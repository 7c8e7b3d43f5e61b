"""Netplan, version 2: what is referred to must be there, and what is in a bond cannot be in another."""

import ipaddress
from collections.abc import Iterator, Mapping
from typing import Any

from provisioner.core.network import BOND_MODES
from provisioner.render.validate.programs import Finding
from provisioner.render.validate.yamlmarks import Marked, Path

PHYSICAL = ("ethernets", "wifis", "modems")
VIRTUAL = ("bonds", "bridges", "vlans", "tunnels", "vrfs", "dummy-devices", "virtual-ethernets")
_OTHERS = frozenset({"version", "renderer", "openvswitch", "nm-devices"})
_MATCH = frozenset({"name", "macaddress", "driver"})


def check(marked: Marked, at: Path) -> Iterator[Finding]:
    """What is wrong with the netplan at this path of a file; it may be wrapped in one more key ``network``."""
    given = _at(marked.value, at)
    if isinstance(given, Mapping) and isinstance(given.get("network"), Mapping):
        at, given = (*at, "network"), given["network"]
    if not isinstance(given, Mapping):
        yield marked.error(at, "netplan is a mapping")
        return
    if given.get("version") != 2:
        yield marked.error((*at, "version"), "netplan's version must be 2")
    for key in set(given) - {*PHYSICAL, *VIRTUAL, *_OTHERS}:
        yield marked.error((*at, str(key)), "is no key of netplan")
    known: dict[str, str] = {}
    devices: list[tuple[str, Path, Mapping[str, Any]]] = []
    for section in (*PHYSICAL, *VIRTUAL):
        found = given.get(section)
        if found is not None and not isinstance(found, Mapping):
            yield marked.error((*at, section), "is a mapping of devices")
            continue
        for name, device in (found or {}).items():
            where = (*at, section, str(name))
            if str(name) in known:
                yield marked.error(where, f"there is a device of this name in {known[str(name)]} too")
            known[str(name)] = section
            if isinstance(device, Mapping):
                devices.append((section, where, device))
            else:
                yield marked.error(where, "a device is a mapping")
    yield from _devices(marked, devices, known)


def _devices(
    marked: Marked, devices: list[tuple[str, Path, Mapping[str, Any]]], known: Mapping[str, str]
) -> Iterator[Finding]:
    taken: dict[str, str] = {}
    for section, where, device in devices:
        yield from _device(marked, section, where, device)
        if section in {"bonds", "bridges"}:
            yield from _parts(marked, section, where, device, known, taken)
        if section == "bonds":
            yield from _mode(marked, where, device)
        if section == "vlans":
            yield from _vlan(marked, where, device, known)


def _at(value: Any, path: Path) -> Any:
    for step in path:
        value = value[step]
    return value


def _device(marked: Marked, section: str, where: Path, device: Mapping[str, Any]) -> Iterator[Finding]:
    match = device.get("match")
    if match is not None and (not isinstance(match, Mapping) or set(match) - _MATCH):
        yield marked.error((*where, "match"), f"match has {', '.join(sorted(_MATCH))}, and nothing else")
    if "set-name" in device and not match:
        yield marked.error((*where, "set-name"), "set-name needs match")
    if section == "ethernets" and len(str(device.get("set-name") or "")) > 15:
        yield marked.error((*where, "set-name"), "the kernel takes names of at most 15 characters")
    for key in ("dhcp4", "dhcp6", "optional", "accept-ra"):
        if key in device and not isinstance(device[key], bool):
            yield marked.error((*where, key), "is true or false")
    mtu = device.get("mtu")
    if mtu is not None and (type(mtu) is not int or not 68 <= mtu <= 65535):
        yield marked.error((*where, "mtu"), f"{mtu!r} is not a number from 68 to 65535")
    yield from _addresses(marked, where, device)
    yield from _routes(marked, where, device)
    for key in ("gateway4", "gateway6"):
        if key in device:
            yield marked.warning((*where, key), "is deprecated: routes: [{to: default, via: ...}]")


def _addresses(marked: Marked, where: Path, device: Mapping[str, Any]) -> Iterator[Finding]:
    for place, each in enumerate(_list(device.get("addresses"))):
        text = next(iter(each), "") if isinstance(each, Mapping) else each
        if not isinstance(text, str) or "/" not in text or not _is(ipaddress.ip_interface, text):
            yield marked.error((*where, "addresses", place), f"{text!r} is not an address with its prefix")
    servers = device.get("nameservers")
    if servers is not None and not isinstance(servers, Mapping):
        yield marked.error((*where, "nameservers"), "is a mapping of addresses and search")
        return
    for place, each in enumerate(_list((servers or {}).get("addresses"))):
        if not _is(ipaddress.ip_address, each):
            yield marked.error((*where, "nameservers", "addresses", place), f"{each!r} is not an address")


def _routes(marked: Marked, where: Path, device: Mapping[str, Any]) -> Iterator[Finding]:
    for place, route in enumerate(_list(device.get("routes"))):
        here = (*where, "routes", place)
        if not isinstance(route, Mapping) or "to" not in route:
            yield marked.error(here, "a route needs to, and mostly via")
            continue
        if route["to"] != "default" and not _is(ipaddress.ip_network, route["to"]):
            yield marked.error((*here, "to"), f"{route['to']!r} is neither default nor a network")
        if "via" in route and not _is(ipaddress.ip_address, route["via"]):
            yield marked.error((*here, "via"), f"{route['via']!r} is not an address")


def _parts(
    marked: Marked,
    section: str,
    where: Path,
    device: Mapping[str, Any],
    known: Mapping[str, str],
    taken: dict[str, str],
) -> Iterator[Finding]:
    if section == "bonds" and not device.get("interfaces"):
        yield marked.error(where, "a bond without interfaces")
    for place, name in enumerate(map(str, _list(device.get("interfaces")))):
        here = (*where, "interfaces", place)
        if name not in known:
            yield marked.error(here, f"there is no device {name!r}")
        if name in taken:
            yield marked.error(here, f"{name} is already part of {taken[name]}")
        taken[name] = str(where[-1])


def _mode(marked: Marked, where: Path, device: Mapping[str, Any]) -> Iterator[Finding]:
    parameters = device.get("parameters")
    mode = parameters.get("mode", "balance-rr") if isinstance(parameters, Mapping) else "balance-rr"
    if mode not in BOND_MODES:
        yield marked.error((*where, "parameters", "mode"), f"{mode!r} is not one of {', '.join(BOND_MODES)}")


def _vlan(marked: Marked, where: Path, device: Mapping[str, Any], known: Mapping[str, str]) -> Iterator[Finding]:
    if type(device.get("id")) is not int or not 0 <= device["id"] <= 4094:
        yield marked.error((*where, "id"), "a VLAN has an id from 0 to 4094")
    if str(device.get("link")) not in known:
        yield marked.error((*where, "link"), f"there is no device {device.get('link')!r}")


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _is(kind: Any, value: Any) -> bool:
    try:
        kind(value)
    except (ValueError, TypeError):
        return False
    return isinstance(value, str)
