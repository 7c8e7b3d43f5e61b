"""`provisioner history`."""

import json
from collections.abc import Mapping
from typing import Any

import click

from provisioner.cli.common import Context, output_option, pass_context, print_object, print_rows
from provisioner.core.asof import as_of
from provisioner.core.differences import fields
from provisioner.errors import Conflict

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


def _moment(_ctx: click.Context, option: click.Parameter, text: str | None) -> str | None:
    if not text:
        return None
    return as_of(text, None, where=f"--{option.name}", end_of_day=option.name == "until").isoformat()


@history.command("list")
@click.argument("object", required=False)
@click.option("--kind", help="Only changes of machines, profiles, ...: machine, subnet, profile, template, build, ...")
@click.option("--actor", help="Only what this person did.")
@click.option("--since", metavar="DATE", callback=_moment, help="Only from then on, in this host's time zone.")
@click.option("--until", metavar="DATE", callback=_moment, help="Only until then; a date is the end of that day.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="How many, the newest first.")
@output_option
@pass_context
def list_(context: Context, /, limit: int, form: str, **filters: Any) -> None:
    """List the newest changes, or those of one object: a name, or KIND/NAME such as machine/web01.

    Renames are followed: an object is found by any name that it ever had. A machine's name includes its builds.

    \b
    Examples:
      provisioner history web01
      provisioner history --actor jane --since 2026-11-01
      provisioner history show 17
    """
    rows = context.client.history.newest(limit, **filters)
    chosen = any(filters.values())
    empty = "No change is chosen by this; `provisioner history` has the newest" if chosen else "No changes yet"
    shown = [row | {"changed": fields(row["changes"])} for row in rows]
    if form == "table":
        # To the second; JSON has the rest.
        shown = [row | {"at": f"{row['at'][:19]}Z"} for row in shown]
    print_rows(shown, form, COLUMNS, empty)
    if form == "table" and len(rows) == limit:
        click.echo(f"these are the {limit} newest; for others --limit, --since, --until, --kind", err=True)


@history.command()
@click.argument("number", type=click.IntRange(min=1))
@output_option
@pass_context
def show(context: Context, /, number: int, form: str) -> None:
    """Show one change, field by field; secrets are masked.

    \b
    Example:
      provisioner history show 17
    """
    revision = context.client.history.show(number)
    if form != "table":
        print_object(revision, form)
        return
    head = {key: revision[key] for key in ("id", "at", "actor", "origin", "request", "reason")}
    print_object(head, form)
    click.secho(f"{revision['action']} {revision['kind']} {revision['name']}", bold=True)
    for change in revision["changes"]:
        _print(change)
    if not revision["changes"]:
        added = revision["action"] == "add"
        told = revision["after" if added else "before"] or {}
        for field, value in ((field, value) for field, value in told.items() if value not in (None, "", [], {})):
            _print({"pointer": f"/{field}", "before": None if added else value, "after": value if added else None})


def _print(change: Mapping[str, Any]) -> None:
    click.echo(f"  {change['pointer']}")
    for sign, colour, value in (("-", "red", change["before"]), ("+", "green", change["after"])):
        if value is not None:
            text = value if isinstance(value, str) and value else json.dumps(value)
            for line in text.splitlines():
                click.secho(f"    {sign} {line}", fg=colour)


@history.command()
@pass_context
def verify(context: Context) -> None:
    """Check the chain: an edited, removed or moved row is found."""
    problems = context.client.history.verify()
    if problems:
        raise Conflict("; ".join(problems), where="history", hint="compare with a backup: the database was changed")
    click.echo("the history is complete and unchanged")
