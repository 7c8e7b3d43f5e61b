"""The network of a new system: the machine's interfaces, and the bonds, VLANs and bridges built over them.

Plain data in, plain data out, the same for every family of answer file: templates only spell it.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import netaddr

from provisioner.core.addresses import looks_like_mac, normal_ip, normal_mac
from provisioner.errors import InvalidInput, MalformedAddress, MalformedMac

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
_KINDS_OF_KEY = {"over": KINDS[1:], "mode": ("bond",), "id": ("vlan",)}
# The kernel refuses bonds over bonds and bridges over bridges; a bond over VLANs is never what was meant.
_BELOW = {"bond": ("ethernet",), "vlan": ("ethernet", "bond", "bridge"), "bridge": ("ethernet", "bond", "vlan")}
# IFNAMSIZ is 16 with its NUL; the kernel refuses "/" and spaces, and scripts get no other odd characters.
_NAME = re.compile(r"[a-z][a-z0-9._-]{0,14}")
# The kernel has files of these names where it keeps the settings of links; `all` means every interface here.
_RESERVED = frozenset({"all", "default", "lo", "bonding_masters"})


def layout(interfaces: Sequence[Data], parameters: Data) -> list[dict[str, Any]]:
    """The links of the new system, each after those that it is built over.

    ``parameters`` gives ``network`` (``dhcp``: the first interface asks, or what is built over it; ``static``: every
    interface with an address gets it) and ``links``, a list of mappings with ``name``, ``kind`` (``bond``, ``vlan``,
    ``bridge``; ``ethernet`` adds to an interface) and:

    - ``over``: the interface or link below, by name or MAC; a list for bonds and bridges, ``all`` for every interface
      (bonds take interfaces, VLANs no VLANs, bridges no bridges);
    - ``mode``: of a bond, ``802.3ad`` (LACP) unless said; ``id``: of a VLAN, 1 to 4094;
    - ``address_of``: the interface whose address this link gets; unless said it climbs from an interface through the
      bonds and bridges over it, never into a VLAN;
    - ``addresses`` (with prefix, IPv4 or IPv6), ``gateway`` (a text or a list), ``dns``, ``mtu``, ``dhcp`` (true asks
      here too, false never).

    Each link of the answer has ``name``, ``kind``, ``mac`` (of interfaces), ``over`` (names), ``carries`` (true for a
    part of a bond or bridge, ``vlan`` when only VLANs are built over it, else false), ``mode``, ``vlan``, ``mtu``,
    ``dhcp``, ``addresses`` (``ip``, ``prefix``, ``netmask``, ``version``), ``gateways`` (at most one an IP version in
    the whole layout), ``dns`` and ``domain``. A part of a bond or bridge has no addresses. An interface without a
    name is called ``nic0`` by its place. Raises InvalidInput that names the link.
    """
    method = parameters.get("network", "dhcp")
    if method not in METHODS:
        raise InvalidInput(f"network is dhcp or static, not {str(method)[:40]!r}", where="parameters.network")
    nics = [{**each, "name": each.get("name") or f"nic{place}"} for place, each in enumerate(interfaces)]
    links = {each["name"]: _ethernet(each) for each in nics}
    for each in nics:
        if sum(other["name"] == each["name"] for other in nics) > 1:
            raise InvalidInput(
                f"two interfaces are called {each['name'][:40]!r}",
                where="interfaces",
                hint="give each a name of its own",
            )
    wanted = [_named_by_mac(each, nics) for each in _checked(parameters.get("links") or [])]
    _refuse_twice(wanted)
    for asked in wanted:
        _add(links, asked, nics)
    _address(links, nics, wanted, method)
    _route(links, nics)
    _refuse_odd(links)
    return list(links.values())


def _named_by_mac(each: Data, nics: Sequence[Data]) -> Data:
    return {**each, "name": _resolved(each["name"], nics)} if each.get("kind", "ethernet") == "ethernet" else each


def _refuse_twice(wanted: Sequence[Data]) -> None:
    for place, each in enumerate(wanted):
        if each["name"] in {other["name"] for other in wanted[:place]}:
            raise InvalidInput("this name stands twice", where=f"{_WHERE}: {each['name']}", hint="give each its own")


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
        named = _NAME.fullmatch(each["name"]) and each["name"] not in _RESERVED
        if each.get("kind", "ethernet") != "ethernet" and not named:
            raise InvalidInput(
                f"{each['name'][:40]!r} cannot be the name of a link",
                where=where,
                hint="at most 15 of a-z, 0-9, dot, hyphen and underscore, a letter first; not all, default or lo",
            )
    return list(given)


def _add(links: dict[str, dict[str, Any]], each: Data, nics: Sequence[Data]) -> None:
    name, kind = each["name"], each.get("kind", "ethernet")
    where = f"{_WHERE}: {name}"
    if kind not in KINDS:
        raise InvalidInput(
            f"{str(kind)[:40]!r} is not a kind of link", where=where, hint=f"choose one of {', '.join(KINDS)}"
        )
    for key, kinds in _KINDS_OF_KEY.items():
        if key in each and kind not in kinds:
            raise InvalidInput(f"`{key}` means nothing here: kind is {kind}", where=where, hint=f"it is for {kinds[0]}")
    if kind == "ethernet":
        if name not in links or links[name]["kind"] != "ethernet":
            raise InvalidInput("the machine has no such interface", where=where, hint="kind: bond, vlan or bridge")
        link = links[name]
    elif name in links:
        raise InvalidInput("this name is taken by another link", where=where, hint="give each its own")
    else:
        link = _link(name, kind)
        link["over"] = _below(links, each, nics, where)
    _options(link, each, where)
    links[name] = link


def _resolved(text: Any, nics: Sequence[Data]) -> str:
    """The name of the interface that is meant, by its name or its MAC in any spelling; else the text as it is."""
    name = str(text)
    if name in {each["name"] for each in nics} or not looks_like_mac(name):
        return name
    try:
        mac = normal_mac(name)
        return next((str(each["name"]) for each in nics if each.get("mac") and normal_mac(each["mac"]) == mac), name)
    except MalformedMac:  # all zeros, or a group address: nobody's
        return name


def _below(links: dict[str, dict[str, Any]], each: Data, nics: Sequence[Data], where: str) -> list[str]:
    over = each.get("over")
    if over == "all":
        names = [name for name, link in links.items() if link["kind"] == "ethernet"]
    else:
        given = [over] if isinstance(over, str) else over if isinstance(over, list | tuple) else []
        names = [_resolved(name, nics) for name in given]
    if not names:
        raise InvalidInput("it is built over nothing", where=where, hint="over: all, or names of interfaces and links")
    for place, name in enumerate(names):
        if name not in links:
            raise InvalidInput(
                f"there is no {name[:40]!r} to build it over",
                where=where,
                hint=f"known so far: {', '.join(links) or 'none'}; a link stands after those it is built over",
            )
        if name in names[:place]:
            raise InvalidInput(f"{name} stands twice in `over`", where=where, hint="name it once")
        _refuse_misuse(links, each["kind"], name, where)
    if each["kind"] == "vlan" and len(names) != 1:
        raise InvalidInput("a VLAN is built over one link", where=where, hint="over: bond0")
    for name in names:
        links[name]["carries"] = True if each["kind"] != "vlan" else links[name]["carries"] or "vlan"
    return names


def _refuse_misuse(links: Mapping[str, Data], kind: str, name: str, where: str) -> None:
    """A link has one bond or bridge over it; VLANs stand beside a bridge, but never beside a bond."""
    if links[name]["kind"] not in _BELOW[kind]:
        raise InvalidInput(
            f"a {kind} is not built over a {links[name]['kind']}, which {name} is",
            where=where,
            hint=f"a {kind} is built over {' or '.join(_BELOW[kind])}",
        )
    above = [each for each in links.values() if name in each["over"]]
    for each in above:
        if (kind == "vlan" and each["kind"] == "bond") or (kind != "vlan" and each["kind"] != "vlan"):
            raise InvalidInput(f"{name} is already part of {each['name']}", where=where, hint=f"over: {each['name']}")
        if kind == "bond":
            raise InvalidInput(
                f"{name} is already below the VLAN {each['name']}",
                where=where,
                hint=f"build {each['name']} over the bond, after it",
            )


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
    if not isinstance(each.get("dhcp"), bool | None):
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
        ip = normal_ip(text)
    except MalformedAddress as error:
        error.where = where
        raise
    address = netaddr.IPAddress(ip)
    if address.is_multicast() or int(address) in {0, 0xFFFFFFFF if address.version == 4 else 0}:
        raise InvalidInput(f"{text[:60]!r} is no address of one host", where=where, hint="write that of a host")
    return ip


def _network(text: str, where: str) -> dict[str, Any]:
    ip, slash, prefix = text.partition("/")
    address = netaddr.IPAddress(_ip(ip, where))
    most = 32 if address.version == 4 else 128
    if not slash or not re.fullmatch(r"[0-9]{1,3}", prefix) or not 1 <= int(prefix) <= most:
        raise InvalidInput(
            f"{text[:60]!r} needs its prefix", where=where, hint="write 192.0.2.11/24 or 2001:db8::11/64"
        )
    network = netaddr.IPNetwork(f"{address}/{prefix}")
    if int(prefix) < most - 1 and address in {network.network, network.broadcast}:
        raise InvalidInput(f"{text[:60]!r} is its network's own address", where=where, hint="write that of this host")
    return _with_prefix(str(address), int(prefix))


def _with_prefix(ip: str, prefix: int) -> dict[str, Any]:
    network = netaddr.IPNetwork(f"{ip}/{prefix}")
    return {"ip": ip, "prefix": prefix, "netmask": str(network.netmask), "version": network.version}


def _address(links: dict[str, dict[str, Any]], nics: Sequence[Data], wanted: Sequence[Data], method: str) -> None:
    """Put each interface's address, or the question for one, on the link that it belongs to."""
    claimed = _claimed(wanted, nics)
    silent = {each["name"] for each in wanted if each.get("dhcp") is False}
    for place, nic in enumerate(nics):
        link = links[claimed.get(nic["name"]) or _top(links, nic["name"])]
        link["domain"] = link["domain"] or nic.get("domain")
        if method == "static" and nic.get("ip") and nic.get("prefix") is not None:
            ip = normal_ip(nic["ip"])
            if ip not in {address["ip"] for address in link["addresses"]}:
                link["addresses"].append(_with_prefix(ip, nic["prefix"]))
            link["dns"] += [server for server in nic.get("dns") or [] if server not in link["dns"]]
        elif method == "dhcp" and place == 0 and not link["addresses"] and link["name"] not in silent:
            link["dhcp"] = True


def _claimed(wanted: Sequence[Data], nics: Sequence[Data]) -> dict[str, str]:
    """Which link asks for which interface's address by ``address_of``."""
    claimed: dict[str, str] = {}
    for each in wanted:
        if each.get("address_of") is None:
            continue
        where, name = f"{_WHERE}: {each['name']}", _resolved(each["address_of"], nics)
        if name not in {nic["name"] for nic in nics}:
            raise InvalidInput(
                f"address_of: the machine has no interface {name[:40]!r}",
                where=where,
                hint=f"it has {', '.join(nic['name'] for nic in nics) or 'none'}",
            )
        if name in claimed:
            raise InvalidInput(
                f"address_of: {claimed[name]} has the address of {name} already", where=where, hint="say it once"
            )
        claimed[name] = each["name"]
    return claimed


def _top(links: Mapping[str, Data], name: str) -> str:
    """Through bonds and bridges upwards, as far as it goes."""
    above = next((each["name"] for each in links.values() if name in each["over"] and each["kind"] != "vlan"), None)
    return name if above is None else _top(links, above)


def _route(links: dict[str, dict[str, Any]], nics: Sequence[Data]) -> None:
    """One default route an IP version: what a link says itself, else that of the first interface with a gateway."""
    holders: dict[int, str] = {}
    for link in links.values():
        for gateway in link["gateways"]:
            version = netaddr.IPAddress(gateway).version
            if version in holders:
                raise InvalidInput(
                    f"a second IPv{version} gateway, after that of {holders[version]}",
                    where=f"{_WHERE}: {link['name']}",
                    hint="a system has one default route an IP version",
                )
            holders[version] = link["name"]
    for nic in nics:
        if not nic.get("gateway") or not nic.get("ip"):
            continue
        version, ip = netaddr.IPAddress(nic["gateway"]).version, normal_ip(nic["ip"])
        holder = next((link for link in links.values() if any(a["ip"] == ip for a in link["addresses"])), None)
        if holder is not None and version not in holders:
            holders[version] = holder["name"]
            holder["gateways"].append(normal_ip(nic["gateway"]))


def _refuse_odd(links: Mapping[str, Data]) -> None:
    """What no kernel would do as it was meant."""
    owner: dict[str, str] = {}
    tagged: dict[tuple[str, int], str] = {}
    for name, link in links.items():
        where = f"{_WHERE}: {name}"
        if link["carries"] is True and (link["addresses"] or link["gateways"] or link["dhcp"]):
            above = next(each["name"] for each in links.values() if name in each["over"] and each["kind"] != "vlan")
            raise InvalidInput(
                f"{name} is part of {above}, so it has no addresses of its own",
                where=where,
                hint=f"give them to {above}",
            )
        for address in link["addresses"]:
            if address["ip"] in owner:
                raise InvalidInput(
                    f"{address['ip']} stands twice, also on {owner[address['ip']]}",
                    where=where,
                    hint="`address_of: INTERFACE` moves an interface's address to a link",
                )
            owner[address["ip"]] = name
        for gateway in link["gateways"]:
            version = netaddr.IPAddress(gateway).version
            if not link["dhcp"] and version not in {address["version"] for address in link["addresses"]}:
                raise InvalidInput(f"the gateway {gateway} needs an IPv{version} address beside it", where=where)
        if link["kind"] == "vlan" and tagged.setdefault((link["over"][0], link["vlan"]), name) != name:
            raise InvalidInput(
                f"VLAN {link['vlan']} of {link['over'][0]} is {tagged[link['over'][0], link['vlan']]} already",
                where=where,
                hint="build it once",
            )
