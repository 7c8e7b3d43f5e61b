"""`provisioner init`, `serve` and `check`."""

import click

from provisioner.cli.common import Context, dry_run_option, output_option, pass_context, print_rows
from provisioner.cli.content import rehearse_shipped


@click.command()
@dry_run_option
@pass_context
def init(context: Context, /, dry_run: bool) -> None:
    """Make the state directory, keys, certificate, database, shipped content, and print the admin password once.

    Safe to run again: it keeps every key and password, and brings an older database up to this program. Of an
    installation that is there already --dry-run shows which shipped profiles and templates would be brought up to date,
    and what that does to which machines.

    \b
    Example:
      provisioner init --dry-run       # after a new version of Provisioner was installed
    """
    if dry_run:
        rehearse_shipped(context)
        return
    from provisioner.services import setup  # noqa: PLC0415 - only this command works with the database of this host

    made = setup.init(context.settings, context.actor)
    click.echo(f"state directory   {context.settings.state_dir}")
    click.echo(f"database          {_without_password(context.settings.database)}")
    click.echo(f"certificate       SHA-256 {made.fingerprint}")
    click.echo(f"content           {made.changes} profiles and templates loaded")
    if made.without:
        click.echo(f"note              no loader for the local disks of UEFI machines: {made.without}", err=True)
        click.echo(f"                  {made.without.hint}, then provisioner init again", err=True)
    if made.admin_password:
        click.echo(f"admin password    {made.admin_password}   (user admin; shown only now)")
    click.echo("next: provisioner serve")


def _without_password(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    user, at, host = rest.rpartition("@")
    return f"{scheme}{separator}{user.partition(':')[0]}{at}{host}"


@click.command()
@pass_context
def serve(context: Context) -> None:
    """Run everything: boot plane, media, admin plane, TFTP; DHCP only where a subnet asks for it.

    Each is a process of its own, watched and restarted. Stop it with Ctrl-C or SIGTERM.
    """
    from provisioner import serve as serving  # noqa: PLC0415 - no other command needs the servers

    raise SystemExit(serving.run(context.settings))


@click.command()
@click.option("--templates", is_flag=True, help="Validate what every profile renders too: a second or so for each.")
@output_option
@pass_context
def check(context: Context, /, templates: bool, form: str) -> None:
    """Say what is wrong or missing, why it matters, and the remedy. Exit code 1 if there is an error.

    \b
    Example:
      provisioner check --templates
    """
    from provisioner.services import check as checks  # noqa: PLC0415 - only this command works with the database of this host

    findings = checks.run(context.site, templates=templates)
    if form != "table":
        print_rows([vars(finding) for finding in findings], form, ("level", "what", "why", "remedy"), "")
    for finding in findings if form == "table" else []:
        click.secho(f"{finding.level}: {finding.what}", fg="red" if finding.level == "error" else "yellow")
        click.echo(f"  why:    {finding.why}\n  remedy: {finding.remedy}")
    if form == "table" and not findings:
        click.echo("all is well")
    raise SystemExit(1 if any(finding.level == "error" for finding in findings) else 0)
