"""The shapes of what is worked out for a machine or subnet: renderings, boot chains, effective values, addresses."""

from typing import Any, Literal

from pydantic import ConfigDict, Field

from provisioner.web.api.shapes.common import Moment, View
from provisioner.web.api.shapes.networks import DiscoveryView, RangeView


class RenderView(View):
    """The files of a machine, tokens masked."""

    machine: str = Field(description="its name then")
    files: dict[str, str] = Field(description="each file's text, by its name in the build")
    source: Literal["now", "build", "revisions"] = Field(
        description="as a build started now would be; sealed files of a build; or from the objects of a moment",
        examples=["now"],
    )
    because: str = Field(description="why from there", examples=["as a build started now would be sealed"])
    build: int | None = Field(description="the number of the build whose sealed files these are", examples=[3])
    as_of: Moment | None = Field(description="the moment; null is now")


class ValueView(View):
    """An effective value."""

    what: Literal["parameter", "kernel option", "removed kernel option", "field"]
    name: str = Field(description="empty for kernel options", examples=["timezone"])
    value: Any = Field(examples=["Europe/Berlin"])
    source: str = Field(description="where it came from", examples=["profile rocky9-web"])
    overrides: list[str] = Field(description="what also has one and does not count", examples=[["profile rocky9"]])


class ExplainView(View):
    """Each effective value of a machine, and where it came from."""

    machine: str
    values: list[ValueView]


class HopView(View):
    """A step of a network boot."""

    hop: str = Field(examples=["TFTP"])
    what: str = Field(examples=["snponly.efi, unless the network card's own ROM is iPXE"])


class BootView(View):
    """The whole chain that a firmware would get."""

    model_config = ConfigDict(extra="forbid", serialize_by_alias=True)
    mac: str
    machine: str | None = Field(description="null: nobody registered it")
    firmware: str = Field(examples=["uefi"])
    source: str | None = Field(alias="from", description="the address that it would ask from")
    decision: Literal["discovery", "local", "build", "halt"]
    because: str = Field(examples=["build 3 is armed"])
    hops: list[HopView]
    recorded: DiscoveryView | None = Field(description="what the quarantine holds of this MAC")


class CountsView(View):
    """How many addresses there are of each kind."""

    total: int = Field(examples=[256])
    used: int = Field(examples=[40])
    free: int = Field(examples=[50])
    held: int = Field(description="kept for callers of `:hold`", examples=[0])
    static: int = Field(examples=[90])
    dynamic: int = Field(examples=[100])
    reserved: int = Field(description="with network, broadcast, gateway and DNS servers", examples=[24])


class HeldView(View):
    """An address that is kept for somebody."""

    ip: str
    holder: str = Field(examples=["ada"])
    until: Moment


class UsedView(View):
    """An address that a machine has."""

    ip: str
    machine: str
    interface: str = Field(examples=["eth0"])
    mac: str | None


class AddressesView(View):
    """What the addresses of a subnet are used for."""

    subnet: str
    cidr: str
    ranges: list[RangeView]
    counts: CountsView
    held: list[HeldView]
    used: list[UsedView] = Field(description="in the order of the addresses")
    next: str | None = Field(description="the cursor of the next page, or null", examples=[None])


class HostVariables(View):
    """A machine's variables: its parameters under their own names, and `ansible_host` where it has an address."""

    model_config = ConfigDict(extra="allow")
    provisioner: dict[str, Any] = Field(
        description="state, profile, interfaces, tags, serial number; what Ansible would evaluate is marked unsafe",
        examples=[{"name": "web01", "state": "ready", "profile": "rocky9"}],
    )


class HostsMeta(View):
    """The variables of all hosts."""

    hostvars: dict[str, HostVariables]


class HostGroup(View):
    """Hosts that have something in common."""

    hosts: list[str]


class GroupOfGroups(View):
    """Groups of one kind."""

    children: list[str]


class AllHosts(View):
    """Everything."""

    hosts: list[str]
    children: list[str]


class AnsibleInventory(View):
    """What inventory scripts answer to `--list`: besides these, a group for each profile, state, subnet and tag."""

    model_config = ConfigDict(extra="allow", serialize_by_alias=True)
    __pydantic_extra__: dict[str, HostGroup]
    meta: HostsMeta = Field(alias="_meta")
    all: AllHosts
    profiles: GroupOfGroups
    states: GroupOfGroups
    subnets: GroupOfGroups
    tags: GroupOfGroups
