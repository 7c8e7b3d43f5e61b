"""Arming: a build is resolved, rendered, validated and sealed before the machine may boot it."""

import difflib
import hashlib
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from provisioner import handoff
from provisioner.core.lifecycle import ENDED, RUNNING, MachineState, Phase, Trigger
from provisioner.core.markers import check_secret, fill, refuse_markers, secrets_in
from provisioner.core.parameters import Effective, check_kernel_options, check_plain, resolve
from provisioner.errors import (
    BuildNotPossible,
    IllegalTransition,
    InputsChanged,
    MediaMissing,
    NotFound,
    Protected,
    ProvisionerError,
)
from provisioner.services import dhcp, identities, media, objects, sealing, trees
from provisioner.services.lives import add_event, apply_trigger, latest_build, lock, phase
from provisioner.services.machines import find, secret_row
from provisioner.services.resolve import BuildRequest, Gathered, gather, levels
from provisioner.services.sealing import Made, Order, make, make_all
from provisioner.services.site import Actor, Site
from provisioner.store import history
from provisioner.store.engine import read, write
from provisioner.store.models import Build, Machine, SealedFile, Secret, Subnet, now

MASKED_TOKEN = "x" * 54
_TOGETHER = 50


def start(site: Site, actor: Actor, name: str, request: BuildRequest | None = None) -> dict[str, Any]:
    """Arm a build of the machine. Returns its name, number and the validator's warnings.

    Raises the error of whatever is missing or wrong; nothing is armed then. Rendering happens outside any
    transaction, so the sealing transaction first checks that no input changed meanwhile.
    """
    wanted = _checked(request)
    with read(site.engine) as session:
        order = _order(session, name, wanted)
    made = make(site, order.gathered, number=order.number, secrets=order.secrets)
    return _start_made(site, actor, name, wanted, order, made)


def _checked(request: BuildRequest | None) -> BuildRequest:
    wanted = request or BuildRequest()
    refuse_markers(wanted.parameters, "parameters")
    check_plain(wanted.parameters, "parameters")
    check_kernel_options(wanted.kernel_options, "kernel_options")
    return wanted


def start_all(
    site: Site, actor: Actor, names: Sequence[str], request: BuildRequest | None = None
) -> Iterator[tuple[str, dict[str, Any] | ProvisionerError]]:
    """Arm a build of each machine; each with its result or with what stood against it, as they are done.

    Each is a transaction of its own, as if started alone; rendering them together is several times as fast.
    """
    wanted = _checked(request)
    for begin in range(0, len(names), _TOGETHER):
        yield from _start_some(site, actor, names[begin : begin + _TOGETHER], wanted)


def _start_some(
    site: Site, actor: Actor, names: Sequence[str], wanted: BuildRequest
) -> Iterator[tuple[str, dict[str, Any] | ProvisionerError]]:
    results: dict[str, dict[str, Any] | ProvisionerError] = {}
    orders: dict[str, Order] = {}
    with read(site.engine) as session:
        for name in names:
            try:
                orders[name] = _order(session, name, wanted)
            except ProvisionerError as error:
                results[name] = error
    for (name, order), made in zip(orders.items(), make_all(site, list(orders.values())), strict=True):
        if isinstance(made, ProvisionerError):
            results[name] = made
            continue
        try:
            results[name] = _start_made(site, actor, name, wanted, order, made)
        except ProvisionerError as error:
            results[name] = error
    for name in names:
        yield name, results[name]


def _order(session: Session, name: str, wanted: BuildRequest) -> Order:
    machine = find(session, name)
    _refuse_unfit(session, machine, wanted.instead_of)
    gathered = gather(session, machine, wanted)
    return Order(gathered, _next_number(session, machine), tuple(secret.name for secret in machine.secrets))


def _start_made(site: Site, actor: Actor, name: str, wanted: BuildRequest, order: Order, made: Made) -> dict[str, Any]:
    gathered, number = order.gathered, order.number
    if gathered.authoritative:
        # Before the machine can be told to install, DHCP must know its address.
        dhcp.await_acknowledged(site, list(gathered.authoritative))
    credentials = handoff.tool(made.tool).credentials(made.handoff, made.subject, site.host)
    with write(site.engine) as session:
        machine = find(session, name)
        replaced = lock(session, find_build(session, wanted.instead_of)) if wanted.instead_of is not None else None
        _refuse_unfit(session, machine, wanted.instead_of)
        again = gather(session, machine, wanted)
        if (again.inputs, _next_number(session, machine)) != (gathered.inputs, number):
            changed = [key for key in gathered.inputs if again.inputs.get(key) != gathered.inputs[key]]
            raise InputsChanged(f"{', '.join(changed) or name} changed while the build was prepared")
        sealed = sealed_inputs(gathered, made, wanted)
        before = build_snapshot(replaced) if replaced is not None else None
        build = _seal(session, site, machine, number, sealed, made.files, credentials)
        if replaced is not None:
            add_event(session, replaced, "cancelled", f"sealed again as build {number}", source=actor.origin)
            record_build(session, actor, replaced, before)
        _armed(session, actor, build, f"profile {gathered.profile['name']}")
    return {
        "id": build.id,
        "machine": build.machine_name,
        "number": build.number,
        "state": "armed",
        "warnings": list(made.warnings),
    }


def repeat(site: Site, actor: Actor, name: str, number: int | None = None) -> dict[str, Any]:
    """Arm a new build from the sealed files of an earlier one (the latest unless named), whatever changed since.

    The machine's secrets are today's. Raises MediaMissing if the kernel, initrd or image of then is gone, and
    BuildNotPossible if the machine has other interfaces, or lacks a secret that the old answer file asks for.
    """
    with read(site.engine) as session:
        machine = find(session, name)
        authoritative = [each.subnet.name for each in machine.interfaces if each.subnet and _is_ours(each.subnet)]
        credentials = new_credentials(site, find_build(session, machine.name, number), _next_number(session, machine))
    if authoritative:
        dhcp.await_acknowledged(site, authoritative)
    with write(site.engine) as session:
        machine = find(session, name)
        _refuse_unfit(session, machine)
        old = find_build(session, machine.name, number)
        _refuse_changed(machine, old)
        sealed = dict(old.sealed) | {"repeats": old.number}
        for what, digest in sealed["media"].items():
            media.require(site, digest, f"the {what} of build {old.number}")
        _require_tree(session, site, old)
        files = {each.name: zlib.decompress(each.content).decode() for each in sealed_files(session, old)}
        build = _seal(session, site, machine, _next_number(session, machine), sealed, files, credentials)
        _armed(session, actor, build, f"repeats build {old.number}")
    return {"id": build.id, "machine": build.machine_name, "number": build.number, "state": "armed", "warnings": []}


def _require_tree(session: Session, site: Site, old: Build) -> None:
    """Its files name the tree by the distro's name, which may mean another by now."""
    distro = old.sealed["distro"]
    if distro and distro["tree"].startswith("/") and not trees.is_served(session, site, distro["name"], distro["tree"]):
        raise MediaMissing(
            f"the tree of build {old.number} is not served as {distro['name']} any more",
            where=distro["tree"],
            hint=f"`provisioner build start {old.machine_name}` makes a build from what there is",
        )


def _is_ours(subnet: Subnet) -> bool:
    return subnet.dhcp == "authoritative"


def _refuse_changed(machine: Machine, old: Build) -> None:
    """An old answer file holds the machine's addresses of then; today they may be another machine's."""
    then = {(each["mac"], each["ip"]) for each in old.sealed["interfaces"]}
    if then != {(each.mac, each.ip) for each in machine.interfaces if each.mac}:
        raise BuildNotPossible(
            f"{machine.name} had other interfaces or addresses in build {old.number}",
            hint=f"`provisioner build start {machine.name}` makes a build for those it has now",
        )
    made = set(sealed_handoff(old.sealed)[1].secrets)
    missing = set(old.sealed["secrets"]) - made - {secret.name for secret in machine.secrets}
    if missing:
        raise BuildNotPossible(
            f"build {old.number} unwraps {', '.join(sorted(missing))}, which {machine.name} does not have any more",
            hint=f"`provisioner machine edit {machine.name} --secret NAME=FILE`",
        )


def preview(site: Site, name: str, request: BuildRequest | None = None, *, number: int | None = None) -> dict[str, str]:
    """The files that a build started now would be sealed with, tokens masked. Raises what arming would raise.

    ``number`` is the build's, which stands in its files; the next one unless given.
    """
    with read(site.engine) as session:
        machine = find(session, name)
        gathered = gather(session, machine, request or BuildRequest())
        number = _next_number(session, machine) if number is None else number
        secrets = tuple(secret.name for secret in machine.secrets)
    return masked(site, make(site, gathered, number=number, secrets=secrets).files, gathered.interfaces)


def masked(site: Site, files: Mapping[str, str], interfaces: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Sealed files as people may see them: our URLs filled in, tokens masked.

    ``interfaces`` are those that the build was resolved with; the subnet of the first that is in one says the URLs.
    """
    values = _urls(site, next((each["subnet"] for each in interfaces if each["subnet"]), None))
    values |= dict.fromkeys(("answer_token", "event_token", "handoff_token"), MASKED_TOKEN)
    return {name: fill(text, values) for name, text in files.items()}


def _urls(site: Site, subnet: str | None) -> dict[str, str]:
    """The URLs under which machines of the subnet of this name reach us."""
    settings = site.settings
    with read(site.engine) as session:
        found = None if subnet is None else objects.find(session, Subnet, subnet)
        if found is None:
            return {"boot_url": settings.boot, "media_url": settings.media}
        return {
            "boot_url": found.boot_url or settings.boot_in(found.cidr),
            "media_url": found.media_url or settings.media_in(found.cidr),
        }


def explain(site: Site, name: str) -> dict[str, Any]:
    """Each effective value of a machine, where it came from, and what it overrides.

    An inherited kernel option that was taken away stands as a ``removed kernel option``: its source took it away from
    those that it overrides. Nothing needs to be there yet: no distro, no profile.
    """
    with read(site.engine) as session:
        resolved = resolve(levels(session, find(session, name), BuildRequest()))
    rows = [("parameter", key, each) for key, each in sorted(resolved.parameters.items())]
    rows += [("kernel option", "", each) for each in resolved.kernel_options]
    rows += [("removed kernel option", "", Effective(each.value, each.by, (each.source,))) for each in resolved.removed]
    rows += [("field", key, each) for key, each in sorted(resolved.fields.items()) if each.value is not None]
    return {
        "machine": name,
        "values": [
            {"what": what, "name": key, "value": each.value, "source": each.source, "overrides": list(each.overrides)}
            for what, key, each in rows
        ],
    }


def diff(site: Site, name: str | int, old: int | None = None, new: int | None = None) -> str:
    """What differs between the sealed files of two builds, as a unified diff.

    Of a machine, by their numbers: the latest two unless named. Of a build's id: ``old`` is the id of the other, the
    machine's build before it unless given.
    """
    with read(site.engine) as session:
        later = find_build(session, name, new)
        if isinstance(name, int):
            earlier = find_build(session, old) if old is not None else _one_before(session, later)
        else:
            earlier = find_build(session, name, old if old is not None else later.number - 1)
        texts = [
            {each.name: zlib.decompress(each.content).decode() for each in sealed_files(session, build)}
            for build in (earlier, later)
        ]
    sealed = (earlier.sealed, later.sealed)
    before, after = (masked(site, files, told["interfaces"]) for files, told in zip(texts, sealed, strict=True))
    return compared(before, after, f"build {earlier.number}", f"build {later.number}")


def compared(before: Mapping[str, str], after: Mapping[str, str], old: str, new: str) -> str:
    """What differs between two sets of files, as a unified diff of ``old/FILE`` and ``new/FILE``."""
    lines: list[str] = []
    for file in sorted({*before, *after}):
        lines += difflib.unified_diff(
            before.get(file, "").splitlines(keepends=True),
            after.get(file, "").splitlines(keepends=True),
            f"{old}/{file}",
            f"{new}/{file}",
        )
    return "".join(each if each.endswith("\n") else f"{each}\n" for each in lines)


def _one_before(session: Session, build: Build) -> Build:
    query = select(Build).where(Build.machine_id == build.machine_id, Build.number == build.number - 1)
    found = None if build.machine_id is None else session.scalars(query).one_or_none()
    if found is None:
        raise NotFound(f"build {build.number} of {build.machine_name} has none before it", hint="name the other build")
    return found


def sealed_inputs(gathered: Gathered, made: Made, request: BuildRequest) -> dict[str, Any]:
    """Every input of the build as plain data, kept for good."""
    resolved = gathered.resolved
    files = {"kernel": made.payload.kernel.sha256, "initrd": made.payload.initrd.sha256}
    if gathered.image is not None:
        files["image"] = gathered.image["sha256"]
    files |= {role: file["sha256"] for role, file in ((gathered.distro or {}).get("files") or {}).items()}
    return {
        "inputs": dict(gathered.inputs),
        "machine": dict(gathered.machine),
        "interfaces": [dict(each) for each in gathered.interfaces],
        "profile": dict(gathered.profile),
        "template": gathered.template,
        "template_sha256": hashlib.sha256(gathered.sources[gathered.template].encode()).hexdigest(),
        "distro": dict(gathered.distro) if gathered.distro else None,
        "image": dict(gathered.image) if gathered.image else None,
        "media": files,
        "parameters": {name: [each.value, each.source] for name, each in resolved.parameters.items()},
        "kernel_options": [[each.value, each.source] for each in resolved.kernel_options],
        "fields": {name: [each.value, each.source] for name, each in resolved.fields.items()},
        "request": {"parameters": dict(request.parameters), "kernel_options": list(request.kernel_options)},
        "warnings": list(made.warnings),
        "secrets": list(made.secret_names),
        "handoff": {
            "tool": made.tool,
            "settings": dict(made.handoff.settings),
            "identity": made.handoff.identity,
            "secrets": list(made.handoff.secrets),
        },
    }


def sealed_handoff(sealed: Mapping[str, Any]) -> tuple[str, handoff.Prepared]:
    """The tool's name and what was prepared, as a build was sealed with them."""
    told = sealed.get("handoff")
    if told is None:  # sealed by a version that handed over without an identity
        settings = dict(sealed["fields"]["handoff"][0] or {})
        return str(settings.pop("tool", "none")), handoff.Prepared(settings)
    return told["tool"], handoff.Prepared(told["settings"], told["identity"], tuple(told["secrets"]))


def new_credentials(site: Site, build: Build, number: int) -> handoff.Credentials:
    """Credentials for another round of this build's handoff, or for a build ``number`` that repeats it."""
    tool, prepared = sealed_handoff(build.sealed)
    sealed = build.sealed
    subject = sealing.subject(sealed["machine"], sealed["interfaces"], sealed["profile"]["name"], number)
    return handoff.tool(tool).credentials(prepared, subject, site.host)


def find_build(session: Session, name: str | int, number: int | None = None) -> Build:
    """A build of a machine by its number, the latest if none is given; also of a machine that was removed.

    A ``name`` that is a number is the build's own id.
    """
    if isinstance(name, int):
        found = session.get(Build, name)
        if found is None:
            raise NotFound(f"there is no build with the id {name}", hint="see `provisioner build list`")
        return found
    query = select(Build).order_by(Build.id.desc()).limit(1)
    if number is not None:
        query = query.where(Build.number == number)
    removed = session.scalars(query.where(Build.machine_name == name, Build.machine_id.is_(None))).one_or_none()
    try:
        machine = find(session, name)
    except NotFound:
        if removed is None:
            raise
        return removed
    build = session.scalars(query.where(Build.machine_id == machine.id)).one_or_none()
    if build is None:
        which = f"build {number}" if number is not None else "build"
        raise NotFound(f"{name} has no {which}", hint=f"`provisioner build start {name}`")
    return build


def sealed_files(session: Session, build: Build) -> list[SealedFile]:
    """The sealed files of a build."""
    return list(session.scalars(select(SealedFile).where(SealedFile.build_id == build.id).order_by(SealedFile.name)))


def build_secret_row(build_id: int, name: str) -> str:
    """The row that a build's secret is sealed for."""
    return f"secret:{build_id}:{name}"


def _refuse_unfit(session: Session, machine: Machine, instead_of: int | None = None) -> None:
    if machine.protected:
        hint = f"if you are sure: `provisioner machine edit {machine.name} --no-protected`"
        raise Protected(f"{machine.name} is protected: no build, no wipe", hint=hint)
    if machine.state == MachineState.RETIRED:
        raise IllegalTransition(
            f"{machine.name} is retired", hint=f"`provisioner machine edit {machine.name} --no-retired`"
        )
    build = latest_build(session, machine)
    if build is not None and build.id == instead_of and phase(build) is Phase.ARMED:
        return
    if instead_of is not None:
        raise IllegalTransition(
            f"the build of {machine.name} that was to be sealed again is not armed any more",
            hint=f"see `provisioner build show {machine.name}`",
        )
    if build is not None and phase(build) in RUNNING:
        raise IllegalTransition(
            f"{machine.name} already has build {build.number}, which is {build.state}",
            hint=f"wait for it, or `provisioner build cancel {machine.name}`",
        )


def _next_number(session: Session, machine: Machine) -> int:
    newest = session.scalar(select(func.max(Build.number)).where(Build.machine_id == machine.id))
    return (newest or 0) + 1


def _seal(
    session: Session,
    site: Site,
    machine: Machine,
    number: int,
    sealed: Mapping[str, Any],
    files: Mapping[str, str],
    credentials: handoff.Credentials,
) -> Build:
    last = latest_build(session, machine)
    if last is not None and phase(last) not in ENDED:
        # It waits for its handoff's report; the machine is about to be wiped, so none will come.
        is_told = phase(last) is Phase.ARMED  # one that is sealed again: the caller tells why it ended
        apply_trigger(session, last, Trigger.CANCEL, f"build {number} was armed")
        if not is_told:
            add_event(session, last, "cancelled", f"build {number} was armed")
    build = Build(
        machine_id=machine.id,
        machine_name=machine.name,
        number=number,
        state=Phase.ARMED.state,
        sealed=json.loads(json.dumps(sealed)),
        armed_at=now(),
    )
    session.add(build)
    session.flush()
    for name, text in files.items():
        digest = hashlib.sha256(text.encode()).hexdigest()
        session.add(SealedFile(build_id=build.id, name=name, sha256=digest, content=zlib.compress(text.encode(), 9)))
    clear = {
        secret.name: site.keys.open(secret.ciphertext, secret_row(machine.id, secret.name))
        for secret in machine.secrets
    } | dict(credentials.secrets)
    for name in {each for text in files.values() for each in secrets_in(text)} & set(clear):
        check_secret(name, clear[name])
    for name, value in clear.items():
        session.add(
            Secret(build_id=build.id, name=name, ciphertext=site.keys.seal(value, build_secret_row(build.id, name)))
        )
    tool, prepared = sealed_handoff(sealed)
    if tool != handoff.NONE:
        identities.add(session, site.keys, build, prepared, tool, credentials)
    machine.state, machine.flag = MachineState.BUILDING, ""
    return build


def _armed(session: Session, actor: Actor, build: Build, message: str) -> None:
    add_event(session, build, "armed", message)
    record_build(session, actor, build, before=None)


def record_build(session: Session, actor: Actor, build: Build, before: dict[str, Any] | None) -> None:
    """The revision of what an administrator did to a build."""
    session.flush()
    history.record(
        session,
        actor,
        kind="build",
        object_id=build.id,
        name=f"{build.machine_name}/{build.number}",
        before=before,
        after=build_snapshot(build),
    )


def build_snapshot(build: Build) -> dict[str, Any]:
    """A build as revisions keep it."""
    return {
        "machine": build.machine_name,
        "number": build.number,
        "state": build.state,
        "outcome": build.outcome,
        "released": build.released,
    }
