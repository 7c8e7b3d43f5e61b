"""`provisioner init`, `serve` and `check`."""

import click

from provisioner.cli.common import Context, output_option, pass_context, print_rows


@click.command()
@pass_context
def init(context: Context) -> None:
    """Make the state directory, keys, certificate, database, shipped content, and print the admin password once.

    Safe to run again: it keeps every key and password, and brings an older database up to this program.
    """
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
@click.option("--only", hidden=True)
@click.option("--fd", type=int, hidden=True)
@pass_context
def serve(context: Context, /, only: str | None, fd: int | None) -> None:
    """Run everything: boot plane, media, admin plane, TFTP; DHCP only where a subnet asks for it.

    Each is a process of its own, watched and restarted. Stop it with Ctrl-C or SIGTERM.
    """
    from provisioner import serve as serving  # noqa: PLC0415 - no other command needs the servers

    if only:
        serving.run_child(context.settings, only, fd)
        return
    raise SystemExit(serving.run(context.settings, [*_again(context)]))


def _again(context: Context) -> list[str]:
    """The arguments that give a child this process's settings."""
    arguments = ["--config", str(context.config)] if context.config else []
    return arguments + (["--state-dir", str(context.settings.state_dir)] if context.flags else [])


@click.command()
@output_option
@pass_context
def check(context: Context, /, form: str) -> None:
    """Say what is wrong or missing, why it matters, and the remedy. Exit code 1 if there is an error."""
    from provisioner.services import check as checks  # noqa: PLC0415 - only this command works with the database of this host

    findings = checks.run(context.site)
    if form != "table":
        print_rows([vars(finding) for finding in findings], form, ("level", "what", "why", "remedy"), "")
    for finding in findings if form == "table" else []:
        click.secho(f"{finding.level}: {finding.what}", fg="red" if finding.level == "error" else "yellow")
        click.echo(f"  why:    {finding.why}\n  remedy: {finding.remedy}")
    if form == "table" and not findings:
        click.echo("all is well")
    raise SystemExit(1 if any(finding.level == "error" for finding in findings) else 0)
