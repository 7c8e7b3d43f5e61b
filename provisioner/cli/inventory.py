"""`provisioner inventory`: NetBox in, Ansible out."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click

from provisioner.cli.common import Context, confirm, dry_run_option, output_option, pass_context, print_object
from provisioner.errors import Conflict, InvalidInput

_MOST_SHOWN = 50


@click.group(invoke_without_command=True)
@click.option("--list", "everyone", is_flag=True, help="Every machine, as Ansible's inventory scripts answer.")
@click.option("--host", metavar="NAME", help="One machine's variables.")
@click.option("--retired", is_flag=True, help="With --list: retired machines too.")
@click.pass_context
def inventory(ctx: click.Context, /, everyone: bool, host: str | None, retired: bool) -> None:
    """Machines for Ansible, and machines from NetBox.

    Groups are profile_NAME, state_NAME, subnet_NAME and tag_NAME. Parameters are variables; secrets are not shown.

    \b
    Examples:
      provisioner inventory --list
      provisioner inventory sync netbox --dry-run
      ansible-inventory -i inventory.sh --graph       # inventory.sh: exec provisioner inventory "$@"
    """
    if ctx.invoked_subcommand is not None:
        if everyone or host or retired:
            raise InvalidInput("--list and --host stand alone", hint="leave them out, or leave the command out")
        return
    context = ctx.ensure_object(Context)
    if everyone and host:
        raise InvalidInput("--list or --host, not both", hint="--list holds every machine's variables already")
    if host:
        click.echo(json.dumps(context.client.machines.ansible_host(host), indent=2))
    elif everyone:
        click.echo(json.dumps(context.client.machines.ansible(retired=retired), indent=2))
    else:
        click.echo(ctx.get_help())


@inventory.group()
def sync() -> None:
    """Bring in what an inventory says of machines."""


@sync.command("netbox")
@dry_run_option
@click.option("--yes", is_flag=True, help="Apply the plan without asking.")
@output_option
@pass_context
def sync_netbox(context: Context, /, dry_run: bool, yes: bool, form: str) -> None:
    """Make and change machines as NetBox's devices say; shows the plan and asks first.

    Where NetBox is and which devices are machines says the setting `netbox`. Machines that NetBox no longer has are
    flagged, never removed. Devices that contradict machines here are refused (exit code 4); the others are applied.

    \b
    Examples:
      provisioner inventory sync netbox --dry-run
      provisioner inventory sync netbox --yes          # daily, by cron or a timer
    """
    from provisioner.cli.radius import print_radius, progress  # noqa: PLC0415 - with the services
    from provisioner.services import netbox, radius  # noqa: PLC0415 - works with the database of this host

    watch = radius.Watch(context.site)
    site = context.site.rehearsing(watch) if dry_run else context.site
    planned = netbox.plan(site, context.actor, _progress)
    plain = form == "table"
    if plain:
        _show(planned)
    if dry_run:
        planned = planned | {"radius": radius.report(context.site, watch, progress())}
    if plain and dry_run:
        print_radius(planned["radius"])
    if dry_run or not _changes(planned):
        _ended(planned, form, "(dry run: nothing was changed)" if dry_run else "nothing to change")
        return
    if not yes:
        confirm("Apply this?", err=not plain)
    done = netbox.apply(context.site, context.actor, planned, _applying)
    flagged = f", {len(done['flagged'])} flagged" if done["flagged"] else ""
    _ended(planned | done, form, f"{len(done['created'])} created, {len(done['changed'])} changed{flagged}")


def _ended(outcome: Mapping[str, Any], form: str, words: str) -> None:
    if form == "table":
        click.echo(words)
    else:
        print_object(outcome, form)
    if outcome["refused"]:
        raise Conflict(
            f"{len(outcome['refused'])} of NetBox's devices are refused; nothing was changed for them",
            hint="mend them in NetBox or here, as each line above says, then sync again",
        )


def _changes(planned: Mapping[str, Any]) -> bool:
    return bool(planned["created"] or planned["changed"] or planned["missing"])


def _progress(done: int, total: int) -> None:
    if sys.stderr.isatty():
        click.echo(f"\rNetBox: {done} of {total} devices read ", nl=done >= total, err=True)


def _applying(what: str, done: int, total: int) -> None:
    if sys.stderr.isatty():
        click.echo(f"\r{what}: {done} of {total} machines ", nl=done >= total, err=True)


def _show(planned: Mapping[str, Any]) -> None:
    """The plan, a machine a line."""
    _lines("green", (f"+ {each['name']}  {_in_short(each['machine'])}" for each in planned["created"]))
    changed = ((each["name"], change) for each in planned["changed"] for change in each["changes"])
    _lines("yellow", (f"~ {name}  {each['pointer']}: {_value(each, 'before')} -> {_value(each, 'after')}"
                      for name, each in changed))  # fmt: skip
    _lines("magenta", (f"? {name}  is not in NetBox any more: is flagged" for name in planned["missing"]))
    _lines(
        "red",
        (
            f"! {each['name']} ({each['inventory']}) refused: {each['reason']} [{each['code']}]"
            for each in planned["refused"]
        ),
    )
    _lines("", (f"  note: {note}" for note in planned["notes"]))
    left_out = planned["left_out"]
    _lines("", (f"  left out: netbox/{each['id']} {each['name'] or '-'}: {each['reason']}" for each in left_out))
    counts = [f"{len(planned[key])} {word}" for key, word in (("created", "to create"), ("changed", "to change"))]
    counts += [f"{planned['unchanged']} as they are", f"{len(planned['missing'])} missing"]
    counts += [f"{len(planned['refused'])} refused", f"{len(left_out)} left out"]
    click.echo(", ".join(counts))
    if len(planned["parts"]) > 1:
        sizes = ", ".join(str(each["machines"]) for each in planned["parts"])
        click.echo(f"these are {len(planned['parts'])} plans, of {sizes} machines: each is applied whole or not at all")


def _lines(colour: str, lines: Iterable[str]) -> None:
    everything: Sequence[str] = list(lines)
    for line in everything[:_MOST_SHOWN]:
        click.secho(_printable(line), fg=colour or None)
    if len(everything) > _MOST_SHOWN:
        click.echo(f"  ... and {len(everything) - _MOST_SHOWN} more such lines; --output json shows all")


def _printable(line: str) -> str:
    """Names come from people and may hold what moves a terminal's cursor."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in line)


def _in_short(machine: Mapping[str, Any]) -> str:
    nics = ", ".join(" ".join(filter(None, (nic["mac"], nic["ip"]))) for nic in machine["interfaces"])
    return f"{nics}; profile {machine['profile'] or '-'}"


def _value(change: Mapping[str, Any], side: str) -> str:
    return json.dumps(change[side], ensure_ascii=False)[:200]
