"""Machines."""

from typing import Any

from provisioner.errors import (
    AddressOutsideSubnet,
    AddressTaken,
    BuildNotPossible,
    ContentError,
    IdentityConflict,
    IllegalTransition,
    MacTaken,
    MalformedMac,
    NameTaken,
    NoAddressFree,
    Protected,
    StillInUse,
    UnknownReference,
)
from provisioner.services import ansible, arming, asof, explain, interfaces, listing, machines, rows, upsert
from provisioner.services.interfaces import InterfaceInput
from provisioner.services.resolve import BuildRequest
from provisioner.web.api.operations import Call, Operations
from provisioner.web.api.shapes.builds import BuildBody
from provisioner.web.api.shapes.common import Rename
from provisioner.web.api.shapes.explained import AnsibleInventory, BootView, ExplainView, HostVariables, RenderView
from provisioner.web.api.shapes.machines import (
    AnsibleQuery,
    AsOf,
    BootQuery,
    MachineBody,
    MachineChange,
    MachinePage,
    MachineQuery,
    MachineRow,
    MachineUpsert,
    MachineView,
    SecretBody,
)

operations = Operations()
_WRITES = (MalformedMac, MacTaken, AddressTaken, AddressOutsideSubnet, UnknownReference, NoAddressFree)


@operations.add("GET", "/machines", noun="machines", query=MachineQuery, answer=MachinePage)
def list_machines(call: Call) -> Any:
    """List machines, a page at a time."""
    return listing.machines(call.site, **call.query.given())


@operations.add(
    "POST", "/machines", noun="machines", body=MachineBody, answer=MachineView, status=201, errors=(NameTaken, *_WRITES)
)
def add_machine(call: Call) -> Any:
    """Add a machine.

    It is `ready`; one that waits in quarantine goes on waiting, unless the body says `ready`.
    """
    fields = call.body.given()
    return machines.add(call.site, call.actor, fields.pop("name"), _interfaces(fields) or [], fields)


@operations.add(
    "POST", "/machines:row", noun="machines", body=MachineBody, answer=MachineRow, errors=(NameTaken, *_WRITES)
)
def add_row_of_machines(call: Call) -> Any:
    """Add the machines that a name such as `n[001-040]` stands for, all of them or none.

    MACs and addresses that end in `+` count upwards; addresses that the subnet does not give are passed over.
    """
    fields = call.body.given()
    name = fields.pop("name")
    return {"items": rows.add(call.site, call.actor, name, _interfaces(fields) or [], fields)}


@operations.add("GET", "/machines:ansible", noun="machines", query=AnsibleQuery, answer=AnsibleInventory)
def list_machines_for_ansible(call: Call) -> Any:
    """Machines as Ansible's inventory scripts answer `--list`; secrets are in no variable."""
    return ansible.inventory(call.site, retired=bool(call.query.retired))


@operations.add("GET", "/machines/{name}/ansible", noun="machines", answer=HostVariables)
def show_machine_for_ansible(call: Call) -> Any:
    """One machine's variables, as Ansible's inventory scripts answer `--host`."""
    return ansible.host(call.site, call.names["name"])


@operations.add("GET", "/machines/{name}", noun="machines", query=AsOf, answer=MachineView)
def show_machine(call: Call) -> Any:
    """Show a machine, by its name or any spelling of one of its MACs."""
    if call.query.as_of:
        return asof.machine(call.site, call.names["name"], call.query.as_of)
    return machines.show(call.site, call.names["name"])


@operations.add(
    "PATCH",
    "/machines/{name}",
    noun="machines",
    body=MachineChange,
    answer=MachineView,
    match=True,
    errors=(*_WRITES, StillInUse, IllegalTransition),
)
def change_machine(call: Call) -> Any:
    """Change a machine: the fields that are sent."""
    fields = call.body.given()
    inputs = _interfaces(fields)
    return machines.edit(call.site, call.actor, call.names["name"], fields, inputs, expect=call.expect)


@operations.add("DELETE", "/machines/{name}", noun="machines", match=True, errors=(Protected, StillInUse))
def remove_machine(call: Call) -> None:
    """Remove a machine; its tokens die with it, its builds and history stay."""
    machines.remove(call.site, call.actor, call.names["name"], expect=call.expect)


@operations.add(
    "POST", "/machines/{name}:rename", noun="machines", body=Rename, answer=MachineView, match=True, errors=(NameTaken,)
)
def rename_machine(call: Call) -> Any:
    """Give a machine another name; its builds keep the name they were armed with."""
    return machines.rename(call.site, call.actor, call.names["name"], call.body.name, expect=call.expect)


@operations.add(
    "PUT",
    "/machines/by-mac/{mac}",
    noun="machines",
    body=MachineUpsert,
    answer=MachineView,
    errors=(IdentityConflict, NameTaken, *_WRITES, StillInUse, IllegalTransition),
)
def put_machine(call: Call) -> Any:
    """Add the machine with this MAC, or bring it up to date; the same body again changes nothing.

    It is found by any of its MACs, then by serial number, then by UUID; fillers of firmware match nothing. Where they
    name different machines it is refused, with both sides shown, and never merged.
    """
    view, created = upsert.upsert(call.site, call.actor, call.names["mac"], call.body.given())
    return view, 201 if created else 200


@operations.add("POST", "/machines/{name}:clear-flag", noun="machines", answer=MachineView)
def clear_machine_flag(call: Call) -> Any:
    """Somebody looked at what was flagged."""
    machines.clear_flag(call.site, call.names["name"])
    return machines.show(call.site, call.names["name"])


@operations.add("PUT", "/machines/{name}/secrets/{secret}", noun="machines", body=SecretBody, match=True)
def put_machine_secret(call: Call) -> None:
    """Give a machine a secret for its builds; `root_password` is kept as a crypt hash."""
    machines.set_secret(
        call.site, call.actor, call.names["name"], call.names["secret"], call.body.value, expect=call.expect
    )


@operations.add("DELETE", "/machines/{name}/secrets/{secret}", noun="machines", match=True)
def remove_machine_secret(call: Call) -> None:
    """Take a secret away."""
    machines.set_secret(call.site, call.actor, call.names["name"], call.names["secret"], None, expect=call.expect)


@operations.add(
    "GET",
    "/machines/{name}/render",
    noun="machines",
    query=AsOf,
    answer=RenderView,
    errors=(ContentError, BuildNotPossible),
)
def render_machine(call: Call) -> Any:
    """Render what a build started now would be sealed with, tokens masked."""
    if call.query.as_of:
        return asof.render(call.site, call.names["name"], call.query.as_of)
    return _rendered(call, BuildRequest())


@operations.add(
    "POST",
    "/machines/{name}:render",
    noun="machines",
    verb="read",
    body=BuildBody,
    answer=RenderView,
    errors=(ContentError, BuildNotPossible),
)
def render_machine_with(call: Call) -> Any:
    """Render what a build started now with these values would be sealed with, tokens masked. Nothing is changed."""
    return _rendered(call, BuildRequest(call.body.parameters, call.body.kernel_options))


@operations.add(
    "GET",
    "/machines/{name}/explain",
    noun="machines",
    answer=ExplainView,
    errors=(BuildNotPossible, UnknownReference),
)
def explain_machine(call: Call) -> Any:
    """Each effective value of the machine and where it came from."""
    return arming.explain(call.site, call.names["name"])


@operations.add("GET", "/machines/{name}/boot", noun="machines", query=BootQuery, answer=BootView)
def explain_boot(call: Call) -> Any:
    """The whole chain that this firmware would get now, and what decided."""
    return explain.boot(call.site, call.names["name"], call.query.arch, call.query.source)


def _rendered(call: Call, wanted: BuildRequest) -> dict[str, Any]:
    name = machines.show(call.site, call.names["name"])["name"]
    files = arming.preview(call.site, name, wanted)
    because = "as a build started now would be sealed"
    return {"machine": name, "files": files, "source": "now", "because": because, "build": None, "as_of": None}


def _interfaces(fields: dict[str, Any]) -> list[InterfaceInput] | None:
    given = fields.pop("interfaces", None)
    return None if given is None else interfaces.parse(given)
