"""`provisioner apply` and `provisioner export`."""

from pathlib import Path

import click

from provisioner.cli.common import Context, dry_run_option, pass_context


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@dry_run_option
@pass_context
def apply(context: Context, /, directory: Path, dry_run: bool) -> None:
    """Load profiles/*.yaml and kickstarts/KIND/* from a directory or git checkout: all of it, or nothing.

    \b
    Example:
      provisioner apply ./site --dry-run
    """
    from provisioner.services import content  # noqa: PLC0415 - only this command works with the database of this host

    site = context.site.rehearsing() if dry_run else context.site
    changes = content.apply(site, context.actor, directory)
    for change in changes:
        colour = "green" if change.action == "add" else "yellow"
        click.secho(f"{change.action:<5} {change.kind} {change.name}", fg=colour)
    if dry_run:
        click.echo(f"{len(changes)} changes (dry run: nothing was changed)")
    else:
        click.echo(f"{len(changes)} changes applied" if changes else "nothing to change")


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@pass_context
def export(context: Context, /, directory: Path) -> None:
    """Write all profiles and templates to a directory, byte for byte as they were applied.

    \b
    Example:
      provisioner export ./site && git -C ./site diff
    """
    from provisioner.services import content  # noqa: PLC0415 - only this command works with the database of this host

    written = content.export(context.site, directory)
    click.echo(f"{len(written)} files written to {directory}")
