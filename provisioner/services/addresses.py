"""IP addresses: which are free, who holds one, what a subnet's are used for."""

from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from sqlalchemy import ColumnElement, case, delete, func, select, union_all
from sqlalchemy.orm import Session

from provisioner.core.addresses import AddressRange, contains, normal_ip
from provisioner.core.names import FEW, few
from provisioner.core.pools import BLOCK, Pool, blocks, number_of
from provisioner.errors import AddressOutsideSubnet, AddressTaken, InvalidInput, NoAddressFree, TooMany
from provisioner.services import objects
from provisioner.services.site import Actor, Site
from provisioner.store.engine import read, write
from provisioner.store.models import AddressHold, Interface, Machine, Subnet, now

MOST_AT_ONCE = 256
MOST_HELD = 1024
MOST_MINUTES = 24 * 60
MOST_SHOWN = 1000
_HEX = "0123456789abcdef"


def pool(subnet: Subnet) -> Pool:
    """What the subnet gives to machines."""
    ranges = tuple(AddressRange(each["start"], each["end"], each["kind"]) for each in subnet.ranges)
    return Pool(subnet.name, subnet.cidr, subnet.gateway, tuple(subnet.dns), ranges)


def containing(session: Session, ip: str) -> Subnet:
    """The subnet that contains the address. Raises AddressOutsideSubnet."""
    for subnet in session.scalars(select(Subnet)):
        if contains(subnet.cidr, ip):
            return subnet
    known = few([f"{subnet.name} {subnet.cidr}" for subnet in session.scalars(select(Subnet).limit(FEW + 1))])
    raise AddressOutsideSubnet(f"no subnet contains {ip}" + (f"; known: {known}" if known else ""), where="ip")


def next_free(session: Session, subnet: Subnet, count: int = 1, avoid: Collection[str] = ()) -> list[str]:
    """The lowest ``count`` addresses that nobody uses or holds, for a transaction that writes. Raises NoAddressFree.

    Static ranges are given first and last: where there are any, the rest of the subnet is not handed out. ``avoid``
    is what the same transaction gives away before it is written.
    """
    found = list(islice((ip for ip in _free(session, subnet) if ip not in avoid), count))
    if len(found) == count:
        return found
    space = "its static ranges" if any(each["kind"] == "static" for each in subnet.ranges) else "it"
    raise NoAddressFree(
        f"subnet {subnet.name} ({subnet.cidr}) has {len(found)} addresses free in {space}, {count} are asked for",
        hint=f"see `provisioner subnet show {subnet.name}`; give it another static range, or free addresses of retired "
        "machines",
    )


def some_free(session: Session, subnet: str, count: int, avoid: Collection[str] = ()) -> list[str]:
    """As many free addresses of the subnet of this name as there are, at most ``count``. Raises NotFound."""
    found = (ip for ip in _free(session, objects.get(session, Subnet, subnet)) if ip not in avoid)
    return list(islice(found, count))


def take(session: Session, actor: Actor, ip: str, subnet: Subnet) -> None:
    """A machine is given this very address: a hold of the same caller is used up.

    Raises AddressTaken when somebody else holds it, AddressOutsideSubnet when the subnet does not give it.
    """
    pool(subnet).refuse(ip)
    held = session.get(AddressHold, ip)
    if held is None:
        return
    if held.until > now() and held.holder != actor.who:
        raise AddressTaken(
            f"{ip} is held for {held.holder} until {held.until:%H:%M:%S} UTC",
            hint=f"`provisioner subnet free {subnet.name}` shows one that is free",
        )
    session.delete(held)


def hold(site: Site, actor: Actor, subnet: str, count: int = 1, minutes: int = 10) -> list[str]:
    """Hand out free addresses, kept for the caller: nobody else is given one, until a machine uses it or it lapses.

    Raises NotFound, NoAddressFree, InvalidInput, and TooMany for more than ``MOST_HELD`` by one caller.
    """
    _refuse_beyond(count, MOST_AT_ONCE, "count")
    _refuse_beyond(minutes, MOST_MINUTES, "minutes")
    with write(site.engine) as session:
        found = objects.get(session, Subnet, subnet)
        session.execute(delete(AddressHold).where(AddressHold.until <= now()))
        mine = session.scalar(select(func.count()).select_from(AddressHold).where(AddressHold.holder == actor.who)) or 0
        if mine + count > MOST_HELD:
            raise TooMany(
                f"{actor.who} holds {mine} addresses; with {count} more that would be over {MOST_HELD}",
                hint="add the machines that they are for, or wait until the holds lapse",
            )
        given = next_free(session, found, count)
        until = now() + timedelta(minutes=minutes)
        session.add_all(AddressHold(ip=ip, subnet_id=found.id, until=until, holder=actor.who) for ip in given)
        return given


def free(site: Site, subnet: str, count: int = 1) -> list[str]:
    """Addresses that are free at this moment, kept for nobody. Raises NotFound, NoAddressFree, InvalidInput."""
    _refuse_beyond(count, MOST_AT_ONCE, "count")
    with read(site.engine) as session:
        return next_free(session, objects.get(session, Subnet, subnet), count)


def overview(site: Site, subnet: str, limit: int = 100, cursor: str | None = None) -> dict[str, Any]:
    """What the addresses of a subnet are used for.

    ``counts`` by kind (see :meth:`core.pools.Pool.sizes`); ``used`` in the order of the addresses, ``limit`` of them
    after ``cursor``; ``next`` is the cursor of the page after it, or None.
    """
    _refuse_beyond(limit, MOST_SHOWN, "limit")
    with read(site.engine) as session:
        found = objects.get(session, Subnet, subnet)
        used = session.scalars(select(Interface.ip).where(Interface.subnet_id == found.id, Interface.ip.is_not(None)))
        numbers = sorted(number_of(ip) for ip in used if ip)
        holds = session.scalars(select(AddressHold).where(AddressHold.subnet_id == found.id, AddressHold.until > now()))
        held = sorted(holds, key=lambda each: number_of(each.ip))
        space = pool(found)
        begin = bisect_right(numbers, _after(cursor))
        page = [space.text(each) for each in numbers[begin : begin + limit]]
        return {
            "subnet": found.name,
            "cidr": found.cidr,
            "ranges": list(found.ranges),
            "counts": space.sizes(numbers, (number_of(each.ip) for each in held)),
            "held": [{"ip": each.ip, "holder": each.holder, "until": _moment(each.until)} for each in held[:limit]],
            "used": _owners(session, page),
            "next": page[-1] if page and begin + limit < len(numbers) else None,
        }


def used_numbers(session: Session, subnet: Subnet) -> list[tuple[int, str]]:
    """All addresses in use there as numbers, each with its machine's name."""
    rows = session.execute(
        select(Interface.ip, Machine.name)
        .join(Machine, Interface.machine_id == Machine.id)
        .where(Interface.subnet_id == subnet.id, Interface.ip.is_not(None))
    )
    return [(number_of(ip), name) for ip, name in rows if ip]


def _free(session: Session, subnet: Subnet) -> Iterator[str]:
    """Free addresses in ascending order.

    Block by block; after the first that had none, one statement says which blocks are full, and those are left out: a
    subnet of many thousand machines costs one pass over its index, and no list of its addresses.
    """
    space = pool(subnet)
    first = next(blocks(space.given), None)
    if first is None:
        return
    yield from _free_in(session, space, *first)
    for start, end in blocks(space.given, _full(session, subnet)):
        if start != first[0]:
            yield from _free_in(session, space, start, end)


def _free_in(session: Session, space: Pool, start: int, end: int) -> Iterator[str]:
    candidates = [space.text(number) for number in range(start, end + 1)]
    busy = set(session.scalars(select(Interface.ip).where(Interface.ip.in_(candidates))))
    held = select(AddressHold.ip).where(AddressHold.ip.in_(candidates), AddressHold.until > now())
    busy |= set(session.scalars(held))
    return (ip for ip in candidates if ip not in busy)


def _full(session: Session, subnet: Subnet) -> Iterable[int]:
    """The blocks of 256 in which every address is used or held, by number."""
    mine = select(Interface.ip.label("ip")).where(Interface.subnet_id == subnet.id, Interface.ip.is_not(None))
    held = select(AddressHold.ip.label("ip")).where(AddressHold.subnet_id == subnet.id, AddressHold.until > now())
    busy = union_all(mine, held).subquery()
    block = _block(busy.c.ip, 6 if ":" in subnet.cidr else 4)
    # Of each group any address will do, since all have the same leading bits.
    rows = session.execute(select(func.min(busy.c.ip)).group_by(block).having(func.count() >= BLOCK))
    return [number_of(ip) // BLOCK for (ip,) in rows]


def _block(ip: ColumnElement[Any], version: int) -> ColumnElement[Any]:
    """The text of an address without what its last eight bits are written as."""
    if version == 4:
        return func.rtrim(ip, "0123456789")
    stem, short = func.length(func.rtrim(ip, _HEX)), func.length(ip) - 2
    return func.substr(ip, 1, case((short > stem, short), else_=stem))


def _owners(session: Session, page: list[str]) -> list[dict[str, Any]]:
    rows = session.execute(
        select(Interface.ip, Interface.mac, Interface.name, Machine.name)
        .join(Machine, Interface.machine_id == Machine.id)
        .where(Interface.ip.in_(page))
    )
    owners = {ip: {"ip": ip, "machine": machine, "interface": name, "mac": mac} for ip, mac, name, machine in rows}
    return [owners[ip] for ip in page if ip in owners]


def _after(cursor: str | None) -> int:
    return -1 if cursor is None else number_of(normal_ip(cursor))


def _moment(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")


def _refuse_beyond(value: int, most: int, what: str) -> None:
    if not 1 <= value <= most:
        raise InvalidInput(f"{value} is not a {what}", where=what, hint=f"give a number from 1 to {most}")
