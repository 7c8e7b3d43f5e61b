"""All that a build of a machine takes in, gathered in one transaction as plain data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from provisioner.core.addresses import prefix_and_netmask
from provisioner.core.localboot import AUTO
from provisioner.core.names import SNIPPETS, TEMPLATE_KINDS
from provisioner.core.parameters import Level, Resolved, ancestry, resolve
from provisioner.errors import BuildNotPossible, UnknownReference
from provisioner.services import installables, objects
from provisioner.store.models import Distro, Image, Interface, Machine, Profile, Subnet, Template
from provisioner.store.snapshots import snapshot

_DEFAULTS = Level("built-in defaults", fields={"handoff": {"tool": "none"}, "local_boot": AUTO})
_INHERITED = ("template", "distro", "image", "handoff", "local_boot")


@dataclass(frozen=True)
class BuildRequest:
    """What somebody adds for one build alone."""

    parameters: Mapping[str, Any] = field(default_factory=dict)
    kernel_options: Sequence[str] = ()


@dataclass(frozen=True)
class Gathered:
    """The inputs of a build. ``inputs`` names every object with its version, so that a change can be noticed."""

    machine: Mapping[str, Any]
    interfaces: Sequence[Mapping[str, Any]]
    profile: Mapping[str, Any]
    resolved: Resolved
    template: str
    sources: Mapping[str, str]
    distro: Mapping[str, Any] | None
    image: Mapping[str, Any] | None
    inputs: Mapping[str, str]
    authoritative: Sequence[str]
    """The machine's subnets whose DHCP is ours."""


def levels(session: Session, machine: Machine, request: BuildRequest) -> list[Level]:
    """The levels that give values to this machine, the weakest first."""
    found = [_DEFAULTS]
    if machine.profile is not None:
        found += [_profile_level(profile) for profile in lineage(session, machine.profile)]
    subnet = next((each.subnet for each in machine.interfaces if each.subnet), None)
    if subnet is not None:
        found.append(Level(f"subnet {subnet.name}", subnet.parameters))
    own = {} if machine.local_boot is None else {"local_boot": machine.local_boot}
    found.append(Level(f"machine {machine.name}", machine.parameters, machine.kernel_options, own))
    found.append(Level("build request", request.parameters, request.kernel_options))
    return found


def lineage(session: Session, profile: Profile) -> list[Profile]:
    """The profile's ancestors from the root down, the profile itself last."""
    profiles = {each.name: each for each in session.scalars(select(Profile))}
    parents = {name: each.parent.name if each.parent else None for name, each in profiles.items()}
    return [profiles[name] for name in ancestry(profile.name, parents)]


def _profile_level(profile: Profile) -> Level:
    given = {name: getattr(profile, name) for name in _INHERITED if getattr(profile, name) is not None}
    # A profile that names an image turns away from its parent's distro, and the other way round.
    if "image" in given:
        given["distro"] = None
    elif "distro" in given:
        given["image"] = None
    return Level(f"profile {profile.name}", profile.parameters, profile.kernel_options, given)


def gather(session: Session, machine: Machine, request: BuildRequest) -> Gathered:
    """Everything a build of this machine needs.

    Raises BuildNotPossible or UnknownReference that names what is missing and how to add it.
    """
    if machine.profile is None:
        raise BuildNotPossible(
            f"{machine.name} has no profile", hint=f"`provisioner machine edit {machine.name} --profile NAME`"
        )
    if not any(each.subnet for each in machine.interfaces):
        raise BuildNotPossible(
            f"{machine.name} has no interface in a subnet, so no address could be trusted to be its own",
            hint="add the network with `provisioner subnet add`, then give the machine an --ip in it",
        )
    resolved = resolve(levels(session, machine, request))
    distro, image = _installable(session, machine.profile, resolved)
    template = _template(machine.profile, resolved)
    sources = dict(session.execute(select(Template.name, Template.text)).all())
    if template not in sources:
        raise UnknownReference(f"there is no template {template!r}", where=f"profile {machine.profile.name}")
    subnets = [each.subnet for each in machine.interfaces if each.subnet]
    return Gathered(
        machine=_machine(machine),
        interfaces=[_interface(each) for each in machine.interfaces],
        profile={
            "name": machine.profile.name,
            "description": machine.profile.description,
            "local_boot": resolved.field("local_boot"),
        },
        resolved=resolved,
        template=template,
        sources=sources,
        distro=snapshot(distro) if distro else None,
        image=snapshot(image) if image else None,
        inputs=_inputs(session, machine, subnets, distro, image),
        authoritative=sorted({subnet.name for subnet in subnets if subnet.dhcp == "authoritative"}),
    )


def _installable(session: Session, profile: Profile, resolved: Resolved) -> tuple[Distro | None, Image | None]:
    distro, image = resolved.fields.get("distro"), resolved.fields.get("image")
    if distro is not None and distro.value is not None:
        return installables.select_newest(session, Distro, distro.value, distro.source), None
    if image is not None and image.value is not None:
        return None, installables.select_newest(session, Image, image.value, image.source)
    raise BuildNotPossible(
        f"profile {profile.name} has neither a distro nor an image",
        hint=f"`provisioner profile edit {profile.name} --distro NAME`, or give it a parent that has one",
    )


def _template(profile: Profile, resolved: Resolved) -> str:
    name = resolved.field("template")
    if name is None:
        raise BuildNotPossible(
            f"profile {profile.name} has no template",
            hint=f"`provisioner profile edit {profile.name} --template KIND/NAME`; kinds: {', '.join(TEMPLATE_KINDS)}",
        )
    return str(name)


def _machine(machine: Machine) -> dict[str, Any]:
    hostname, _, rest = machine.name.partition(".")
    subnet = next((each.subnet for each in machine.interfaces if each.subnet), None)
    domain = rest or (subnet.domain if subnet else None) or None
    first = machine.interfaces[0]
    return {
        "name": machine.name,
        "hostname": hostname,
        "domain": domain,
        "fqdn": f"{hostname}.{domain}" if domain else hostname,
        "serial": machine.serial,
        "uuid": machine.uuid,
        "protected": machine.protected,
        "mac": first.mac,
        "ip": next((each.ip for each in machine.interfaces if each.ip), None),
    }


def _interface(each: Interface) -> dict[str, Any]:
    prefix, netmask = prefix_and_netmask(each.subnet.cidr) if each.subnet else (None, None)
    return {
        "name": each.name,
        "mac": each.mac,
        "ip": each.ip,
        "subnet": each.subnet.name if each.subnet else None,
        "prefix": prefix,
        "netmask": netmask,
        "gateway": each.subnet.gateway if each.subnet else None,
        "dns": list(each.subnet.dns) if each.subnet else [],
        "domain": each.subnet.domain if each.subnet else None,
        "vlan": None,
    }


def _inputs(
    session: Session, machine: Machine, subnets: Sequence[Subnet], distro: Distro | None, image: Image | None
) -> dict[str, str]:
    """Each input with its version; templates all together, since a snippet may be reached from any of them."""
    things: list[Machine | Profile | Subnet | Distro | Image] = [machine, *subnets]
    things += lineage(session, machine.profile) if machine.profile else []
    things += [thing for thing in (distro, image) if thing is not None]
    named = {f"{objects.KIND[type(thing)]} {thing.name}": str(thing.version) for thing in things}
    versions = session.execute(select(Template.name, Template.version).order_by(Template.name)).all()
    return named | {f"template {name}": str(version) for name, version in versions}


def is_snippet(name: str) -> bool:
    """Whether a template is a snippet, which nothing renders by itself."""
    return name.startswith(f"{SNIPPETS}/")
