"""What DHCP should answer: committed here, carried out by the DHCP child, which acknowledges."""

import json
import os
import time
from dataclasses import dataclass, replace
from typing import cast

from sqlalchemy import select
from sqlalchemy.orm import Session

from provisioner.core.dhcp import DhcpPlan, DhcpRange, DhcpSubnet, Mode, Reservation, validate_proxied, validate_subnet
from provisioner.errors import NotAcknowledged
from provisioner.services.site import Site
from provisioner.settings import bind_address
from provisioner.store.engine import for_update, read, write
from provisioner.store.models import Counter, Interface, Machine, Subnet

WANTED, TAKEN = "dhcp-wanted", "dhcp-taken"


def touch(session: Session) -> None:
    """Note, in the transaction of the change, that DHCP's answers changed."""
    counter = session.get(Counter, WANTED, **for_update(session))
    if counter is None:
        session.add(Counter(name=WANTED, value=1))
        session.flush()
    else:
        counter.value += 1


def generation(site: Site) -> int:
    """The number of the newest change that DHCP should know."""
    with read(site.engine) as session:
        return _value(session, WANTED)


def acknowledge(site: Site, generation: int) -> None:
    """Called by the DHCP child once its daemon answers as of this generation."""
    with write(site.engine) as session:
        counter = session.get(Counter, TAKEN, **for_update(session))
        if counter is None:
            session.add(Counter(name=TAKEN, value=generation))
        else:
            counter.value = generation


def acknowledged(site: Site) -> bool:
    """Whether the DHCP child has taken every change."""
    with read(site.engine) as session:
        return _value(session, TAKEN) >= _value(session, WANTED)


def await_acknowledged(site: Site, subnets: list[str], seconds: float = 10.0) -> None:
    """Wait until the daemon knows every change so far. Raises NotAcknowledged after ``seconds``."""
    wanted = generation(site)
    deadline = time.monotonic() + seconds
    while True:
        with read(site.engine) as session:
            if _value(session, TAKEN) >= wanted:
                return
        if time.monotonic() > deadline:
            raise NotAcknowledged(
                f"DHCP has not yet taken the newest reservations for {', '.join(subnets)}; nothing was armed",
                hint="`provisioner serve` runs the DHCP server of authoritative subnets: is it up? "
                "`provisioner dhcp check` says what it complains about",
            )
        time.sleep(0.05)


def plan(site: Site) -> DhcpPlan:
    """All subnets and reservations as of the newest generation."""
    default_tftp = bind_address(site.settings.tftp_bind)[0]
    with read(site.engine) as session:
        wanted = _value(session, WANTED)
        subnets = list(session.scalars(select(Subnet).order_by(Subnet.id)))
        rows = session.execute(
            select(Interface.mac, Interface.ip, Machine.name, Subnet.name)
            .join(Machine, Interface.machine_id == Machine.id)
            .join(Subnet, Interface.subnet_id == Subnet.id)
            .where(Interface.ip.is_not(None), Interface.mac.is_not(None))
            .order_by(Interface.id)
        ).all()
        return DhcpPlan(
            generation=wanted,
            subnets=tuple(_subnet(site, subnet, default_tftp) for subnet in subnets),
            reservations=tuple(Reservation(mac, ip, name, net) for mac, ip, name, net in rows if ip and mac),
        )


def check_subnet(site: Site, subnet: Subnet) -> None:
    """Raise before commit what our DHCP server could not be told: one bad value would block every later change."""
    told = _subnet(site, subnet, bind_address(site.settings.tftp_bind)[0])
    if subnet.dhcp == "authoritative":
        validate_subnet(told)
    elif subnet.dhcp == "proxy":
        validate_proxied(told)


def external_plan(site: Site, name: str | None = None) -> DhcpPlan:
    """The plan for somebody else's DHCP server: every subnet (or the named one) in which we do not answer."""
    everything = plan(site)
    ours = {"authoritative", "proxy"}
    subnets = [each for each in everything.subnets if each.mode not in ours and name in {None, each.name}]
    names = {each.name for each in subnets}
    return DhcpPlan(
        generation=everything.generation,
        subnets=tuple(replace(each, mode="external") for each in subnets),
        reservations=tuple(each for each in everything.reservations if each.subnet in names),
    )


def proxied(site: Site, name: str | None = None) -> tuple[DhcpSubnet, ...]:
    """The subnets of mode ``proxy``, or the named one if it is one."""
    return tuple(each for each in plan(site).subnets if each.mode == "proxy" and name in {None, each.name})


@dataclass(frozen=True)
class ProxyReport:
    """What the DHCP child's status file says of the proxy; ``running``: the process that wrote it lives."""

    running: bool
    interfaces: tuple[str, ...] = ()
    answers: int = 0
    dropped: int = 0
    error: str = ""
    hint: str = ""


def proxy_report(site: Site) -> ProxyReport:
    """How the proxy fares, read from the status file; not running where there is none."""
    try:
        told = json.loads((site.settings.state_dir / "dhcp" / "status.json").read_text(encoding="utf-8"))["proxy"]
        return ProxyReport(
            running=_lives(int(told["pid"])),
            interfaces=tuple(map(str, told["interfaces"])),
            answers=int(told["answers"]),
            dropped=int(told["dropped"]),
            error=str(told["error"]),
            hint=str(told["hint"]),
        )
    except (OSError, ValueError, TypeError, KeyError):
        return ProxyReport(running=False)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # somebody else's, but there
    return True


def _subnet(site: Site, subnet: Subnet, default_tftp: str) -> DhcpSubnet:
    boot_url = subnet.boot_url or site.settings.boot_in(subnet.cidr)
    everywhere = {"0.0.0.0", "::"}  # noqa: S104
    tftp = default_tftp if default_tftp not in everywhere else _host(boot_url)
    boot_host, boot_port = bind_address(site.settings.boot_bind)
    asked = not (subnet.boot_url or site.settings.boot_url) and boot_host in everywhere
    return DhcpSubnet(
        name=subnet.name,
        cidr=subnet.cidr,
        gateway=subnet.gateway,
        dns=tuple(subnet.dns),
        domain=subnet.domain,
        ranges=tuple(DhcpRange(one["start"], one["end"]) for one in subnet.ranges if one["kind"] == "dynamic"),
        mode=cast("Mode", subnet.dhcp),
        boot_url=boot_url,
        tftp_address=tftp,
        boot_port=boot_port if asked else 0,
        tftp_everywhere=default_tftp in everywhere,
    )


def _host(url: str) -> str:
    return url.split("//", 1)[1].split("/", 1)[0].rpartition(":")[0].strip("[]") or url.split("//", 1)[1]


def _value(session: Session, name: str) -> int:
    return session.scalar(select(Counter.value).where(Counter.name == name)) or 0
