"""The shapes of subnets, their addresses, and machines in quarantine."""

from typing import Annotated, Any, Literal

from pydantic import Field

from provisioner.web.api.shapes.common import (
    Body,
    Count,
    Name,
    NextPage,
    PageQuery,
    Parameters,
    Query,
    Revision,
    View,
)
from provisioner.web.api.shapes.radius import Rehearsable

Address = Annotated[str, Field(max_length=64, examples=["10.0.2.1"])]
Mode = Literal["off", "authoritative", "proxy", "external"]
OptionalUrl = Annotated[str, Field(max_length=255, pattern="^(https?://[!-~]+)?$")]


class RangeBody(Body):
    """Addresses `start` to `end`, both included, and what they are for."""

    kind: Literal["static", "dynamic", "reserved"] = Field(
        description="static: machines get the next free one here; dynamic: DHCP gives them to machines nobody "
        "registered; reserved: nobody gets them from us"
    )
    start: Address
    end: Address


class SubnetChange(Body):
    """What of a subnet can be changed; what is left out stays."""

    gateway: Address | None = None
    dns: list[Address] = Field(default=[], max_length=16)
    domain: Annotated[str, Field(max_length=253)] | None = Field(None, examples=["lab.example.com"])
    dhcp: Mode = "off"
    ranges: list[RangeBody] = Field(default=[], max_length=64)
    boot_url: OptionalUrl = Field("", description="the boot plane's URL as machines there reach it")
    media_url: OptionalUrl = ""
    parameters: Parameters = Field(default={})


class SubnetBody(SubnetChange):
    """A subnet to add."""

    name: Name = Field(examples=["lab"])
    cidr: Address = Field(examples=["10.0.2.0/24"])


class RangeView(View):
    """A range."""

    kind: Literal["static", "dynamic", "reserved"]
    start: str
    end: str


class SubnetView(Rehearsable):
    """A subnet."""

    name: str
    cidr: str
    gateway: str | None
    dns: list[str]
    domain: str | None
    dhcp: Mode
    ranges: list[RangeView]
    boot_url: str
    media_url: str
    parameters: dict[str, Any]
    revision: Revision


class SubnetPage(View):
    """Some subnets."""

    items: list[SubnetView]
    next: NextPage


class AddressesQuery(Query):
    """Which used addresses."""

    limit: Count = Field(100, ge=1, le=500, description="how many at most")
    cursor: str | None = Field(None, max_length=1000, description="the `next` of the page before")


class FreeQuery(Query):
    """How many free addresses."""

    count: Count = Field(1, ge=1, le=256, description="how many")


class FreeView(View):
    """Free addresses."""

    addresses: list[str]


class HoldBody(Body):
    """How many free addresses to keep, and for how long."""

    count: int = Field(1, ge=1, le=256)
    minutes: int = Field(10, ge=1, le=1440)


class HoldView(View):
    """Addresses that nobody else gets meanwhile."""

    addresses: list[str]


class DiscoveryView(View):
    """A machine that nobody registered and that asked for its script."""

    mac: str
    serial: str | None
    uuid: str | None
    vendor: str | None
    product: str | None
    address: str
    first_seen: str
    last_seen: str
    times: int
    conflict: str
    facts: dict[str, Any]


class DiscoveryPage(View):
    """Some machines in quarantine, the latest seen first."""

    items: list[DiscoveryView]
    next: NextPage


class DiscoveryQuery(PageQuery):
    """Which machines in quarantine."""

    q: str | None = Field(None, max_length=200, description="a part of serial, UUID or address, or a MAC")
