"""The network of a new system: the machine's interfaces, and the bonds, VLANs and bridges built over them.

Plain data in, plain data out, the same for every family of answer file: templates only spell it.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import netaddr

from provisioner.errors import InvalidInput

Data = Mapping[str, Any]
METHODS = ("dhcp", "static")
KINDS = ("ethernet", "bond", "vlan", "bridge")
BOND_MODES = (
    "802.3ad",
    "active-backup",
    "balance-rr",
    "balance-xor",
    "broadcast",
    "balance-tlb",
    "balance-alb",
)
_WHERE = "parameters.links"
_KEYS = frozenset({"name", "kind", "over", "mode", "id", "address_of", "addresses", "gateway", "dns", "mtu", "dhcp"})
# IFNAMSIZ is 16 with its NUL; the kernel refuses "/" and spaces, and scripts get no other odd characters.
_NAME = re.compile(r"[a-z][a-z0-9._-]{0,14}")


def layout(interfaces: Sequence[Data], parameters: Data) -> list[dict[str, Any]]:
    """The links of the new system, each after those that it is built over.

    ``parameters`` gives ``network`` (``dhcp``: the first interface asks, or what is built over it; ``static``: every
    interface with an address gets it) and ``links``, a list of mappings with ``name``, ``kind`` (``bond``, ``vlan``,
    ``bridge``; ``ethernet`` adds to an interface) and:

    - ``over``: the interface or link below, by name or MAC; a list for bonds and bridges, ``all`` for every interface;
    - ``mode``: of a bond, ``802.3ad`` (LACP) unless said; ``id``: of a VLAN, 1 to 4094;
    - ``address_of``: the interface whose address this link gets; unless said it climbs from an interface through the
      bonds and bridges over it, never into a VLAN;
    - ``addresses`` (with prefix, IPv4 or IPv6), ``gateway`` (a text or a list), ``dns``, ``mtu``, ``dhcp`` (a boolean).

    Each link of the answer has ``name``, ``kind``, ``mac`` (of interfaces), ``over`` (names), ``carries`` (whether
    another is built over it), ``mode``, ``vlan``, ``mtu``, ``dhcp``, ``addresses`` (``ip``, ``prefix``, ``netmask``,
    ``version``), ``gateways`` (at most one an IP version in the whole layout), ``dns`` and ``domain``. Raises
    InvalidInput that names the link.
    """
    method = parameters.get("network", "dhcp")
    if method not in METHODS:
        raise InvalidInput(f"network is dhcp or static, not {str(method)[:40]!r}", where="parameters.network")
    links = {each["name"]: _ethernet(each) for each in interfaces}
    if len(links) != len(interfaces):
        raise InvalidInput("two interfaces have the same name", where="interfaces", hint="give each its own")
    wanted = _checked(parameters.get("links") or [])
    for each in wanted:
        _add(links, each, interfaces)
    _address(links, interfaces, wanted, method)
    _route(links, interfaces)
    return list(links.values())


def _ethernet(interface: Data) -> dict[str, Any]:
    return _link(interface["name"], "ethernet") | {"mac": interface["mac"], "domain": interface.get("domain")}


def _link(name: str, kind: str) -> dict[str, Any]:
    nothing: dict[str, Any] = {
        "mac": None,
        "over": [],
        "carries": False,
        "mode": None,
        "vlan": None,
        "mtu": None,
        "dhcp": False,
    }
    return {"name": name, "kind": kind} | nothing | {"addresses": [], "gateways": [], "dns": [], "domain": None}


def _checked(given: Any) -> list[Data]:
    if not isinstance(given, list | tuple):
        raise InvalidInput("links is a list of mappings", where=_WHERE, hint="- {name: bond0, kind: bond, over: all}")
    for place, each in enumerate(given):
        where = f"{_WHERE}[{place}]"
        if not isinstance(each, Mapping) or not isinstance(each.get("name"), str):
            raise InvalidInput(f"{str(each)[:80]!r} has no name", where=where, hint="- {name: bond0, kind: bond, ...}")
        odd = sorted(set(each) - _KEYS)
        if odd:
            raise InvalidInput(
                f"{odd[0][:40]!r} is no key of a link", where=where, hint=f"keys: {', '.join(sorted(_KEYS))}"
            )
        if not _NAME.fullmatch(each["name"]):
            raise InvalidInput(
                f"{each['name'][:40]!r} cannot be the name of a link",
                where=where,
                hint="at most 15 of a-z, 0-9, dot, hyphen and underscore, a letter first",
            )
    return list(given)


def _add(links: dict[str, dict[str, Any]], each: Data, interfaces: Sequence[Data]) -> None:
    name, kind = each["name"], each.get("kind", "ethernet")
    where = f"{_WHERE}: {name}"
    if kind not in KINDS:
        raise InvalidInput(
            f"{str(kind)[:40]!r} is not a kind of link", where=where, hint=f"choose one of {', '.join(KINDS)}"
        )
    if kind == "ethernet":
        if name not in links or links[name]["kind"] != "ethernet":
            raise InvalidInput("the machine has no such interface", where=where, hint="kind: bond, vlan or bridge")
        link = links[name]
    elif name in links:
        raise InvalidInput("this name is taken by another link", where=where, hint="give each its own")
    else:
        link = _link(name, kind)
        link["over"] = _below(links, each, interfaces, where)
    _options(link, each, where)
    links[name] = link


def _named(links: Mapping[str, Data], over: Any, interfaces: Sequence[Data]) -> list[str]:
    if over == "all":
        return [name for name, link in links.items() if link["kind"] == "ethernet"]
    names = [over] if isinstance(over, str) else over if isinstance(over, list | tuple) else []
    by_mac = {str(interface["mac"]).lower(): interface["name"] for interface in interfaces}
    return [by_mac.get(str(name).lower(), str(name)) for name in names]


def _below(links: dict[str, dict[str, Any]], each: Data, interfaces: Sequence[Data], where: str) -> list[str]:
    names = _named(links, each.get("over"), interfaces)
    if not names:
        raise InvalidInput("it is built over nothing", where=where, hint="over: all, or names of interfaces and links")
    for name in names:
        if name not in links:
            raise InvalidInput(
                f"there is no {str(name)[:40]!r} to build it over",
                where=where,
                hint=f"known so far: {', '.join(links)}; a link stands after those it is built over",
            )
    if each["kind"] == "vlan" and len(names) != 1:
        raise InvalidInput("a VLAN is built over one link", where=where, hint="over: bond0")
    taken = [name for name in names if links[name]["carries"] is True and each["kind"] != "vlan"]
    if taken:
        raise InvalidInput(f"{taken[0]} is already part of another link", where=where, hint="use it once")
    for name in names:
        links[name]["carries"] = links[name]["carries"] or ("vlan" if each["kind"] == "vlan" else True)
    return names


def _options(link: dict[str, Any], each: Data, where: str) -> None:
    if link["kind"] == "bond":
        link["mode"] = each.get("mode", BOND_MODES[0])
        if link["mode"] not in BOND_MODES:
            raise InvalidInput(
                f"{str(link['mode'])[:40]!r} is not a mode", where=where, hint=f"one of {', '.join(BOND_MODES)}"
            )
    if link["kind"] == "vlan":
        link["vlan"] = each.get("id")
        if type(link["vlan"]) is not int or not 1 <= link["vlan"] <= 4094:
            raise InvalidInput("a VLAN has an id from 1 to 4094", where=where, hint="id: 30")
    mtu = each.get("mtu")
    if mtu is not None and (type(mtu) is not int or not 68 <= mtu <= 65535):
        raise InvalidInput("mtu is a number from 68 to 65535", where=where, hint="mtu: 9000")
    link["mtu"] = mtu
    link["addresses"] = [_network(text, where) for text in _texts(each, "addresses", where)]
    link["gateways"] = [_ip(text, where) for text in _texts(each, "gateway", where)]
    link["dns"] = [_ip(text, where) for text in _texts(each, "dns", where)]
    if each.get("dhcp") not in {None, True, False}:
        raise InvalidInput("dhcp is true or false", where=where)
    link["dhcp"] = bool(each.get("dhcp"))


def _texts(each: Data, key: str, where: str) -> list[str]:
    value = each.get(key) or []
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, list | tuple) or not all(isinstance(text, str) for text in found):
        raise InvalidInput(f"{key} is a text or a list of texts", where=where)
    return list(found)


def _ip(text: str, where: str) -> str:
    try:
        return str(netaddr.IPAddress(text, flags=netaddr.INET_PTON))
    except (netaddr.AddrFormatError, ValueError) as error:
        raise InvalidInput(f"{text[:60]!r} is not an address", where=where) from error


def _network(text: str, where: str) -> dict[str, Any]:
    ip, slash, prefix = text.partition("/")
    address = netaddr.IPAddress(_ip(ip, where))
    if not slash or not prefix.isdigit() or int(prefix) > (32 if address.version == 4 else 128):
        raise InvalidInput(
            f"{text[:60]!r} needs its prefix", where=where, hint="write 192.0.2.11/24 or 2001:db8::11/64"
        )
    return _with_prefix(str(address), int(prefix))


def _with_prefix(ip: str, prefix: int) -> dict[str, Any]:
    network = netaddr.IPNetwork(f"{ip}/{prefix}")
    return {"ip": ip, "prefix": prefix, "netmask": str(network.netmask), "version": network.version}


def _address(links: dict[str, dict[str, Any]], interfaces: Sequence[Data], wanted: Iterable[Data], method: str) -> None:
    """Put each interface's address, or the question for one, on the link that it belongs to."""
    claimed = {}
    for each in wanted:
        if each.get("address_of") is not None:
            if each["address_of"] not in {interface["name"] for interface in interfaces}:
                raise InvalidInput(
                    f"address_of: the machine has no interface {str(each['address_of'])[:40]!r}",
                    where=f"{_WHERE}: {each['name']}",
                )
            claimed[each["address_of"]] = each["name"]
    for place, interface in enumerate(interfaces):
        link = links[claimed.get(interface["name"]) or _top(links, interface["name"])]
        link["domain"] = link["domain"] or interface.get("domain")
        if method == "static" and interface.get("ip"):
            link["addresses"].append(_with_prefix(interface["ip"], interface["prefix"]))
            link["dns"] += [server for server in interface.get("dns") or [] if server not in link["dns"]]
        elif method == "dhcp" and place == 0 and not link["addresses"]:
            link["dhcp"] = True


def _top(links: Mapping[str, Data], name: str) -> str:
    """Through bonds and bridges upwards, as far as it goes."""
    above = next((each["name"] for each in links.values() if name in each["over"] and each["kind"] != "vlan"), None)
    return name if above is None else _top(links, above)


def _route(links: dict[str, dict[str, Any]], interfaces: Sequence[Data]) -> None:
    """One default route an IP version: what a link says itself, else that of the first interface with a gateway."""
    taken = set()
    for link in links.values():
        kept = []
        for gateway in link["gateways"]:
            version = netaddr.IPAddress(gateway).version
            if version not in taken:
                taken.add(version)
                kept.append(gateway)
        link["gateways"] = kept
    for interface in interfaces:
        gateway, ip = interface.get("gateway"), interface.get("ip")
        if not gateway or not ip or (version := netaddr.IPAddress(gateway).version) in taken:
            continue
        holder = next((link for link in links.values() if any(a["ip"] == ip for a in link["addresses"])), None)
        if holder is not None:
            taken.add(version)
            holder["gateways"].append(gateway)
