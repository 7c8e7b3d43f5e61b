"""The shapes of the plan of a boot storm."""

from typing import Literal

from pydantic import Field

from provisioner.web.api.shapes.common import Query, View


class StormQuery(Query):
    """How many machines, and over what."""

    machines: int = Field(400, ge=1, le=1_000_000, description="how many boot", examples=[400])
    link: str = Field("10G", max_length=40, description="the server's link, in bits a second", examples=["10G"])
    profile: str | None = Field(
        None, max_length=64, description="what they are built from; else the profile of the most machines"
    )
    firmware: Literal["bios", "uefi"] = Field("uefi", description="the machines' firmware")
    tftp_rate: float | None = Field(
        None, ge=0.001, lt=1e6, description="what the server can send by TFTP, in megabytes a second", examples=[150]
    )
    media_rate: float | None = Field(
        None, ge=0.001, lt=1e6, description="what the server can send by HTTP, in megabytes a second", examples=[1000]
    )


class StormBytes(View):
    """What one boot loads from here."""

    tftp: int
    boot: int = Field(description="scripts and answer file")
    media: int = Field(description="kernel, initrd, image")
    tree: int = Field(description="the install tree, if it is served from here")
    total: int


class StormView(View):
    """How long it takes, and how many to start together."""

    profile: str
    machines: int
    firmware: str
    link: float = Field(description="bits a second")
    measured_builds: int = Field(description="whose medians the bytes are; 0: computed from the registered files")
    bytes: StormBytes
    link_seconds: float = Field(description="until the link has carried all")
    server_seconds: float = Field(description="until the server has sent all; 0 where its rates are not given")
    alone_seconds: float = Field(description="of one machine, with nobody else there")
    install_seconds: float | None = Field(description="from the boot script to `built`, the median; null: not known")
    seconds: float = Field(description="until all have loaded that start at once")
    limit: Literal["link", "server", "tftp", "client", "installer"]
    wave: int = Field(description="how many to start together")
    waves: int
    apart_seconds: float = Field(description="from one wave to the next")
    waves_seconds: float = Field(description="until all have loaded that start in waves")
    mean_seconds: float = Field(description="when a machine has loaded on average, all starting at once")
    mean_waves_seconds: float = Field(description="the same, in waves")
    sentences: list[str] = Field(description="the plan in words")
