"""All that a build of a machine takes in, gathered in one transaction as plain data."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from provisioner.core.addresses import prefix_and_netmask
from provisioner.core.localboot import AUTO
from provisioner.core.names import TEMPLATE_KINDS
from provisioner.core.parameters import Level, Resolved, ancestry, resolve
from provisioner.core.unread import REQUEST
from provisioner.errors import BuildNotPossible, UnknownReference
from provisioner.services import installables, objects
from provisioner.services.drafts import in_force
from provisioner.store.models import Distro, Image, Machine, Profile, Subnet, Template
from provisioner.store.snapshots import snapshot

_DEFAULTS = Level("built-in defaults", fields={"handoff": {"tool": "none"}, "local_boot": AUTO})
_INHERITED = ("template", "distro", "image", "handoff", "local_boot")


@dataclass(frozen=True)
class BuildRequest:
    """What somebody adds for one build alone."""

    parameters: Mapping[str, Any] = field(default_factory=dict)
    kernel_options: Sequence[str] = ()
    instead_of: int | None = None
    """The id of the machine's build that this one takes the place of, if the machine has not asked for it by then."""


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


@dataclass(frozen=True)
class Parts:
    """The objects that a build of a machine is resolved from, as snapshots: today's, or those of another day."""

    machine: Mapping[str, Any]
    lineage: Sequence[Mapping[str, Any]]
    """Its profile's ancestors from the root down, the profile itself last; empty when it has none."""
    subnets: Mapping[str, Mapping[str, Any]]
    """Those of its interfaces, by name."""
    sources: Mapping[str, str]
    """All templates."""
    versions: Mapping[str, str]
    """Each of these objects with its version; templates all together, since any may reach any snippet."""
    pick: Callable[[str, Mapping[str, str], str], tuple[Mapping[str, Any], str]]
    """The distro or image that a selector means, with its version: given the kind, the selector and who says it."""

    @property
    def subnet(self) -> Mapping[str, Any] | None:
        """The subnet of the first interface that is in one."""
        return next((self.subnets[each["subnet"]] for each in self.machine["interfaces"] if each["subnet"]), None)


def parts(session: Session, machine: Machine) -> Parts:
    """The parts as they are now."""
    profiles = lineage(session, machine.profile) if machine.profile else []
    subnets = [each.subnet for each in machine.interfaces if each.subnet]
    templates = session.execute(select(Template.name, Template.text, Template.draft, Template.version)).all()
    things: list[Machine | Profile | Subnet] = [machine, *profiles, *subnets]
    return Parts(
        machine=snapshot(machine),
        lineage=[snapshot(each) for each in profiles],
        subnets={each.name: snapshot(each) for each in subnets},
        sources={each.name: in_force(each.name, each.text, each.draft) for each in templates},
        versions={f"{objects.KIND[type(thing)]} {thing.name}": str(thing.version) for thing in things}
        | {f"template {each.name}": str(each.version) for each in templates},
        pick=partial(_pick, session),
    )


def _pick(session: Session, kind: str, selector: Mapping[str, str], where: str) -> tuple[Mapping[str, Any], str]:
    if kind == "distro":
        picked: Distro | Image = installables.select_newest(session, Distro, selector, where)
    else:
        picked = installables.select_newest(session, Image, selector, where)
    return snapshot(picked), str(picked.version)


def levels(session: Session, machine: Machine, request: BuildRequest) -> list[Level]:
    """The levels that give values to this machine, the weakest first."""
    return levels_of(parts(session, machine), request)


def levels_of(given: Parts, request: BuildRequest) -> list[Level]:
    """The levels of a machine's parts, the weakest first."""
    machine, subnet = given.machine, given.subnet
    found = [_DEFAULTS, *(_profile_level(profile) for profile in given.lineage)]
    if subnet is not None:
        found.append(Level(f"subnet {subnet['name']}", subnet["parameters"]))
    way = machine.get("local_boot")
    own = {} if way is None else {"local_boot": way}
    found.append(Level(f"machine {machine['name']}", machine["parameters"], machine["kernel_options"], own))
    found.append(Level(REQUEST, request.parameters, request.kernel_options))
    return found


def lineage(session: Session, profile: Profile) -> list[Profile]:
    """The profile's ancestors from the root down, the profile itself last."""
    profiles = {each.name: each for each in session.scalars(select(Profile))}
    parents = {name: each.parent.name if each.parent else None for name, each in profiles.items()}
    return [profiles[name] for name in ancestry(profile.name, parents)]


def _profile_level(profile: Mapping[str, Any]) -> Level:
    given = {name: profile[name] for name in _INHERITED if profile.get(name) is not None}
    # A profile that names an image turns away from its parent's distro, and the other way round.
    if "image" in given:
        given["distro"] = None
    elif "distro" in given:
        given["image"] = None
    return Level(f"profile {profile['name']}", profile["parameters"], profile["kernel_options"], given)


def gather(session: Session, machine: Machine, request: BuildRequest) -> Gathered:
    """Everything a build of this machine needs.

    Raises BuildNotPossible or UnknownReference that names what is missing and how to add it.
    """
    return assemble(parts(session, machine), request)


def assemble(given: Parts, request: BuildRequest) -> Gathered:
    """The inputs of a build of these parts. Raises as `gather` does."""
    machine = given.machine
    if not given.lineage:
        raise BuildNotPossible(
            f"{machine['name']} has no profile", hint=f"`provisioner machine edit {machine['name']} --profile NAME`"
        )
    if given.subnet is None:
        raise BuildNotPossible(
            f"{machine['name']} has no interface in a subnet, so no address could be trusted to be its own",
            hint="add the network with `provisioner subnet add`, then give the machine an --ip in it",
        )
    nics = [each for each in machine["interfaces"] if each["mac"]]
    if not nics:
        raise BuildNotPossible(
            f"no MAC address of {machine['name']} is known, so nobody could boot as it",
            hint=f"`provisioner machine edit {machine['name']} --mac MAC`; its address stays",
        )
    profile = given.lineage[-1]
    resolved = resolve(levels_of(given, request))
    kind, picked, version = _installable(given, resolved)
    template = _template(profile["name"], resolved)
    if template not in given.sources:
        raise UnknownReference(f"there is no template {template!r}", where=f"profile {profile['name']}")
    return Gathered(
        machine=_machine(machine, nics, given.subnet),
        interfaces=[_interface(each, given.subnets.get(each["subnet"])) for each in nics],
        profile={
            "name": profile["name"],
            "description": profile["description"],
            "local_boot": resolved.field("local_boot"),
        },
        resolved=resolved,
        template=template,
        sources=given.sources,
        distro=picked if kind == "distro" else None,
        image=picked if kind == "image" else None,
        inputs=dict(given.versions) | {f"{kind} {picked['name']}": version},
        authoritative=sorted(name for name, each in given.subnets.items() if each["dhcp"] == "authoritative"),
    )


def _installable(given: Parts, resolved: Resolved) -> tuple[str, Mapping[str, Any], str]:
    for kind in ("distro", "image"):
        wanted = resolved.fields.get(kind)
        if wanted is not None and wanted.value is not None:
            return kind, *given.pick(kind, wanted.value, wanted.source)
    name = given.lineage[-1]["name"]
    raise BuildNotPossible(
        f"profile {name} has neither a distro nor an image",
        hint=f"`provisioner profile edit {name} --distro NAME`, or give it a parent that has one",
    )


def _template(profile: str, resolved: Resolved) -> str:
    name = resolved.field("template")
    if name is None:
        raise BuildNotPossible(
            f"profile {profile} has no template",
            hint=f"`provisioner profile edit {profile} --template KIND/NAME`; kinds: {', '.join(TEMPLATE_KINDS)}",
        )
    return str(name)


def _machine(
    machine: Mapping[str, Any], nics: Sequence[Mapping[str, Any]], subnet: Mapping[str, Any]
) -> dict[str, Any]:
    hostname, _, rest = machine["name"].partition(".")
    domain = rest or subnet["domain"] or None
    return {
        "name": machine["name"],
        "hostname": hostname,
        "domain": domain,
        "fqdn": f"{hostname}.{domain}" if domain else hostname,
        "serial": machine["serial"],
        "uuid": machine["uuid"],
        "protected": machine["protected"],
        "mac": nics[0]["mac"],
        "ip": next((each["ip"] for each in nics if each["ip"]), None),
    }


def _interface(each: Mapping[str, Any], subnet: Mapping[str, Any] | None) -> dict[str, Any]:
    prefix, netmask = prefix_and_netmask(subnet["cidr"]) if subnet else (None, None)
    return {
        "name": each["name"],
        "mac": each["mac"],
        "ip": each["ip"],
        "subnet": subnet["name"] if subnet else None,
        "prefix": prefix,
        "netmask": netmask,
        "gateway": subnet["gateway"] if subnet else None,
        "dns": list(subnet["dns"]) if subnet else [],
        "domain": subnet["domain"] if subnet else None,
    }
