"""`provisioner machine`."""

from pathlib import Path
from typing import Any

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
from provisioner.cli.nouns import add_rename_and_remove
from provisioner.core.localboot import WAYS
from provisioner.errors import InvalidInput, NotFound
from provisioner.services import machines, quarantine
from provisioner.services.machines import InterfaceInput

COLUMNS = ("name", "state", "profile", "macs", "ips", "protected", "flag")


@click.group()
def machine() -> None:
    """Physical servers: interfaces, addresses, profile, parameters."""


@machine.command("list")
@output_option
@pass_context
def list_(context: Context, /, form: str) -> None:
    """List all machines.

    \b
    Example:
      provisioner machine list --output csv
    """
    empty = "No machines yet. Add one: provisioner machine add web01 --mac 52:54:00:12:34:56 --ip 10.0.2.11"
    print_rows([_row(each) for each in machines.listing(context.site)], form, COLUMNS, empty)


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
    found = machines.search(context.site, fact)
    print_rows([_row(each) for each in found], form, COLUMNS, f"no machine matches {fact}")
    for waiting in quarantine.search(context.site, fact):
        seen = f"{waiting['mac']} (serial {waiting['serial'] or '-'}, last seen {waiting['last_seen']})"
        click.echo(f"in quarantine: {seen}: provisioner machine add NAME --mac {waiting['mac']}", err=True)
    if not found:
        raise SystemExit(NotFound.exit_code)


@machine.command()
@click.argument("name")
@output_option
@pass_context
def show(context: Context, /, name: str, form: str) -> None:
    """Show a machine, by its name or any spelling of a MAC."""
    print_object(machines.show(context.site, name), form)


def _interfaces(changes: dict[str, Any]) -> list[InterfaceInput] | None:
    macs, ips, full = (changes.pop(key) for key in ("macs", "ips", "full"))
    if full and (macs or ips):
        raise InvalidInput("--interface says it all", where="--interface", hint="leave --mac and --ip out")
    if full:
        return [_interface(text) for text in full]
    if len(ips) > len(macs):
        raise InvalidInput(
            "more --ip than --mac", where="--ip", hint="give each interface as --interface mac=...,ip=...,name=..."
        )
    if not macs:
        return None
    return [InterfaceInput(mac, ips[index] if index < len(ips) else None) for index, mac in enumerate(macs)]


def _interface(text: str) -> InterfaceInput:
    pairs = dict(part.partition("=")[::2] for part in text.split(","))
    if set(pairs) - {"mac", "ip", "name", "subnet"} or "mac" not in pairs:
        raise InvalidInput(
            f"{text!r} is not an interface", where="--interface", hint="write mac=52:54:..,ip=10.0.2.11,name=eth0"
        )
    return InterfaceInput(pairs["mac"], pairs.get("ip"), pairs.get("name"), pairs.get("subnet"))


def _added(text: str) -> InterfaceInput:
    if "=" in text:
        return _interface(text)
    mac, _, ip = text.partition(",")
    return InterfaceInput(mac, ip or None)


_shared = options(
    click.option("--mac", "macs", multiple=True, help="MAC address, in any spelling; once for each interface."),
    click.option("--ip", "ips", multiple=True, help="Its address; the subnet follows from it."),
    click.option("--interface", "full", multiple=True, metavar="mac=..,ip=..,name=..,subnet=..", help="In full."),
    click.option("--profile", help="What to build."),
    click.option("--description", help="For people."),
    click.option("--serial", help="Serial number, as SMBIOS tells it."),
    click.option("--uuid", help="UUID, as SMBIOS tells it."),
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
    """Add a machine.

    One that waits in quarantine (see `machine discovered`) goes on waiting, until its build is started; its serial
    number and UUID are taken from its own report unless you give them.

    \b
    Examples:
      provisioner machine add web01 --mac 52:54:00:12:34:56 --ip 10.0.2.11 --profile rocky9
      provisioner machine add db01 --interface mac=52-54-00-00-00-01,ip=10.0.2.21,name=eth0 --interface mac=525400000002
    """
    interfaces = _interfaces(changes)
    site = context.site.rehearsing() if dry_run else context.site
    after = machines.add(site, context.actor, name, interfaces or [], fields(changes))
    if dry_run:
        print_change(None, after, dry_run=True)
    elif form == "table":
        waits = " and taken out of quarantine, where it waits switched on" if after["state"] == "discovered" else ""
        then = "build start {}" if after["profile"] else "machine edit {} --profile PROFILE"
        click.echo(f"machine {after['name']} added{waits}; next: provisioner {then.format(after['name'])}")
        if after["flag"]:
            click.secho(f"  flagged: {after['flag']}", fg="yellow")
    else:
        print_object(after, form)


@machine.command()
@click.argument("name")
@_shared
@click.option("--retired/--no-retired", default=None, help="Out of service: it boots its disk, no build.")
@click.option("--ready", is_flag=True, help="A discovered machine stops waiting and boots its disk.")
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
@pass_context
def edit(context: Context, /, name: str, clear_flag: bool, dry_run: bool, **changes: Any) -> None:
    """Change a machine. --mac and --interface replace all interfaces it had; --add-interface adds one.

    \b
    Examples:
      provisioner machine edit web01 --profile rocky9-web --param timezone=Europe/Berlin
      provisioner machine edit web01 --add-interface 52:54:00:12:34:57,10.0.2.12
      provisioner machine edit web01 --secret root_password=-
    """
    interfaces, secrets = _interfaces(changes), changes.pop("secrets")
    plus, minus = [_added(text) for text in changes.pop("plus")], changes.pop("minus")
    if interfaces is not None and (plus or minus):
        raise InvalidInput("--mac and --interface replace all interfaces", hint="use --add-interface alone")
    site = context.site.rehearsing() if dry_run else context.site
    before = machines.show(context.site, name)
    after = machines.edit(site, context.actor, name, fields(changes), interfaces, plus=plus, minus=minus)
    for text in secrets:
        machines.set_secret(site, context.actor, name, *_secret(text))
    if clear_flag:
        machines.clear_flag(site, name)
    print_change(before, after if dry_run else machines.show(site, name), dry_run=dry_run)


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
    with click.open_file(file) as stream:
        value = stream.read().rstrip("\n")
    if not value:
        raise InvalidInput("the secret is empty", where=f"--secret {name}", hint=f"check {Path(file)}")
    return name, value


add_rename_and_remove(machine, machines.show, machines.rename, machines.remove)
