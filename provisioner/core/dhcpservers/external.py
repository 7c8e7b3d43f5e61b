"""The configuration for a DHCP server that somebody else runs, to copy and paste."""

from collections.abc import Callable
from typing import Literal, get_args

from provisioner.core.dhcp import DhcpPlan, Served, served
from provisioner.core.dhcpservers.dnsmasq import dnsmasq_config
from provisioner.core.dhcpservers.isc import isc_config
from provisioner.core.dhcpservers.kea import kea_config
from provisioner.core.dhcpservers.windows import windows_config

Server = Literal["isc", "kea", "dnsmasq", "windows"]
SERVERS: tuple[Server, ...] = get_args(Server)


def external_config(plan: DhcpPlan, server: Server, *, reservations: bool = True) -> str:
    """What to configure for the plan's subnets of mode ``external``, as ``server`` wants it written.

    With ``reservations`` the machines' addresses are part of it. Raises ``InvalidInput`` or one of its kinds.
    """
    ours = served(plan, "external")
    if not reservations:
        ours = Served(ours.subnets, (), ())
    writers: dict[Server, Callable[[Served], str]] = {
        "isc": isc_config,
        "kea": kea_config,
        "dnsmasq": dnsmasq_config,
        "windows": windows_config,
    }
    return writers[server](ours)
