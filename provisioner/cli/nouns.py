"""The verbs that are the same for every noun."""

from collections.abc import Callable

import click

from provisioner.cli.client.protocol import Client, Noun, Thing
from provisioner.cli.common import Command, Context, confirm, dry_run_option, pass_context
from provisioner.cli.radius import print_rehearsed, rehearsal_option
from provisioner.core.asof import as_of


def _moment(_ctx: click.Context, _option: click.Parameter, text: str | None) -> str | None:
    # In full, so that a server in another time zone understands the same moment.
    return as_of(text, None, where="--as-of").isoformat() if text else None


def as_of_option(command: Command) -> Command:
    """``--as-of DATE``: how it was then; the command gets the moment in ISO 8601."""
    return click.option(
        "--as-of",
        metavar="DATE",
        callback=_moment,
        help="As it was then: 2026-11-20 (the end of that day), or '2026-11-20 14:30', in this host's time zone.",
    )(command)


def add_changes_of_name(
    group: click.Group, noun: Callable[[Client], Noun], left: Callable[[Thing], str] | None = None
) -> None:
    """Give the noun ``rename`` and ``remove``, each with ``--dry-run``, for the object as it was shown.

    ``left`` says what of a removed object stays, if anything does.
    """
    word = group.name

    @group.command("rename", help=f"Give the {word} another name; what refers to it follows, or refuses.")
    @click.argument("name")
    @click.argument("new_name")
    @dry_run_option
    @rehearsal_option
    @pass_context
    def rename_(context: Context, /, name: str, new_name: str, dry_run: bool, form: str) -> None:
        before = noun(context.client).show(name)
        changing = context.changing(dry_run)
        after = noun(changing).rename(name, new_name, before["revision"])
        if dry_run:
            print_rehearsed(before, before | {"name": after["name"]}, changing, form)
        else:
            click.echo(f"{word} {before['name']} is now {after['name']}")

    @group.command("remove", help=f"Remove the {word}, if nothing refers to it. Sealed builds and the history stay.")
    @click.argument("name")
    @click.option("--yes", is_flag=True, help="Do not ask.")
    @dry_run_option
    @rehearsal_option
    @pass_context
    def remove_(context: Context, /, name: str, yes: bool, dry_run: bool, form: str) -> None:
        before = noun(context.client).show(name)
        if not yes and not dry_run:
            confirm(f"Remove {word} {before['name']}?")
        changing = context.changing(dry_run)
        noun(changing).remove(name, before["revision"])
        if dry_run:
            print_rehearsed(before, None, changing, form)
        else:
            click.echo(f"{word} {before['name']} removed")
            if left is not None and left(before):
                click.echo(left(before))
