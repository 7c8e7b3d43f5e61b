"""`provisioner dhcp`."""

from typing import TYPE_CHECKING, cast

import click

from provisioner.cli.common import Context, pass_context
from provisioner.errors import NotFound

if TYPE_CHECKING:
    from provisioner.core.dhcpservers.external import Server


@click.group()
def dhcp() -> None:
    """What DHCP answers: ours, or the configuration for yours."""


@dhcp.command()
@click.option("--server", type=click.Choice(["isc", "kea", "dnsmasq", "windows"]), default="isc", show_default=True)
@click.option("--subnet", help="Only this subnet.")
@click.option("--no-reservations", is_flag=True, help="Leave out the machines' fixed addresses.")
@pass_context
def show(context: Context, /, server: str, subnet: str | None, no_reservations: bool) -> None:
    """Print the configuration that another DHCP server needs, to copy and paste; for a subnet in proxy mode, what to
    expect there.

    \b
    Example:
      provisioner dhcp show --server kea --subnet lab
    """
    from provisioner.core.dhcpservers.external import external_config  # noqa: PLC0415 - only this command works with the database of this host
    from provisioner.netboot.proxydhcp.expect import expectation  # noqa: PLC0415
    from provisioner.services import dhcp as wanted  # noqa: PLC0415

    plan = wanted.external_plan(context.site, subnet)
    proxied = wanted.proxied(context.site, subnet)
    for each in proxied:
        # Beside a configuration it would be pasted with it.
        click.echo(expectation(each), nl=False, err=bool(plan.subnets))
    if proxied and not plan.subnets:
        return
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
    """Say whether our DHCP server and proxy run, know every reservation, and what they complain about."""
    from provisioner.netboot.dhcp.status import read_status  # noqa: PLC0415 - only this command works with the database of this host
    from provisioner.services import dhcp as wanted  # noqa: PLC0415

    modes = {each.mode for each in wanted.plan(context.site).subnets}
    if not modes & {"authoritative", "proxy"}:
        click.echo("no subnet's DHCP is ours: nothing to check; see `provisioner subnet list`")
        return
    proxy_is_well = "proxy" not in modes or _tell_proxy(context)
    status = read_status(context.settings.state_dir)
    if status is not None and "authoritative" in modes:
        where = f" (pid {status.pid}) on {', '.join(status.interfaces) or 'no interface'}"
        running = f"dnsmasq runs{where}" if status.running else "dnsmasq does not run"
        click.echo(f"{running}; {status.reservations} reservations")
        for line in (status.error, status.hint and f"  next: {status.hint}", *status.left_out):
            if line:
                click.echo(line)
    if wanted.acknowledged(context.site):
        click.echo("every change is in force")
    else:
        click.echo("some changes are not in force yet: is `provisioner serve` running?")
        raise SystemExit(1)
    if not proxy_is_well:
        raise SystemExit(1)


def _tell_proxy(context: Context) -> bool:
    """Say how the proxy fares; whether it answers everywhere it should."""
    from provisioner.services import dhcp as wanted  # noqa: PLC0415

    report = wanted.proxy_report(context.site)
    if not report.running:
        click.echo("the proxy does not run\n  next: start `provisioner serve`")
        return False
    answers = "1 answer" if report.answers == 1 else f"{report.answers} answers"
    click.echo(f"the proxy runs on {', '.join(report.interfaces) or 'no interface'}; {answers} since its start")
    if report.dropped:
        click.echo(
            f"  {report.dropped} datagrams dropped: broken, from outside its subnets, or too many from one sender"
        )
    for line in (report.error, report.hint and f"  next: {report.hint}"):
        if line:
            click.echo(line)
    return not report.error and bool(report.interfaces)
