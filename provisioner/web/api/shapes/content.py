"""The shapes of profiles, templates, distros and images."""

from typing import Annotated, Any, Literal

from pydantic import Field

from provisioner.web.api.shapes.common import Body, Name, NextPage, Parameters, Revision, Text, View, Word
from provisioner.web.api.shapes.radius import Rehearsable

Selector = Annotated[
    dict[str, str],
    Field(description="by `name`, or the newest that fits `os`, `version`, `arch`", examples=[{"os": "rocky"}]),
]
Options = Annotated[list[Word], Field(max_length=64, examples=[["console=ttyS0,115200n8", "!quiet"]])]
Url = Annotated[
    str, Field(max_length=1024, pattern="^https?://[!-~]+$", examples=["http://mirror.example.com/vmlinuz"])
]
Digest = Annotated[str, Field(description="SHA-256, in hex")]


class ProfileChange(Body):
    """What of a profile can be changed; what is left out stays, null is inherited from the parent."""

    parent: Word | None = Field(None, examples=["rocky9"])
    description: Text = Field("")
    distro: Selector | Word | None = Field(None)
    image: Selector | Word | None = Field(None)
    template: Word | None = Field(None, examples=["kickstart/el9.ks.j2"])
    kernel_options: Options = Field(default=[])
    parameters: Parameters = Field(default={})
    handoff: dict[str, Any] | None = Field(None, examples=[{"tool": "none"}])
    local_boot: Word | None = Field(None, examples=["auto"])


class ProfileBody(ProfileChange):
    """A profile to add."""

    name: Name = Field(examples=["rocky9-web"])


class ProfileView(Rehearsable):
    """A profile; null is inherited."""

    name: str
    parent: str | None
    description: str
    distro: dict[str, str] | None
    image: dict[str, str] | None
    template: str | None
    kernel_options: list[str]
    parameters: dict[str, Any]
    handoff: dict[str, Any] | None
    local_boot: str | None
    tested_with: str = Field(default="", description="what its author tried it with", examples=["ksvalidator RHEL9"])
    revision: Revision


class ProfilePage(View):
    """Some profiles."""

    items: list[ProfileView]
    next: NextPage


Source = Annotated[str, Field(max_length=900_000, description="its text", examples=["text --non-interactive\n"])]


class TemplateBody(Body):
    """A template to add."""

    name: Name = Field(description="KIND/NAME", examples=["kickstart/web.ks.j2"])
    text: Source


class TemplateChange(Body):
    """A template's new text."""

    text: Source


class TemplateProblem(View):
    """What is wrong with a template's text."""

    where: str = Field(description="TEMPLATE:LINE, of a snippet too", examples=["kickstart/web.ks.j2:12"])
    message: str = Field(examples=["line 40: Unknown command: nonsense: 'nonsense' (profile web, rendered for web01)"])
    hint: str = Field(examples=["mend this line, then save it again"])


class TemplateView(Rehearsable):
    """A template."""

    name: str
    kind: str
    text: str = Field(description="in force; empty while no text was ever good")
    draft: str | None = Field(description="a later text that fails, and is not served", examples=["nonsense\n"])
    problems: list[TemplateProblem] = Field(description="what is wrong with the draft")
    warnings: list[TemplateProblem] = Field(description="in the answer to a change: what is odd in its text")
    revision: Revision


class TemplateItem(View):
    """A template in a list, without its text."""

    name: str
    kind: str
    bytes: int
    draft: bool = Field(description="whether its newest text fails, and is not in force")
    revision: Revision


class TemplatePage(View):
    """Some templates."""

    items: list[TemplateItem]
    next: NextPage


OptionalUrl = Annotated[
    str, Field(max_length=1024, pattern="^(https?://[!-~]+)?$", examples=["http://mirror.example.com/live.iso"])
]


class DistroChange(Body):
    """What of a distro can be changed; builds keep the files they were sealed with."""

    os: Word = Field("", examples=["rocky"])
    version: Word = Field("", examples=["9.6"])
    kernel: Url = Field("", validate_default=False, description="fetched by the server, kept under its SHA-256")
    initrd: Url = Field("", validate_default=False)
    tree: Annotated[str, Field(max_length=1024, pattern="^(https?://[!-~]+)?$")] = Field(
        "", description="the install tree's URL", examples=["http://mirror.example.com/rocky/9.6"]
    )
    iso: OptionalUrl = Field("", description="an ISO that the installer loads over the network; empty: none")
    rootfs: OptionalUrl = Field("", description="a live system's root file system; empty: none")


class DistroBody(Body):
    """A distro to add. Kernel, initrd, ISO and root file system are fetched by the server before it answers."""

    name: Name = Field(examples=["rocky-9.6"])
    os: Word = Field(examples=["rocky"])
    version: Word = Field(examples=["9.6"])
    arch: Literal["x86_64"] = "x86_64"
    kernel: Url
    initrd: Url
    tree: Annotated[str, Field(max_length=1024, pattern="^(https?://[!-~]+)?$")] = ""
    iso: OptionalUrl = Field("", description="an ISO that the installer loads over the network")
    rootfs: OptionalUrl = Field("", description="a live system's root file system")


class StoredFile(View):
    """A file of the media store."""

    sha256: Digest
    name: str
    size: int = Field(description="bytes")


class DistroView(Rehearsable):
    """A distro."""

    name: str
    os: str
    version: str
    arch: str
    kernel_sha256: Digest
    kernel_name: str
    initrd_sha256: Digest
    initrd_name: str
    tree: str
    files: dict[str, StoredFile] = Field(
        description="further files by role, such as iso",
        examples=[{"iso": {"sha256": "0" * 64, "name": "live-server.iso", "size": 3_213_064_192}}],
    )
    revision: Revision


class DistroPage(View):
    """Some distros."""

    items: list[DistroView]
    next: NextPage


ImageKind = Literal["golden", "stem-cell"]
ImageFormat = Literal["raw", "raw.gz", "raw.xz"]


class ImageChange(Body):
    """What of an image can be changed; builds keep the file they were sealed with."""

    file: Url = Field("", validate_default=False)
    version: Word = Field("", examples=["12"])
    kind: ImageKind = "stem-cell"
    format: ImageFormat = "raw.gz"
    root: Annotated[str, Field(max_length=128)] = Field("", description="LABEL=... or a partition's number")


class ImageBody(Body):
    """An image to add. The file is fetched by the server before it answers."""

    name: Name = Field(examples=["debian-12-base"])
    os: Word = Field(examples=["debian"])
    version: Word = Field(examples=["12"])
    arch: Literal["x86_64"] = "x86_64"
    file: Url
    kind: ImageKind = "stem-cell"
    format: ImageFormat = "raw.gz"
    root: Annotated[str, Field(max_length=128)] = ""


class ImageView(Rehearsable):
    """An image."""

    name: str
    kind: str
    os: str
    version: str
    arch: str
    format: str
    root: str
    sha256: Digest
    file_name: str
    size: int
    revision: Revision


class ImagePage(View):
    """Some images."""

    items: list[ImageView]
    next: NextPage
