"""The fields of a machine as somebody sends them."""

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy.orm import Session

from provisioner.core import fields as checked
from provisioner.core.facts import SERIAL_CHARACTERS, serial_text, uuid_text
from provisioner.core.lifecycle import RUNNING, MachineState
from provisioner.core.localboot import check_way
from provisioner.core.parameters import check_kernel_options, merged_parameters
from provisioner.errors import IllegalTransition, InvalidInput, StillInUse
from provisioner.services import objects
from provisioner.services.lives import latest_build, phase
from provisioner.store.models import Machine, MachineTag, Profile


def apply(session: Session, machine: Machine, fields: Mapping[str, Any]) -> None:
    """Put the fields into the machine, checked; what is left out stays. Errors carry the field's pointer."""
    known = {*_PLAIN, "profile", "tags", "protected", "retired", "ready"}
    unknown = set(fields) - known
    if unknown:
        raise InvalidInput(
            f"a machine has no {', '.join(sorted(map(str, unknown)))}", hint=f"it has {', '.join(sorted(known))}"
        )
    for key, check in _PLAIN.items():
        if key in fields:
            setattr(machine, key, check(machine, fields[key]))
    if "profile" in fields:
        wanted = checked.text(fields["profile"], "/profile", 64)
        machine.profile = objects.refer(session, Profile, wanted, "/profile") if wanted else None
    if "tags" in fields:
        _tag(machine, checked.tags(fields["tags"] or [], "/tags"))
    _apply_state(session, machine, fields)


def _options(_machine: Machine, value: Any) -> list[str]:
    options = checked.several(value or [], "/kernel_options", checked.MOST_OPTIONS)
    return check_kernel_options(options, "/kernel_options")


def _way(_machine: Machine, value: Any) -> str | None:
    wanted = checked.text(value, "/local_boot", 32)
    return check_way(wanted, "/local_boot") if wanted else None


def _uuid(_machine: Machine, value: Any) -> str | None:
    try:
        return uuid_text(checked.text(value, "/uuid", 128))
    except InvalidInput as error:
        error.where = "/uuid"
        raise


# A dummy serial number or UUID is kept, since an inventory copies what firmware says; it identifies nothing
# (core.facts).
_PLAIN: Mapping[str, Callable[[Machine, Any], Any]] = {
    "description": lambda _, value: checked.text(value, "/description"),
    "parameters": lambda machine, value: merged_parameters(machine.parameters, value or {}),
    "kernel_options": _options,
    "local_boot": _way,
    "inventory": lambda _, value: checked.inventory(value, "/inventory"),
    "serial": lambda _, value: serial_text(checked.text(value, "/serial", SERIAL_CHARACTERS)),
    "uuid": _uuid,
}


def _tag(machine: Machine, wanted: list[str]) -> None:
    kept = {each.tag: each for each in machine.tags}
    if set(kept) != set(wanted):
        machine.tags = [kept.get(tag) or MachineTag(tag=tag) for tag in wanted]


def _apply_state(session: Session, machine: Machine, fields: Mapping[str, Any]) -> None:
    if fields.get("protected") is not None:
        _set_protected(session, machine, protected=checked.flag(fields["protected"], "/protected"))
    if fields.get("retired") is not None:
        _set_retired(session, machine, retired=checked.flag(fields["retired"], "/retired"))
    if fields.get("ready") is not None and checked.flag(fields["ready"], "/ready"):
        _set_ready(machine)


def _set_protected(session: Session, machine: Machine, *, protected: bool) -> None:
    if machine.protected != protected:
        _refuse_running(session, machine, "protected")
    machine.protected = protected


def _set_retired(session: Session, machine: Machine, *, retired: bool) -> None:
    if (machine.state == MachineState.RETIRED) != retired:
        _refuse_running(session, machine, "retired")
    if retired:
        machine.state = MachineState.RETIRED
    elif machine.state == MachineState.RETIRED:
        machine.state = MachineState.READY


def _set_ready(machine: Machine) -> None:
    """A discovered machine stops waiting and boots its disk."""
    if machine.state not in {MachineState.DISCOVERED, MachineState.READY}:
        raise IllegalTransition(
            f"{machine.name} is {machine.state}; only a discovered machine can be made ready",
            hint=f"see `provisioner machine show {machine.name}`",
        )
    machine.state = MachineState.READY


def _refuse_running(session: Session, machine: Machine, what: str) -> None:
    build = latest_build(session, machine) if machine.id else None
    if build is not None and phase(build) in RUNNING:
        raise StillInUse(
            f"{machine.name} is being built and cannot be {what} meanwhile",
            hint=f"`provisioner build cancel {machine.name}` first",
        )
