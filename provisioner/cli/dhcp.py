"""`provisioner dhcp`."""

from typing import cast

import click

from provisioner.cli.common import Context, pass_context
from provisioner.errors import NotFound
from provisioner.netboot.dhcp.external import Server, external_config
from provisioner.netboot.dhcp.status import read_status
from provisioner.services import dhcp as wanted


@click.group()
def dhcp() -> None:
    """What DHCP answers: ours, or the configuration for yours."""


@dhcp.command()
@click.option("--server", type=click.Choice(["isc", "kea", "dnsmasq", "windows"]), default="isc", show_default=True)
@click.option("--subnet", help="Only this subnet.")
@click.option("--no-reservations", is_flag=True, help="Leave out the machines' fixed addresses.")
@pass_context
def show(context: Context, /, server: str, subnet: str | None, no_reservations: bool) -> None:
    """Print the configuration that another DHCP server needs, to copy and paste.

    \b
    Example:
      provisioner dhcp show --server kea --subnet lab
    """
    plan = wanted.external_plan(context.site, subnet)
    if not plan.subnets:
        raise NotFound(
            f"there is no subnet {subnet or ''}".rstrip() + " that another DHCP server serves",
            hint="see `provisioner subnet list` (ours serves authoritative ones); add one: `provisioner subnet add`",
        )
    chosen = cast("Server", server)
    click.echo(external_config(plan, chosen, reservations=not no_reservations), nl=False)


@dhcp.command()
@pass_context
def check(context: Context) -> None:
    """Say whether our DHCP server runs, knows every reservation, and what it complains about."""
    if not any(each.mode == "authoritative" for each in wanted.plan(context.site).subnets):
        click.echo("no subnet's DHCP is ours: nothing to check; see `provisioner subnet list`")
        return
    status = read_status(context.settings.state_dir)
    if status is not None:
        running = f"dnsmasq runs (pid {status.pid})" if status.running else "dnsmasq does not run"
        click.echo(f"{running} on {', '.join(status.interfaces) or 'no interface'}; {status.reservations} reservations")
        for line in (status.error, status.hint and f"  next: {status.hint}", *status.left_out):
            if line:
                click.echo(line)
    if wanted.acknowledged(context.site):
        click.echo("every change is in force")
    else:
        click.echo("some changes are not in force yet: is `provisioner serve` running?")
        raise SystemExit(1)
