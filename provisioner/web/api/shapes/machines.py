"""The shapes of machines."""

from typing import Annotated, Any, Literal

from pydantic import Field

from provisioner.web.api.shapes.common import (
    Body,
    Flag,
    Name,
    NextPage,
    PageQuery,
    Parameters,
    Query,
    Revision,
    Text,
    View,
    Word,
)
from provisioner.web.api.shapes.radius import Rehearsable

Mac = Annotated[str, Field(max_length=80, description="in any spelling", examples=["52:54:00:12:34:56"])]
MachineState = Literal["discovered", "ready", "building", "built", "configured", "failed", "retired"]


class InterfaceBody(Body):
    """An interface as somebody writes it."""

    mac: Mac | None = None
    ip: Annotated[str, Field(max_length=64)] | None = Field(
        None, description="its address; `next` takes the next free one of the subnet", examples=["10.0.2.11"]
    )
    name: Word | None = Field(None, examples=["eth0"])
    subnet: Word | None = Field(None, description="follows from the address unless given", examples=["lab"])


class MachineChange(Body):
    """What of a machine can be changed; what is left out stays."""

    interfaces: list[InterfaceBody] = Field(default=[], max_length=64, description="replaces all interfaces")
    profile: Word | None = Field(None, description="what to build", examples=["rocky9"])
    description: Text = Field("", description="for people")
    parameters: Parameters = Field(default={})
    kernel_options: list[Word] = Field(default=[], max_length=64, examples=[["console=ttyS0,115200n8"]])
    tags: list[Word] = Field(default=[], max_length=64, examples=[["rack-12"]])
    serial: Word | None = Field(None, description="as SMBIOS tells it", examples=["CZ1234567"])
    uuid: Word | None = Field(None, description="as SMBIOS tells it", examples=["4c4c4544-0051-4410-8053-b4c04f4d3632"])
    inventory: Word | None = Field(None, description="what an inventory calls it", examples=["netbox/17"])
    local_boot: Word | None = Field(None, description="how its firmware gets to the disk; null: its profile's way")
    protected: bool = Field(False, description="no build, no wipe, no power-off")
    retired: bool = Field(False, description="out of service: it boots its disk")
    ready: bool = Field(False, description="true: a discovered machine stops waiting and boots its disk")


class MachineBody(MachineChange):
    """A machine to add."""

    name: Name = Field(examples=["web01"])


class MachineUpsert(MachineChange):
    """A machine as an inventory knows it: added, or brought up to date."""

    name: Name | None = Field(None, examples=["web01"])


class InterfaceView(View):
    """An interface."""

    name: str
    mac: str | None
    ip: str | None
    subnet: str | None


class MachineView(Rehearsable):
    """A machine."""

    name: str = Field(examples=["web01"])
    state: MachineState
    retired: bool
    protected: bool
    description: str
    profile: str | None
    interfaces: list[InterfaceView]
    parameters: dict[str, Any]
    kernel_options: list[str]
    tags: list[str]
    local_boot: str | None
    serial: str | None
    uuid: str | None
    inventory: str | None
    secrets: dict[str, str] = Field(description="which secrets it has, and since when; never their values")
    flag: str = Field(description="why somebody should look at it; empty when nobody need")
    facts: dict[str, Any] = Field(description="what it said of itself")
    revision: Revision
    created_at: str
    updated_at: str


class MachinePage(View):
    """Some machines."""

    items: list[MachineView]
    next: NextPage


class MachineRow(Rehearsable):
    """Machines that were added together."""

    items: list[MachineView]


class MachineQuery(PageQuery):
    """Which machines."""

    q: str | None = Field(
        None, max_length=200, description="a part of name, serial, UUID, address or MAC", examples=["52-54"]
    )
    state: MachineState | None = Field(None, description="its state", examples=["ready"])
    profile: str | None = Field(None, max_length=64, description="its profile", examples=["rocky9"])
    subnet: str | None = Field(None, max_length=64, description="where it has an interface", examples=["lab"])
    tag: str | None = Field(None, max_length=64, description="a tag it has", examples=["rack-12"])
    protected: Flag = Field(None, description="whether it is protected", examples=["true"])
    flagged: Flag = Field(None, description="whether somebody should look at it", examples=["true"])


class AnsibleQuery(Query):
    """Which machines Ansible is told of."""

    retired: Flag = Field(None, description="retired machines too", examples=["false"])


class AsOf(Query):
    """How it was then."""

    as_of: str | None = Field(
        None, max_length=40, description="a date or moment: the object as it was then", examples=["2026-10-01"]
    )


class BootQuery(Query):
    """For which firmware."""

    arch: Literal["uefi", "bios"] = Field("uefi", description="which firmware asks", examples=["uefi"])
    source: str | None = Field(None, max_length=64, description="the address it asks from; its own unless given")


class SecretBody(Body):
    """A secret's value; it is never shown again."""

    value: str = Field(min_length=1, max_length=65536, examples=["correct horse battery staple"])
