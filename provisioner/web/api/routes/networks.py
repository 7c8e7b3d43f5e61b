"""Subnets, their addresses, and machines in quarantine."""

from typing import Any

from provisioner.errors import (
    AddressOutsideSubnet,
    AddressTaken,
    MalformedAddress,
    NameTaken,
    NoAddressFree,
    StillInUse,
    TooMany,
)
from provisioner.services import addresses, listing, quarantine, subnets
from provisioner.web.api.operations import Call, Operations
from provisioner.web.api.shapes.common import PageQuery, Rename
from provisioner.web.api.shapes.explained import AddressesView
from provisioner.web.api.shapes.networks import (
    AddressesQuery,
    DiscoveryPage,
    DiscoveryQuery,
    FreeQuery,
    FreeView,
    HoldBody,
    HoldView,
    SubnetBody,
    SubnetChange,
    SubnetPage,
    SubnetView,
)

operations = Operations()
_WRITES = (MalformedAddress, AddressOutsideSubnet, AddressTaken)


@operations.add("GET", "/subnets", noun="subnets", query=PageQuery, answer=SubnetPage)
def list_subnets(call: Call) -> Any:
    """List subnets."""
    return listing.page(call.site, "subnets", **call.query.given())


@operations.add(
    "POST", "/subnets", noun="subnets", body=SubnetBody, answer=SubnetView, status=201, errors=(NameTaken, *_WRITES)
)
def add_subnet(call: Call) -> Any:
    """Add a subnet."""
    fields = call.body.given()
    return subnets.add(call.site, call.actor, fields.pop("name"), fields.pop("cidr"), fields)


@operations.add("GET", "/subnets/{name}", noun="subnets", answer=SubnetView)
def show_subnet(call: Call) -> Any:
    """Show a subnet."""
    return subnets.show(call.site, call.names["name"])


@operations.add(
    "PATCH", "/subnets/{name}", noun="subnets", body=SubnetChange, answer=SubnetView, match=True, errors=_WRITES
)
def change_subnet(call: Call) -> Any:
    """Change a subnet: the fields that are sent."""
    return subnets.edit(call.site, call.actor, call.names["name"], call.body.given(), expect=call.expect)


@operations.add("DELETE", "/subnets/{name}", noun="subnets", match=True, errors=(StillInUse,))
def remove_subnet(call: Call) -> None:
    """Remove a subnet that no interface is in."""
    subnets.remove(call.site, call.actor, call.names["name"], expect=call.expect)


@operations.add(
    "POST", "/subnets/{name}:rename", noun="subnets", body=Rename, answer=SubnetView, match=True, errors=(NameTaken,)
)
def rename_subnet(call: Call) -> Any:
    """Give a subnet another name."""
    return subnets.rename(call.site, call.actor, call.names["name"], call.body.name, expect=call.expect)


@operations.add("GET", "/subnets/{name}/addresses", noun="subnets", query=AddressesQuery, answer=AddressesView)
def list_addresses(call: Call) -> Any:
    """How many addresses are used, free, reserved and dynamic, and who has the used ones."""
    return addresses.overview(call.site, call.names["name"], **call.query.given())


@operations.add(
    "GET", "/subnets/{name}/free", noun="subnets", query=FreeQuery, answer=FreeView, errors=(NoAddressFree,)
)
def list_free_addresses(call: Call) -> Any:
    """The next free addresses, kept for nobody: see `:hold`."""
    return {"addresses": addresses.free(call.site, call.names["name"], call.query.count)}


@operations.add(
    "POST", "/subnets/{name}:hold", noun="machines", body=HoldBody, answer=HoldView, errors=(NoAddressFree, TooMany)
)
def hold_addresses(call: Call) -> Any:
    """Take the next free addresses: nobody else gets them for a while, a machine may use them.

    To give a machine the next free address in one step, add it with the address `next` instead.
    """
    body = call.body
    return {"addresses": addresses.hold(call.site, call.actor, call.names["name"], body.count, body.minutes)}


@operations.add("GET", "/discoveries", noun="discoveries", query=DiscoveryQuery, answer=DiscoveryPage)
def list_discoveries(call: Call) -> Any:
    """List machines that nobody registered, the latest seen first."""
    return listing.page(call.site, "discoveries", **call.query.given())


@operations.add("DELETE", "/discoveries/{mac}", noun="discoveries")
def remove_discovery(call: Call) -> None:
    """Forget a machine in quarantine; it comes back when it asks again."""
    quarantine.forget(call.site, call.names["mac"])
