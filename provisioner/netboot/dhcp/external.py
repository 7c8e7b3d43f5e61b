"""The configuration for a DHCP server that somebody else runs, to copy and paste."""

from collections.abc import Callable
from typing import Literal

from provisioner.core.dhcp import DhcpPlan, Served, served
from provisioner.netboot.dhcp.checker import check
from provisioner.netboot.dhcp.dnsmasq import common_lines, host_lines, subnet_lines
from provisioner.netboot.dhcp.isc import isc_config
from provisioner.netboot.dhcp.kea import kea_config
from provisioner.netboot.dhcp.windows import windows_config

__all__ = ["Server", "check", "external_config"]

Server = Literal["isc", "kea", "dnsmasq", "windows"]


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
        "dnsmasq": _dnsmasq_config,
        "windows": windows_config,
    }
    return writers[server](ours)


def _dnsmasq_config(ours: Served) -> str:
    lines = [
        "# For dnsmasq: put this into /etc/dnsmasq.d/provisioner.conf, try it with `dnsmasq --test`, restart dnsmasq.",
        "# Two stages: a plain ROM gets iPXE by TFTP from Provisioner; iPXE gets the URL of its script.",
        "",
        *common_lines(),
    ]
    for subnet in ours.subnets:
        lines += ["", f"# subnet {subnet.name}", *subnet_lines(subnet)]
        own = [one for one in ours.reservations if one.subnet == subnet.name]
        lines += [f"dhcp-host={line}" for line in host_lines(own)]
    return "\n".join(lines) + "\n"
