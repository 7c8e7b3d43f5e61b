"""`provisioner subnet`."""

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
from provisioner.cli.nouns import add_rename_and_remove
from provisioner.services import subnets

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
        type=click.Choice(subnets.DHCP_MODES),
        help="Who answers DHCP there: nobody of us (off), we with addresses (authoritative), we with boot information "
        "beside another server (proxy), another server that you configure (external).",
    ),
    click.option("--range", "ranges", multiple=True, metavar="START-END", help="Addresses for unknown machines."),
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
    print_rows(subnets.listing(context.site), form, COLUMNS, empty)


@subnet.command()
@click.argument("name")
@output_option
@pass_context
def show(context: Context, /, name: str, form: str) -> None:
    """Show a subnet."""
    print_object(subnets.show(context.site, name), form)


@subnet.command()
@click.argument("name")
@click.option("--cidr", required=True, help="The network, such as 10.0.2.0/24.")
@_shared
@dry_run_option
@pass_context
def add(context: Context, /, name: str, cidr: str, dry_run: bool, **changes: Any) -> None:
    """Add a subnet.

    \b
    Example:
      provisioner subnet add lab --cidr 10.0.2.0/24 --gateway 10.0.2.1 --dns 10.0.2.1 --dhcp authoritative
    """
    site = context.site.rehearsing() if dry_run else context.site
    after = subnets.add(site, context.actor, name, cidr, fields(changes))
    if dry_run:
        print_change(None, after, dry_run=True)
        return
    click.echo(f"subnet {name} added, DHCP {after['dhcp']}")
    if after["dhcp"] == "proxy":
        click.echo(
            f"  nothing to configure on the DHCP server there; what machines get: provisioner dhcp show --subnet {name}"
        )
    elif after["dhcp"] != "authoritative":
        click.echo(f"  the DHCP server there must point machines here: provisioner dhcp show --subnet {name}")


@subnet.command()
@click.argument("name")
@_shared
@dry_run_option
@pass_context
def edit(context: Context, /, name: str, dry_run: bool, **changes: Any) -> None:
    """Change a subnet.

    \b
    Example:
      provisioner subnet edit lab --dhcp external --dry-run
    """
    site = context.site.rehearsing() if dry_run else context.site
    before = subnets.show(context.site, name)
    print_change(before, subnets.edit(site, context.actor, name, fields(changes)), dry_run=dry_run)


add_rename_and_remove(subnet, subnets.show, subnets.rename, subnets.remove)
