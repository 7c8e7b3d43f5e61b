"""`boot explain`: the whole chain that a firmware would get, and what decided."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select

from provisioner.core.addresses import contains, looks_like_mac, normal_ip, normal_mac
from provisioner.core.bootplan import BootDecision, decide
from provisioner.core.firmware import Firmware, firmware
from provisioner.core.lifecycle import NextBoot
from provisioner.core.localboot import AUTO, Way, way
from provisioner.errors import InvalidInput
from provisioner.render.bootscripts import loader_url
from provisioner.services import discovery, loaders, looks
from provisioner.services.boot import facts
from provisioner.services.looks import SubnetSeen
from provisioner.services.machines import find
from provisioner.services.site import Site
from provisioner.store.engine import read
from provisioner.store.models import Build, Machine, Subnet, now


def boot(site: Site, name: str, arch: str, source: str | None = None) -> dict[str, Any]:
    """Each hop of a network boot of this MAC (or machine) now, with this firmware, from its assigned address.

    ``source`` is another address to ask from. Nothing is written: no attempt is opened. Raises MalformedMac,
    MalformedAddress, NotFound, InvalidInput.
    """
    kind = firmware(arch)
    source = normal_ip(source) if source else None
    with read(site.engine) as session:
        mac = normal_mac(name) if looks_like_mac(name) else _first_mac(find(session, name))
        world = looks.world(session.connection(), mac)
        address = source or next((ip for ip in world.assigned), "")
        recorded = discovery.recorded(session, mac)
        address = address or (recorded or {}).get("address", "")
        decision = decide(facts(site, world, address, now()))
        networks: Sequence[Subnet | SubnetSeen] = world.subnets or session.scalars(select(Subnet)).all()
        subnet = next((each for each in networks if address and contains(each.cidr, address)), None)
        media = session.get_one(Build, world.build.id).sealed["media"] if world.build is not None else {}
        hops = [*_loader_hops(site, kind, subnet, mac, address), *_script_hops(decision, media)]
        if decision.next_boot is NextBoot.LOCAL:
            name = world.machine.way if world.machine is not None else AUTO
            hops += _local_hops(site, kind, subnet, way(name))
        if decision.next_boot is NextBoot.DISCOVERY:
            hops += [{"hop": "console", "what": line} for line in discovery.console(session, site, mac, address)]
    return {
        "mac": mac,
        "machine": world.machine.name if world.machine else None,
        "firmware": kind.name,
        "from": address or None,
        "decision": decision.next_boot.value,
        "because": decision.reason,
        "hops": hops,
        "recorded": recorded,
    }


def _first_mac(machine: Machine) -> str:
    """The MAC that a machine is explained by. Raises InvalidInput while none is known."""
    for each in machine.interfaces:
        if each.mac:
            return each.mac
    raise InvalidInput(
        f"no MAC address of {machine.name} is known, so nobody could boot as it",
        hint=f"`provisioner machine edit {machine.name} --mac MAC`; its address stays",
    )


def _loader_hops(
    site: Site, kind: Firmware, subnet: Subnet | SubnetSeen | None, mac: str, address: str
) -> list[dict[str, str]]:
    boot_url = _boot_url(site, subnet)
    if subnet is None:
        dhcp = "no subnet of ours: whatever DHCP server answers there decides"
    elif subnet.dhcp == "authoritative":
        dhcp = f"our dnsmasq: address {address}, loader {kind.loader}, for iPXE {boot_url}/boot/ipxe"
    elif subnet.dhcp == "proxy":
        dhcp = (
            f"another server gives the address; our proxy names {kind.loader} (by TFTP), for iPXE {boot_url}/boot/ipxe"
        )
    else:
        dhcp = f"subnet {subnet.name} has DHCP {subnet.dhcp}: another server must name {kind.loader}; see `dhcp show`"
    return [
        {"hop": "DHCP", "what": dhcp},
        {"hop": "TFTP", "what": f"{kind.loader}, unless the network card's own ROM is iPXE"},
        {"hop": "first script", "what": f"{boot_url}/boot/ipxe"},
        {"hop": "script", "what": f"{boot_url}/boot/ipxe/{mac}?platform={kind.platform}"},
    ]


def _boot_url(site: Site, subnet: Subnet | SubnetSeen | None) -> str:
    return site.settings.boot if subnet is None else subnet.boot_url or site.settings.boot_in(subnet.cidr)


def _script_hops(decision: BootDecision, media: dict[str, str]) -> list[dict[str, str]]:
    if decision.next_boot is NextBoot.BUILD:
        attempt = "opens an attempt" if decision.opens_attempt else "is the attempt under way"
        return [
            {"hop": "guard", "what": f"admits it: {decision.reason}; fetching the script {attempt}"},
            *({"hop": what, "what": f"SHA-256 {digest}"} for what, digest in media.items()),
            {"hop": "answer", "what": "the sealed answer file, under this attempt's token"},
        ]
    texts = {
        NextBoot.LOCAL: f"its local disk: {decision.reason}",
        NextBoot.HALT: f"a message on the console and a halt: {decision.reason}",
        NextBoot.DISCOVERY: "the discovery script: it shows what it waits for and asks again",
    }
    return [{"hop": "then", "what": texts[decision.next_boot]}]


def _local_hops(site: Site, kind: Firmware, subnet: Subnet | SubnetSeen | None, chosen: Way) -> list[dict[str, str]]:
    if kind.platform == "pcbios":
        return [{"hop": "local boot", "what": f"{chosen.name}: {chosen.bios}"}]
    hops = [{"hop": "local boot", "what": f"{chosen.name}: {chosen.uefi}"}]
    if chosen.loader is not None:
        boot_url = _boot_url(site, subnet)
        there = loaders.find(site, chosen.loader) is not None
        missing = "" if there else "   (it is not there: see `provisioner check`; the firmware's next boot device then)"
        hops.append({"hop": "loader", "what": loader_url(boot_url, chosen.loader) + missing})
    return hops
