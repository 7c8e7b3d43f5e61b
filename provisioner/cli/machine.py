"""`provisioner machine`."""

from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, TypeAlias

import click

from provisioner.cli.common import (
    KERNEL_OPTION,
    PARAMETER_OPTIONS,
    Context,
    dry_run_option,
    fields,
    options,
    output_option,
    pass_context,
    print_change,
    print_object,
    print_rows,
)
from provisioner.cli.nouns import add_changes_of_name, as_of_option
from provisioner.cli.radius import print_rehearsed, rehearsal_option
from provisioner.core.addresses import normal_mac
from provisioner.core.lifecycle import MachineState
from provisioner.core.localboot import WAYS
from provisioner.errors import InvalidInput, NotFound, cause

Interface: TypeAlias = dict[str, Any]
_NEXT_FREE = "next"
COLUMNS = ("name", "state", "profile", "macs", "ips", "tags", "protected", "flag")


@click.group()
def machine() -> None:
    """Physical servers: interfaces, addresses, profile, parameters."""


@machine.command("list")
@click.option("--state", type=click.Choice([str(each) for each in MachineState]), help="Only those in this state.")
@click.option("--profile", help="Only those with this profile.")
@click.option("--subnet", help="Only those with an interface in this subnet.")
@click.option("--tag", help="Only those with this tag.")
@click.option("--search", "q", help="Only those that have every word in name, serial, UUID, address or MAC.")
@click.option("--flagged/--no-flagged", default=None, help="Only those that somebody should look at.")
@click.option("--protected/--no-protected", default=None, help="Only those that no build may wipe.")
@click.option("--sort", default="name", show_default=True, help="name, state, profile, created_at, updated_at; -name.")
@click.option("--limit", type=click.IntRange(min=1), help="The first so many; all unless given.")
@output_option
@pass_context
def list_(context: Context, /, limit: int | None, form: str, **filters: Any) -> None:
    """List machines: all, or those that every filter chooses.

    \b
    Examples:
      provisioner machine list --output csv
      provisioner machine list --state failed --sort -updated_at --limit 20
    """
    asked = context.client.machines
    found = asked.every(**filters) if limit is None else asked.some(limit, **filters)
    chosen = any(value is not None for key, value in filters.items() if key != "sort")
    empty = "No machines yet. Add one: provisioner machine add web01 --mac 52:54:00:12:34:56 --ip 10.0.2.11"
    empty = "No machine is chosen by these filters; `provisioner machine list` has all" if chosen else empty
    print_rows([_row(each) for each in found], form, COLUMNS, empty)


def _row(each: dict[str, Any]) -> dict[str, Any]:
    interfaces = each["interfaces"]
    addresses = {"macs": [nic["mac"] for nic in interfaces], "ips": [nic["ip"] for nic in interfaces if nic["ip"]]}
    return each | addresses


@machine.command()
@click.argument("fact")
@output_option
@pass_context
def find(context: Context, /, fact: str, form: str) -> None:
    """Find machines by a part of their name, serial, UUID or address, or by any spelling of a MAC.

    \b
    Example:
      provisioner machine find 5254.0012.3456
    """
    found = context.client.machines.every(q=fact)
    empty = f"no machine matches {fact}: see `provisioner machine list`"
    print_rows([_row(each) for each in found], form, COLUMNS, empty)
    for waiting in context.client.discoveries.every(q=fact):
        seen = f"{waiting['mac']} (serial {waiting['serial'] or '-'}, last seen {waiting['last_seen']})"
        click.echo(f"in quarantine: {seen}: provisioner machine add NAME --mac {waiting['mac']}", err=True)
    if not found:
        raise SystemExit(NotFound.exit_code)


@machine.command()
@click.argument("name")
@as_of_option
@output_option
@pass_context
def show(context: Context, /, name: str, as_of: str | None, form: str) -> None:
    """Show a machine, by its name or any spelling of a MAC; with --as-of as it was then, by its name of then.

    \b
    Examples:
      provisioner machine show web01
      provisioner machine show web01 --as-of '2026-11-20 14:30'
    """
    noun = context.client.machines
    print_object(noun.as_of(name, as_of) if as_of else noun.show(name), form)


def _interfaces(changes: dict[str, Any]) -> list[Interface] | None:
    macs, ips, full = (changes.pop(key) for key in ("macs", "ips", "full"))
    if full and (macs or ips):
        raise InvalidInput("--interface says it all", where="--interface", hint="leave --mac and --ip out")
    if full:
        return [_interface(text) for text in full]
    if macs and len(ips) > len(macs):
        raise InvalidInput(
            "more --ip than --mac", where="--ip", hint="give each interface as --interface mac=...,ip=...,name=..."
        )
    pairs = zip_longest(macs, ips)
    return [_with_address(mac, ip) for mac, ip in pairs] or None


def _with_address(mac: str | None, ip: str | None, **more: Any) -> Interface:
    """An address as it is written here: ``next:lab`` is the next free one of the subnet lab."""
    word, _, subnet = (ip or "").partition(":")
    if word == _NEXT_FREE:
        return {"mac": mac, "ip": _NEXT_FREE, "subnet": subnet or None} | more
    return {"mac": mac, "ip": ip or None} | more


def _interface(text: str) -> Interface:
    pairs = dict(part.partition("=")[::2] for part in text.split(","))
    if set(pairs) - {"mac", "ip", "name", "subnet"} or not {"mac", "ip"} & set(pairs):
        raise InvalidInput(
            f"{text!r} is not an interface", where="--interface", hint="write mac=52:54:..,ip=10.0.2.11,name=eth0"
        )
    more = {key: pairs[key] for key in ("name", "subnet") if key in pairs}
    return _with_address(pairs.get("mac") or None, pairs.get("ip"), **more)


def _added(text: str) -> Interface:
    if "=" in text:
        return _interface(text)
    mac, _, ip = text.partition(",")
    return _with_address(mac, ip)


_shared = options(
    click.option("--mac", "macs", multiple=True, help="MAC address, in any spelling; once for each interface."),
    click.option(
        "--ip",
        "ips",
        multiple=True,
        metavar="IP|next:SUBNET",
        help="Its address (the subnet follows from it), or next:lab for the next free one of the subnet lab.",
    ),
    click.option("--interface", "full", multiple=True, metavar="mac=..,ip=..,name=..,subnet=..", help="In full."),
    click.option("--profile", help="What to build."),
    click.option("--description", help="For people."),
    click.option("--serial", help="Serial number, as SMBIOS tells it."),
    click.option("--uuid", help="UUID, as SMBIOS tells it."),
    click.option("--inventory", help="What an inventory calls it, such as netbox/17; '' takes it away."),
    click.option("--tag", "tags", multiple=True, help="A word to find and to group machines by."),
    *PARAMETER_OPTIONS,
    KERNEL_OPTION,
    click.option(
        "--local-boot",
        metavar="WAY",
        help=f"How its firmware gets to the disk, for odd machines: {', '.join(WAYS)}. '' is its profile's way.",
    ),
    click.option("--protected/--no-protected", default=None, help="No build, no wipe."),
)


@machine.command()
@click.argument("name")
@_shared
@click.option("--ready", is_flag=True, help="It need not wait although it is in quarantine: it boots its disk.")
@dry_run_option
@output_option
@pass_context
def add(context: Context, /, name: str, dry_run: bool, form: str, **changes: Any) -> None:
    """Add a machine, or a row of them: n[001-040] is n001 to n040, all added or none.

    In a row, MACs and addresses that end in + count upwards; addresses that the subnet does not give are passed over.
    While a machine's MAC is not known, its address is kept for it.

    One that waits in quarantine (see `machine discovered`) goes on waiting, until its build is started; its serial
    number and UUID are taken from its own report unless you give them.

    \b
    Examples:
      provisioner machine add web01 --mac 52:54:00:12:34:56 --ip 10.0.2.11 --profile rocky9
      provisioner machine add web02 --mac 52:54:00:12:34:57 --ip next:lab --tag web --tag rack-12
      provisioner machine add db01 --interface mac=52-54-00-00-00-01,ip=10.0.2.21,name=eth0 --interface mac=525400000002
      provisioner machine add 'n[001-040]' --ip 10.0.2.1+ --profile rocky9
    """
    interfaces = _interfaces(changes)
    changing = context.changing(dry_run)
    added = changing.machines.add_row(name, {"interfaces": interfaces or [], **fields(changes)})
    if dry_run and len(added) == 1:
        print_rehearsed(None, added[0], changing)
    elif form != "table":
        if len(added) == 1:
            print_object(added[0], form)
        else:
            print_rows([_row(each) for each in added], form, COLUMNS, "")
    elif len(added) == 1:
        _say_added(added[0])
    else:
        print_rows([_row(each) for each in added], form, COLUMNS, "")
        click.echo("(dry run: nothing was changed)" if dry_run else f"{len(added)} machines added")


def _say_added(after: dict[str, Any]) -> None:
    waits = " and taken out of quarantine, where it waits switched on" if after["state"] == "discovered" else ""
    if not any(nic["mac"] for nic in after["interfaces"]):
        then = "machine edit {} --mac MAC"
    else:
        then = "build start {}" if after["profile"] else "machine edit {} --profile PROFILE"
    click.echo(f"machine {after['name']} added{waits}; next: provisioner {then.format(after['name'])}")
    if after["flag"]:
        click.secho(f"  flagged: {after['flag']}", fg="yellow")


@machine.command()
@click.argument("name")
@_shared
@click.option("--retired/--no-retired", default=None, help="Out of service: it boots its disk, no build.")
@click.option("--ready", is_flag=True, help="A discovered machine stops waiting and boots its disk.")
@click.option("--untag", multiple=True, metavar="TAG", help="Take a tag away.")
@click.option("--add-interface", "plus", multiple=True, metavar="MAC[,IP]", help="One more interface.")
@click.option("--remove-interface", "minus", multiple=True, metavar="MAC", help="One interface less.")
@click.option("--clear-flag", is_flag=True, help="Somebody looked at what was flagged.")
@click.option(
    "--secret",
    "secrets",
    multiple=True,
    metavar="NAME=FILE",
    help="A secret for its builds from a file (- is standard input); root_password is hashed. NAME= removes it.",
)
@dry_run_option
@rehearsal_option
@pass_context
def edit(context: Context, /, name: str, clear_flag: bool, dry_run: bool, form: str, **changes: Any) -> None:
    """Change a machine. --mac and --interface replace all interfaces it had; --add-interface adds one.

    A machine whose MAC was not known keeps its address when it is given its --mac.

    \b
    Examples:
      provisioner machine edit web01 --profile rocky9-web --param timezone=Europe/Berlin
      provisioner machine edit web01 --add-interface 52:54:00:12:34:57,10.0.2.12
      provisioner machine edit web01 --secret root_password=-
    """
    # All files are read before anything changes.
    interfaces, secrets = _interfaces(changes), [_secret(text) for text in changes.pop("secrets")]
    plus, minus = [_added(text) for text in changes.pop("plus")], changes.pop("minus")
    tags = changes.pop("tags"), changes.pop("untag")
    if interfaces is not None and (plus or minus):
        raise InvalidInput("--mac and --interface replace all interfaces", hint="use --add-interface alone")
    before = context.client.machines.show(name)
    if plus or minus:
        interfaces = [*_without(before, minus), *plus]
    wanted = fields(changes) | _tagged(before["tags"], tags)
    wanted |= {} if interfaces is None else {"interfaces": interfaces}
    client = context.changing(dry_run)
    changing = client.machines
    after = changing.edit(name, wanted, before["revision"])
    for secret in secrets:
        changing.set_secret(name, *secret)
    if clear_flag:
        changing.clear_flag(name)
    if dry_run:
        print_rehearsed(before, after, client, form)
    else:
        print_change(before, changing.show(name), dry_run=False)


def _without(machine: dict[str, Any], macs: Sequence[str]) -> list[Interface]:
    gone = {normal_mac(mac) for mac in macs}
    missing = gone - {each["mac"] for each in machine["interfaces"]}
    if missing:
        raise NotFound(
            f"{machine['name']} has no interface {', '.join(sorted(missing))}",
            where="--remove-interface",
            hint=f"see `provisioner machine show {machine['name']}`",
        )
    return [each for each in machine["interfaces"] if each["mac"] not in gone]


def _tagged(before: Sequence[str], given: tuple[Sequence[str], Sequence[str]]) -> dict[str, Any]:
    """The tags as they will be; nothing where neither --tag nor --untag is given."""
    more, less = given[0], {each.strip().lower() for each in given[1]}
    if not (more or less):
        return {}
    return {"tags": [each for each in (*before, *more) if each.strip().lower() not in less]}


def _secret(text: str) -> tuple[str, str | None]:
    name, equals, file = text.partition("=")
    if not equals:
        raise InvalidInput(
            f"{name!r} has no file: a secret on the command line would be seen in the process list",
            where="--secret",
            hint=f"write --secret {name}=- and pipe it in",
        )
    if not file:
        return name, None
    try:
        with click.open_file(file) as stream:
            value = stream.read().rstrip("\n")
    except (OSError, UnicodeDecodeError) as error:
        hint = f"check {file}, or pipe it in: --secret {name}=-"
        raise InvalidInput(f"the secret cannot be read: {cause(error)}", where=f"--secret {name}", hint=hint) from error
    if not value:
        raise InvalidInput("the secret is empty", where=f"--secret {name}", hint=f"check {Path(file)}")
    return name, value


add_changes_of_name(machine, lambda client: client.machines)
