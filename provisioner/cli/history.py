"""`provisioner history`."""

from typing import Any

import click

from provisioner.cli.common import Context, output_option, pass_context, print_rows
from provisioner.errors import Conflict
from provisioner.services import records

COLUMNS = ("id", "at", "actor", "origin", "action", "kind", "name", "changed", "reason")


class _DefaultList(click.Group):
    """`provisioner history web01` is short for `provisioner history list web01`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] not in {"-h", "--help"}):
            args = ["list", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_DefaultList)
def history() -> None:
    """Who changed what: every change of an administered object, hash-chained."""


@history.command("list")
@click.argument("name", required=False)
@click.option("--limit", default=50, show_default=True, help="How many, the newest first.")
@output_option
@pass_context
def list_(context: Context, /, name: str | None, limit: int, form: str) -> None:
    """List the newest changes, or those of one object.

    \b
    Example:
      provisioner history web01
    """
    rows: list[dict[str, Any]] = records.listing(context.site, name, limit)
    print_rows(rows, form, COLUMNS, "No changes yet")


@history.command()
@pass_context
def verify(context: Context) -> None:
    """Check the chain: an edited, removed or moved row is found."""
    problems = records.verify(context.site)
    if problems:
        raise Conflict("; ".join(problems), where="history", hint="compare with a backup: the database was changed")
    click.echo("the history is complete and unchanged")
