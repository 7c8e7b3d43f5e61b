"""What to configure on a DHCP server that is not ours, for one network."""

from typing import Any

from flask import Response

from provisioner.core.dhcpservers.external import SERVERS, Server, external_config
from provisioner.errors import InvalidInput, NotFound, ProvisionerError
from provisioner.services import dhcp
from provisioner.services.site import Site
from provisioner.web.ui.pages import Pages, Visit

pages = Pages()
_TITLES: dict[Server, str] = {"isc": "ISC dhcpd", "kea": "Kea", "dnsmasq": "dnsmasq", "windows": "Windows Server"}
_FILES: dict[Server, str] = {
    "isc": "dhcpd.conf",
    "kea": "kea-dhcp4.conf",
    "dnsmasq": "provisioner.conf",
    "windows": "provisioner.ps1",
}
_FEW = 200
"""So many machines' addresses are part of what is shown unless somebody says otherwise."""


@pages.get("/networks/<name>/dhcp", "subnets")
def show(visit: Visit, name: str) -> Response:
    """The configuration for one kind of server: a part of the subnet's page, or the file with ``format=text``."""
    told = configuration(visit.site, name, visit.arg("server"), visit.arg("reservations"))
    if told is None:
        raise NotFound(f"no other server's DHCP is expected in {name}", hint="set the subnet's DHCP to external")
    if visit.arg("format") == "text" and told["error"] is None:
        headers = {"Content-Disposition": f'attachment; filename="{told["file"]}"'}
        return Response(told["text"], content_type="text/plain; charset=utf-8", headers=headers)
    template = "networks/parts/otherdhcp.html" if visit.is_fragment else "networks/dhcp.html"
    return visit.render(template, name=name, other=told)


def configuration(site: Site, name: str, server: str = "", reservations: str = "") -> dict[str, Any] | None:
    """What the page shows; None where DHCP is ours. ``reservations`` is yes, no, or empty: yes if they are few.

    Raises InvalidInput for a server that we write nothing for.
    """
    chosen = next((each for each in SERVERS if each == (server or SERVERS[0])), None)
    if chosen is None:
        raise InvalidInput(f"{server[:40]!r} is no DHCP server", where="server", hint=f"one of {', '.join(SERVERS)}")
    plan = dhcp.external_plan(site, name)
    if not plan.subnets:
        return None
    machines = len(plan.reservations)
    with_them = reservations == "yes" or (reservations != "no" and machines <= _FEW)
    told: dict[str, Any] = {"server": chosen, "titles": _TITLES, "file": _FILES[chosen], "error": None, "text": ""}
    told |= {"machines": machines, "with_them": with_them and machines > 0}
    try:
        told["text"] = external_config(plan, chosen, reservations=with_them)
    except ProvisionerError as error:
        told["error"] = error
    return told
