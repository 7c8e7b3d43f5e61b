"""What DHCP should answer: committed here, carried out by the DHCP child, which acknowledges."""

import time
from dataclasses import replace
from typing import cast

from sqlalchemy import select
from sqlalchemy.orm import Session

from provisioner.core.dhcp import DhcpPlan, DhcpRange, DhcpSubnet, Mode, Reservation, validate_subnet
from provisioner.errors import NotAcknowledged
from provisioner.services.site import Site
from provisioner.settings import bind_address
from provisioner.store.engine import for_update, read, write
from provisioner.store.models import Counter, Interface, Machine, Subnet

_WANTED, _TAKEN = "dhcp-wanted", "dhcp-taken"


def touch(session: Session) -> None:
    """Note, in the transaction of the change, that DHCP's answers changed."""
    counter = session.get(Counter, _WANTED, **for_update(session))
    if counter is None:
        session.add(Counter(name=_WANTED, value=1))
        session.flush()
    else:
        counter.value += 1


def generation(site: Site) -> int:
    """The number of the newest change that DHCP should know."""
    with read(site.engine) as session:
        return _value(session, _WANTED)


def acknowledge(site: Site, generation: int) -> None:
    """Called by the DHCP child once its daemon answers as of this generation."""
    with write(site.engine) as session:
        counter = session.get(Counter, _TAKEN, **for_update(session))
        if counter is None:
            session.add(Counter(name=_TAKEN, value=generation))
        else:
            counter.value = generation


def acknowledged(site: Site) -> bool:
    """Whether the DHCP child has taken every change."""
    with read(site.engine) as session:
        return _value(session, _TAKEN) >= _value(session, _WANTED)


def await_acknowledged(site: Site, subnets: list[str], seconds: float = 10.0) -> None:
    """Wait until the daemon knows every change so far. Raises NotAcknowledged after ``seconds``."""
    wanted = generation(site)
    deadline = time.monotonic() + seconds
    while True:
        with read(site.engine) as session:
            if _value(session, _TAKEN) >= wanted:
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
        wanted = _value(session, _WANTED)
        subnets = list(session.scalars(select(Subnet).order_by(Subnet.id)))
        rows = session.execute(
            select(Interface.mac, Interface.ip, Machine.name, Subnet.name)
            .join(Machine, Interface.machine_id == Machine.id)
            .join(Subnet, Interface.subnet_id == Subnet.id)
            .where(Interface.ip.is_not(None))
            .order_by(Interface.id)
        ).all()
        return DhcpPlan(
            generation=wanted,
            subnets=tuple(_subnet(site, subnet, default_tftp) for subnet in subnets),
            reservations=tuple(Reservation(mac, ip, name, net) for mac, ip, name, net in rows if ip),
        )


def check_subnet(site: Site, subnet: Subnet) -> None:
    """Raise before commit what our DHCP server could not be told: one bad value would block every later change."""
    if subnet.dhcp == "authoritative":
        validate_subnet(_subnet(site, subnet, bind_address(site.settings.tftp_bind)[0]))


def external_plan(site: Site, name: str | None = None) -> DhcpPlan:
    """The plan for somebody else's DHCP server: every subnet (or the named one) that ours does not serve."""
    everything = plan(site)
    subnets = [each for each in everything.subnets if each.mode != "authoritative" and name in {None, each.name}]
    names = {each.name for each in subnets}
    return DhcpPlan(
        generation=everything.generation,
        subnets=tuple(replace(each, mode="external") for each in subnets),
        reservations=tuple(each for each in everything.reservations if each.subnet in names),
    )


def _subnet(site: Site, subnet: Subnet, default_tftp: str) -> DhcpSubnet:
    boot_url = subnet.boot_url or site.settings.boot
    tftp = default_tftp if default_tftp not in {"0.0.0.0", "::"} else _host(boot_url)  # noqa: S104
    return DhcpSubnet(
        name=subnet.name,
        cidr=subnet.cidr,
        gateway=subnet.gateway,
        dns=tuple(subnet.dns),
        domain=subnet.domain,
        ranges=tuple(DhcpRange(*text.split("-")) for text in subnet.ranges),
        mode=cast("Mode", subnet.dhcp),
        boot_url=boot_url,
        tftp_address=tftp,
    )


def _host(url: str) -> str:
    return url.split("//", 1)[1].split("/", 1)[0].rpartition(":")[0].strip("[]") or url.split("//", 1)[1]


def _value(session: Session, name: str) -> int:
    return session.scalar(select(Counter.value).where(Counter.name == name)) or 0
