"""`provisioner apply` and `provisioner export`."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from provisioner.cli.common import Context, confirm, dry_run_option, pass_context

if TYPE_CHECKING:
    from provisioner.services.content import Plan
    from provisioner.services.contentchanges import Change

_SHOWN = 60
_COLOURS = {"add": "green", "edit": "yellow", "remove": "red", "+": "green", "-": "red", "@": "cyan"}


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@dry_run_option
@click.option("--prune", is_flag=True, help="Also remove what is not in the directory; never shipped content.")
@click.option("--yes", is_flag=True, help="Apply the plan without asking.")
@click.option("--reason", default="", help="Why; kept in the history with each change.")
@click.option("--all", "whole", is_flag=True, help=f"Show every line of the differences, not {_SHOWN} an object.")
@pass_context
def apply(
    context: Context, /, directory: Path, dry_run: bool, prune: bool, yes: bool, reason: str, whole: bool
) -> None:
    """Make profiles and templates those of a directory or git checkout: a plan first, then all of it or nothing.

    It holds profiles/*.yaml (in folders as you like) and kickstarts/KIND/NAME. Everything is rendered and validated
    before anything changes. What is not in the directory stays, unless you say --prune. On a terminal you are asked
    before it is applied; a script is not.

    \b
    Examples:
      provisioner apply ./site --dry-run                    # the plan, and what it does to which machines
      git -C ./site pull && provisioner apply ./site --prune --yes --reason "ticket 4711"
    """
    from provisioner.cli.radius import print_radius, progress  # noqa: PLC0415 - with the services
    from provisioner.services import content, radius  # noqa: PLC0415 - works with the database of this host

    actor = replace(context.actor, reason=reason or context.reason or f"apply {directory}")
    planned = content.plan(context.site, directory, prune=prune, progress=_progress())
    _show(planned, whole=whole)
    if dry_run:
        watch = radius.Watch(context.site)
        content.rehearse(context.site.rehearsing(watch), actor, planned)
        print_radius(radius.report(context.site, watch, progress()))
        content.refuse(planned)
        click.echo(f"{_count(len(planned.changes))} (dry run: nothing was changed)")
        return
    content.refuse(planned)
    if not planned.changes:
        click.echo("nothing to change")
        return
    if not yes and sys.stdin.isatty():
        confirm("Apply this plan?")
    content.carry_out(context.site, actor, planned)
    click.echo(f"{_count(len(planned.changes))} applied")


def rehearse_shipped(context: Context) -> None:
    """What `init` would do with the shipped content, and what that does to machines."""
    from provisioner.cli.radius import print_radius, progress  # noqa: PLC0415 - with the services
    from provisioner.services import content, radius  # noqa: PLC0415 - works with the database of this host

    watch = radius.Watch(context.site)
    changes = content.apply(context.site.rehearsing(watch), context.actor, content.shipped(), upgrade=True)
    for change in changes:
        _show_change(change, _SHOWN)
    print_radius(radius.report(context.site, watch, progress()))
    click.echo(f"{_count(len(changes))} of shipped content (dry run: nothing was changed)")


def _progress() -> Callable[[int, int], None] | None:
    """A progress line on a terminal, taken away at the end; nothing on a pipe."""
    if not sys.stderr.isatty():
        return None

    def show(done: int, total: int) -> None:
        click.echo(
            "\r\x1b[K" if done >= total else f"\r\x1b[Kvalidating {done} of {total} answer files", nl=False, err=True
        )

    return show


def _count(number: int) -> str:
    return f"{number} change{'' if number == 1 else 's'}"


def _show(planned: "Plan", *, whole: bool) -> None:
    """The plan as people read it: each change with its reason and its difference, then what validation found."""
    for change in planned.changes:
        _show_change(change, None if whole else _SHOWN)
    for kept in planned.kept:
        click.secho(f"keep  {kept}   (shipped, changed here, not in the directory)", fg="cyan")
    first = next((each for each in planned.problems if each.level == "error"), None)
    for problem in planned.problems:
        if problem is first:
            continue  # the command ends with it
        colour = "red" if problem.level == "error" else "yellow"
        place = f"{_plain(problem.where)}: " if problem.where else ""
        click.secho(f"{problem.level}: {place}{_plain(problem.message)}", fg=colour)


def _show_change(change: "Change", most: int | None) -> None:
    head = f"{change.action:<5} {change.kind} {change.name}"
    click.echo(f"{click.style(head, fg=_COLOURS[change.action])}   ({change.why}: {_plain(change.path)})")
    _diff(change, most)


def _diff(change: "Change", most: int | None) -> None:
    lines: Sequence[str] = [part for line in change.diff() for part in line.split("\n")]
    for line in lines[:most]:
        click.secho(f"    {_plain(line)}", fg=_COLOURS.get(line[:1]))
    if most is not None and len(lines) > most:
        click.echo(f"    ... {len(lines) - most} more lines; --all shows them")


def _plain(text: str) -> str:
    """The text as it is, but for what a terminal would obey."""
    return "".join(char if char.isprintable() or char == "\t" else repr(char)[1:-1] for char in text)


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@pass_context
def export(context: Context, /, directory: Path) -> None:
    """Write all profiles and templates to a directory, byte for byte as they were applied.

    A profile that the directory holds already goes to its own file, whatever that is called. Other files stay.

    \b
    Example:
      provisioner export ./site && git -C ./site diff
    """
    from provisioner.services import content  # noqa: PLC0415 - only this command works with the database of this host

    exported = content.export(context.site, directory)
    same = f", {len(exported.same)} were the same already" if exported.same else ""
    click.echo(f"{len(exported.written)} files written to {directory}{same}")
    for name in exported.drafts:
        click.secho(f"left out: template {name}, of which no text was good yet", fg="yellow", err=True)
