"""`boot explain`: the whole chain that a firmware would get, and what decided."""

from typing import Any

from provisioner.core.addresses import contains, looks_like_mac, normal_mac
from provisioner.core.bootplan import BootDecision, decide
from provisioner.core.firmware import Firmware, firmware
from provisioner.core.lifecycle import NextBoot
from provisioner.services.boot import facts, look
from provisioner.services.machines import find
from provisioner.services.site import Site
from provisioner.store.engine import read
from provisioner.store.models import Subnet, now


def boot(site: Site, name: str, arch: str, source: str | None = None) -> dict[str, Any]:
    """Each hop of a network boot of this MAC (or machine) now, with this firmware, from its assigned address.

    Nothing is written: no attempt is opened.
    """
    kind = firmware(arch)
    with read(site.engine) as session:
        mac = normal_mac(name) if looks_like_mac(name) else find(session, name).interfaces[0].mac
        world = look(session, mac)
        address = source or next((ip for ip in world.assigned), "")
        decision = decide(facts(world, address, now()))
        subnet = next((each for each in world.subnets if address and contains(each.cidr, address)), None)
        media = world.build.sealed["media"] if world.build is not None else {}
        hops = [*_loader_hops(site, kind, subnet, mac, address), *_script_hops(kind, decision, media)]
    return {
        "mac": mac,
        "machine": world.machine.name if world.machine else None,
        "firmware": kind.name,
        "from": address or None,
        "decision": decision.next_boot.value,
        "because": decision.reason,
        "hops": hops,
    }


def _loader_hops(site: Site, kind: Firmware, subnet: Subnet | None, mac: str, address: str) -> list[dict[str, str]]:
    boot_url = (subnet.boot_url if subnet else "") or site.settings.boot
    if subnet is None:
        dhcp = "no subnet of ours: whatever DHCP server answers there decides"
    elif subnet.dhcp == "authoritative":
        dhcp = f"our dnsmasq: address {address}, loader {kind.loader}, for iPXE {boot_url}/boot/ipxe"
    else:
        dhcp = f"subnet {subnet.name} has DHCP {subnet.dhcp}: another server must name {kind.loader}; see `dhcp show`"
    return [
        {"hop": "DHCP", "what": dhcp},
        {"hop": "TFTP", "what": f"{kind.loader}, unless the network card's own ROM is iPXE"},
        {"hop": "first script", "what": f"{boot_url}/boot/ipxe"},
        {"hop": "script", "what": f"{boot_url}/boot/ipxe/{mac}?platform={kind.platform}"},
    ]


def _script_hops(kind: Firmware, decision: BootDecision, media: dict[str, str]) -> list[dict[str, str]]:
    if decision.next_boot is NextBoot.BUILD:
        attempt = "opens an attempt" if decision.opens_attempt else "is the attempt under way"
        return [
            {"hop": "guard", "what": f"admits it: {decision.reason}; fetching the script {attempt}"},
            *({"hop": what, "what": f"SHA-256 {digest}"} for what, digest in media.items()),
            {"hop": "answer", "what": "the sealed answer file, under this attempt's token"},
        ]
    texts = {
        NextBoot.LOCAL: "sanboot of the first disk" if kind.platform == "pcbios" else "exit to the next boot option",
        NextBoot.HALT: f"a message on the console and a halt: {decision.reason}",
        NextBoot.DISCOVERY: "the discovery script: it shows what it waits for and asks again",
    }
    return [{"hop": "then", "what": texts[decision.next_boot]}]
