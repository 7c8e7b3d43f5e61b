"""dnsmasq's configuration as text: what changes rarely, and the hosts file that it re-reads on SIGHUP."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from provisioner.core.dhcp import DhcpPlan, served
from provisioner.core.dhcpservers.dnsmasq import common_lines, host_lines, subnet_lines
from provisioner.errors import InvalidInput

# dnsmasq's own limit of 1000 leases is less than one site; ranges and reservations bound them anyway.
_MOST_LEASES = 250_000
_SAFE_PATH = re.compile(r"[A-Za-z0-9/._+@=-]+")
_SAFE_WORD = re.compile(r"[A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class Paths:
    """Where the DHCP child keeps its files: one directory below the state directory."""

    directory: Path

    @property
    def config(self) -> Path:
        """The configuration that runs."""
        return self.directory / "dnsmasq.conf"

    @property
    def candidate(self) -> Path:
        """A configuration on its way through the checker."""
        return self.directory / "candidate.conf"

    @property
    def hosts(self) -> Path:
        """The reservations."""
        return self.directory / "hosts"

    @property
    def leases(self) -> Path:
        """dnsmasq's lease database; only dnsmasq writes it while it runs."""
        return self.directory / "leases"

    @property
    def pid(self) -> Path:
        """dnsmasq's process id."""
        return self.directory / "dnsmasq.pid"

    @property
    def proxy(self) -> Path:
        """The subnets that the proxy answers in, for a start without the database."""
        return self.directory / "proxy.json"

    @property
    def status(self) -> Path:
        """How the child fares, for ``provisioner check``."""
        return self.directory / "status.json"


def main_config(plan: DhcpPlan, *, state: Paths, interfaces: Sequence[str], user: str) -> str:
    """Everything except the reservations, as the body of dnsmasq's configuration file.

    ``user`` is whom a dnsmasq started as root becomes. Raises ``InvalidInput``.
    """
    lines = [
        "# Written by Provisioner from its database; changes made here are overwritten.",
        "port=0",
        # Names in /etc/hosts would become addresses of machines that have no reservation.
        "no-hosts",
        f"user={_word(user)}",
        f"pid-file={_path(state.pid)}",
        "log-facility=-",
        "bind-dynamic",
        *(f"interface={_word(name)}" for name in interfaces),
        f"dhcp-hostsfile={_path(state.hosts)}",
        f"dhcp-leasefile={_path(state.leases)}",
        f"dhcp-lease-max={_MOST_LEASES}",
        *common_lines(),
    ]
    for subnet in served(plan).subnets:
        lines += ["", *subnet_lines(subnet)]
    return "\n".join(lines) + "\n"


def hosts_file(plan: DhcpPlan) -> str:
    """The reservations, one a line. Raises ``InvalidInput``."""
    return "".join(line + "\n" for line in host_lines(served(plan).reservations))


def _word(text: str) -> str:
    if not _SAFE_WORD.fullmatch(text):
        raise InvalidInput(f"{text!r} cannot stand in dnsmasq's configuration")
    return text


def _path(path: Path) -> str:
    if not _SAFE_PATH.fullmatch(str(path)):
        raise InvalidInput(
            f"the path {str(path)!r} holds characters that dnsmasq's configuration cannot carry",
            hint="use a state directory of letters, digits, '-', '_' and '.'",
        )
    return str(path)
