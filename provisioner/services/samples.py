"""A machine for each profile, real or made up, so that content can be rendered before it is saved."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from provisioner.core.content import ProfileContent
from provisioner.core.firmware import family_of
from provisioner.core.parameters import ancestry
from provisioner.errors import BuildNotPossible, ProvisionerError, UnknownReference
from provisioner.services import samplemachines
from provisioner.services.drafts import in_force
from provisioner.services.installables import FILE_ROLES, newest_fit
from provisioner.services.media import Stored
from provisioner.services.resolve import BuildRequest, Gathered, Parts, assemble, levels_of
from provisioner.services.samplemachines import Found
from provisioner.services.sealing import Payload
from provisioner.store.models import Distro, Image, Profile, Template
from provisioner.store.snapshots import snapshot

Data = Mapping[str, Any]
_NO_FILE = "0" * 64
_BOOT_CFG = "bootstate=0\nkernel=/b.b00\nkernelopt=runweasel\nmodules=/jumpstrt.gz --- /useropts.gz\n"
_SECRETS = ("disk_passphrase", "root_password")
# RFC 5737: addresses that nobody has.
_SUBNETS: Mapping[str, dict[str, Any]] = {
    "sample": {"cidr": "192.0.2.0/24", "gateway": "192.0.2.1", "dns": ["192.0.2.1"], "domain": "example.com"},
    "sample2": {"cidr": "198.51.100.0/24", "gateway": None, "dns": [], "domain": None},
}


@dataclass(frozen=True)
class Content:
    """Everything that profiles and templates are, as plain data: as it is stored, or as it would be after a change."""

    sources: Mapping[str, str]
    profiles: Mapping[str, Data]
    distros: tuple[Data, ...]
    images: tuple[Data, ...]
    machines: Mapping[str, Found]
    """For a profile that has machines which can boot the first of them by name, with its subnets."""

    def changed(self, texts: Mapping[str, str], profiles: Mapping[str, ProfileContent]) -> "Content":
        """The content with these templates and profiles put over it."""
        new = {name: {"name": name, "parent": each.parent} | each.fields() for name, each in profiles.items()}
        return replace(self, sources={**self.sources, **texts}, profiles={**self.profiles, **new})

    def lineage(self, name: str) -> list[str]:
        """The profile's ancestors from the root down, the profile itself last. Raises ParentCycle, UnknownReference."""
        line = ancestry(name, {each: profile["parent"] for each, profile in self.profiles.items()})
        if line[0] not in self.profiles:
            raise UnknownReference(f"there is no profile {line[0]!r}", where=f"profile {name}")
        return line


@dataclass(frozen=True)
class Sample:
    """What a profile is rendered for."""

    profile: str
    machine: str
    """The real machine's name; empty for one that is made up."""
    gathered: Gathered
    payload: Payload
    secrets: tuple[str, ...]
    found: Found | None
    """The real machine."""
    made_up: bool
    """Something of it is made up, the machine or the distro: what it lacks, real ones may have."""
    first: bool = True
    """It stands for the profile; else it is one more of its machines."""

    @property
    def who(self) -> tuple[str, str]:
        """Which sample it is."""
        return self.profile, self.machine

    @property
    def said(self) -> str:
        """The profile and the machine, in words."""
        return f"profile {self.profile}, rendered for {self.machine or 'a sample machine'}"


def load(session: Session) -> Content:
    """The content as it is stored."""
    templates = session.execute(select(Template.name, Template.text, Template.draft)).all()
    return Content(
        sources={each.name: in_force(each.name, each.text, each.draft) for each in templates},
        profiles={each.name: snapshot(each) for each in session.scalars(select(Profile))},
        distros=tuple(snapshot(each) for each in session.scalars(select(Distro))),
        images=tuple(snapshot(each) for each in session.scalars(select(Image))),
        machines=samplemachines.firsts(session),
    )


def sample(content: Content, profile: str) -> Sample:
    """What to render the profile for: its first machine if a build of it could be made, else one made up.

    Raises BuildNotPossible for a profile that alone makes no build, UnknownReference and ParentCycle.
    """
    real = content.machines.get(profile)
    if real is not None:
        try:
            return _sample(content, profile, *real)
        except ProvisionerError:
            pass  # it lacks a subnet, a MAC address, ...; that is not the content's fault
    return _sample(content, profile, None, {})


def of_machine(content: Content, profile: str, machine: Found) -> Sample:
    """The profile for this machine. Raises ProvisionerError where no build of it could be made."""
    return replace(_sample(content, profile, *machine), first=False)


def _sample(content: Content, profile: str, machine: Data | None, subnets: Mapping[str, Data]) -> Sample:
    invented: list[str] = []
    parts = Parts(
        machine=machine or {},
        lineage=[content.profiles[name] for name in content.lineage(profile)],
        subnets=subnets,
        sources=content.sources,
        versions={},
        pick=partial(_pick, content, invented),
    )
    if machine is None:
        parts = _with_machine(parts, profile)
    gathered = assemble(parts, BuildRequest())
    secrets = _SECRETS if machine is None else tuple(sorted(machine["secrets"]))
    made_up = machine is None or bool(invented)
    found = None if machine is None else (machine, subnets)
    return Sample(profile, machine["name"] if machine else "", gathered, _payload(gathered), secrets, found, made_up)


def _with_machine(parts: Parts, profile: str) -> Parts:
    """The parts with a machine of two interfaces, and with those that the profile's links are built over."""
    bare: dict[str, Any] = {
        "name": "sample01",
        "profile": profile,
        "parameters": {},
        "kernel_options": [],
        "local_boot": None,
    }
    bare |= {"serial": "SAMPLE01", "uuid": "00000000-0000-4000-8000-000000000001", "protected": False, "secrets": {}}
    empty = replace(parts, machine=bare | {"interfaces": []})
    links: Any = None
    for level in levels_of(empty, BuildRequest()):
        links = level.parameters.get("links", links)
    interfaces: list[dict[str, Any]] = [
        {"name": "eth0", "mac": "02:00:00:00:00:01", "ip": "192.0.2.11", "subnet": "sample"},
        {"name": "eth1", "mac": "02:00:00:00:00:02", "ip": "198.51.100.11", "subnet": "sample2"},
    ]
    for place, name in enumerate(_asked_of(links)):
        mac = name.lower() if ":" in name else f"02:00:00:00:01:{place % 256:02x}"
        interfaces.append({"name": f"eth{place + 2}" if ":" in name else name, "mac": mac, "ip": None, "subnet": None})
    subnets = {name: {"name": name, "dhcp": "off", "parameters": {}} | each for name, each in _SUBNETS.items()}
    return replace(parts, machine=bare | {"interfaces": interfaces}, subnets=subnets)


def _asked_of(links: Any) -> list[str]:
    """The interfaces that the parameter ``links`` names, which the machines of the profile must have; malformed ones
    are left to `core.network`.
    """
    given = [each for each in links if isinstance(each, Mapping)] if isinstance(links, list | tuple) else []
    asked: list[str] = []
    for each in given:
        over = each.get("over")
        named = [over] if isinstance(over, str) else list(over) if isinstance(over, list | tuple) else []
        named += [each.get("address_of"), each.get("name") if each.get("kind", "ethernet") == "ethernet" else None]
        asked += [name for name in named if isinstance(name, str)]
    known = {each.get("name") for each in given if each.get("kind", "ethernet") != "ethernet"} | {"all", "eth0", "eth1"}
    return [name for name in dict.fromkeys(asked) if name not in known][:64]


def _pick(
    content: Content, invented: list[str], kind: str, selector: Mapping[str, str], where: str
) -> tuple[Data, str]:
    """The distro or image, as a build would choose it; one made up where none is registered that fits."""
    things = content.distros if kind == "distro" else content.images
    if "name" in selector:
        named = [each for each in things if each["name"] == selector["name"]]
        if not named:
            raise UnknownReference(f"there is no {kind} {selector['name']!r}", where=where)
        return named[0], ""
    try:
        return newest_fit(kind, things, selector, where), ""
    except BuildNotPossible:
        if not selector.get("os") or not selector.get("version"):
            raise
    invented.append(kind)
    return _invented(kind, selector), ""


def _invented(kind: str, selector: Mapping[str, str]) -> Data:
    common = {"os": selector["os"], "version": selector["version"], "arch": selector.get("arch", "x86_64")}
    common["name"] = f"{common['os']}-{common['version']}"
    if kind == "image":
        file = {"file_name": "sample.raw.gz", "sha256": _NO_FILE, "size": 1 << 30, "format": "raw.gz"}
        return common | file | {"kind": selector.get("kind", "stem-cell"), "root": "LABEL=root"}
    files = {"kernel_sha256": _NO_FILE, "kernel_name": "vmlinuz", "initrd_sha256": _NO_FILE, "initrd_name": "initrd"}
    more = {role: {"sha256": _NO_FILE, "name": role, "size": 0} for role in FILE_ROLES}
    return common | files | {"tree": "http://192.0.2.1/tree", "files": more}


def _payload(gathered: Gathered) -> Payload:
    """As `sealing.payload`, but nothing has to be in the media store."""
    distro = gathered.distro
    if distro is None:
        return Payload(Stored(_NO_FILE, 0, "vmlinuz"), Stored(_NO_FILE, 0, "initrd.img"), "image")
    kernel, initrd = (Stored(distro[f"{each}_sha256"], 0, distro[f"{each}_name"]) for each in ("kernel", "initrd"))
    return Payload(kernel, initrd, family_of(distro["os"]), _BOOT_CFG)


def every(content: Content, names: Iterable[str] | None = None) -> tuple[list[Sample], dict[str, ProvisionerError]]:
    """The samples of these profiles, or of all, and why the others have none."""
    found, without = [], {}
    for name in sorted(content.profiles if names is None else names):
        try:
            found.append(sample(content, name))
        except ProvisionerError as error:
            without[name] = error
    return found, without
