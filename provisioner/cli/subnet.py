"""`provisioner subnet`."""

from collections.abc import Mapping, Sequence
from typing import Any

import click

from provisioner.cli.common import (
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
from provisioner.cli.nouns import add_changes_of_name
from provisioner.cli.radius import print_rehearsed, rehearsal_option
from provisioner.core.addresses import range_parts
from provisioner.core.choices import DHCP_MODES

COLUMNS = ("name", "cidr", "gateway", "dns", "dhcp", "ranges", "boot_url")


@click.group()
def subnet() -> None:
    """Networks: addresses, gateway, DNS, who answers DHCP, and the URL under which machines there reach us."""


_shared = options(
    click.option("--gateway", help="The default route."),
    click.option("--dns", multiple=True, help="A name server; several times for more."),
    click.option("--domain", help="The domain of its machines."),
    click.option(
        "--dhcp",
        type=click.Choice(DHCP_MODES),
        help="Who answers DHCP there: nobody of us (off), we with addresses (authoritative), we with boot information "
        "beside another server (proxy), another server that you configure (external).",
    ),
    click.option(
        "--range",
        "ranges",
        multiple=True,
        metavar="[KIND:]START-END",
        help="What addresses are for: static (given when somebody asks for a free one), dynamic (DHCP gives them to "
        "unknown machines; the default), reserved (never given). Replaces all ranges; '' removes them.",
    ),
    click.option("--boot-url", help="The boot plane as machines there reach it."),
    click.option("--media-url", help="Media as machines there reach it."),
    *PARAMETER_OPTIONS,
)


@subnet.command("list")
@output_option
@pass_context
def list_(context: Context, /, form: str) -> None:
    """List all subnets."""
    empty = "No subnets yet. Add one: provisioner subnet add lab --cidr 10.0.2.0/24 --gateway 10.0.2.1 --dns 10.0.2.1"
    found = context.client.subnets.every()
    if form in {"table", "csv"}:
        found = [each | {"ranges": _texts(each["ranges"])} for each in found]
    print_rows(found, form, COLUMNS, empty)


@subnet.command()
@click.argument("name")
@output_option
@pass_context
def show(context: Context, /, name: str, form: str) -> None:
    """Show a subnet: its ranges, and how many of its addresses are used, held and free."""
    found = context.client.subnets.show(name)
    shown = found | {"ranges": _texts(found["ranges"]) if form == "table" else found["ranges"]}
    print_object(shown | {"addresses": context.client.subnets.counts(name)}, form)


@subnet.command("addresses")
@click.argument("name")
@output_option
@pass_context
def addresses_(context: Context, /, name: str, form: str) -> None:
    """List the addresses in use, with their machines.

    \b
    Example:
      provisioner subnet addresses lab --output csv
    """
    print_rows(
        context.client.subnets.used(name), form, ("ip", "machine", "interface", "mac"), f"No machine is in {name} yet."
    )


@subnet.command()
@click.argument("name")
@click.option("--count", default=1, show_default=True, help="How many.")
@click.option("--hold", is_flag=True, help="Keep them for you: nobody else is given one meanwhile.")
@click.option("--minutes", default=10, show_default=True, help="How long they are held.")
@output_option
@pass_context
def free(context: Context, /, name: str, count: int, hold: bool, minutes: int, form: str) -> None:
    """Show the next free addresses.

    \b
    Examples:
      provisioner subnet free lab
      provisioner subnet free lab --count 4 --hold
    """
    asked = context.client.subnets
    found = asked.hold(name, count, minutes) if hold else asked.free(name, count)
    if form != "table":
        print_rows([{"ip": ip} for ip in found], form, ("ip",), "")
        return
    for ip in found:
        click.echo(ip)
    if hold:
        click.echo(f"held for you for {minutes} minutes", err=True)


def _texts(ranges: Sequence[Mapping[str, str]]) -> list[str]:
    """Ranges as they are written here."""
    return [f"{each['kind']}:{each['start']}-{each['end']}" for each in ranges]


@subnet.command()
@click.argument("name")
@click.option("--cidr", required=True, help="The network, such as 10.0.2.0/24.")
@_shared
@dry_run_option
@rehearsal_option
@pass_context
def add(context: Context, /, name: str, cidr: str, dry_run: bool, form: str, **changes: Any) -> None:
    """Add a subnet.

    \b
    Examples:
      provisioner subnet add lab --cidr 10.0.2.0/24 --gateway 10.0.2.1 --dns 10.0.2.1 --dhcp authoritative
      provisioner subnet add lab --cidr 10.0.2.0/24 --range static:10.0.2.10-10.0.2.99 --range 10.0.2.100-10.0.2.199
    """
    changing = context.changing(dry_run)
    after = changing.subnets.add(name, {"cidr": cidr, **_fields(changes)})
    if dry_run:
        print_rehearsed(None, after, changing, form)
        return
    click.echo(f"subnet {name} added, DHCP {after['dhcp']}")
    _tell_dhcp(after)


def _tell_dhcp(subnet: Mapping[str, Any]) -> None:
    """What is to be done so that machines there boot from here."""
    show = f"provisioner dhcp show --subnet {subnet['name']}"
    told = {
        "authoritative": "our dnsmasq answers there while `provisioner serve` runs: provisioner dhcp check",
        "proxy": f"nothing to configure on the DHCP server there; what machines get: {show}",
    }
    click.echo("  " + told.get(subnet["dhcp"], f"the DHCP server there must point machines here: {show}"))


@subnet.command()
@click.argument("name")
@_shared
@dry_run_option
@rehearsal_option
@pass_context
def edit(context: Context, /, name: str, dry_run: bool, form: str, **changes: Any) -> None:
    """Change a subnet. With --dry-run every machine in it is rendered as it is and as it would be.

    \b
    Example:
      provisioner subnet edit lab --dhcp external --dry-run
    """
    before = context.client.subnets.show(name)
    changing = context.changing(dry_run)
    after = changing.subnets.edit(name, _fields(changes), before["revision"])
    if dry_run:
        print_rehearsed(before, after, changing, form)
    else:
        print_change(before, after, dry_run=False)
        if after["dhcp"] != before["dhcp"]:
            _tell_dhcp(after)


def _fields(changes: dict[str, Any]) -> dict[str, Any]:
    found = fields(changes)
    if "ranges" in found:
        # '' removes them.
        found["ranges"] = [
            dict(zip(("kind", "start", "end"), range_parts(text), strict=True)) for text in found["ranges"] if text
        ]
    return found


add_changes_of_name(subnet, lambda client: client.subnets)
