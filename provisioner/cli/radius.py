"""What a rehearsed change would do to the machines that it reaches, as people read it."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import click

from provisioner.cli.client.protocol import Client, Counting
from provisioner.cli.common import DRY_RUN, Command, print_object, show_change
from provisioner.errors import ProvisionerError

NAMED = 3
"""So many machines of a group are named; --output json has them all."""
SHOWN = 10
"""So many groups are printed with their differences."""
_COLOURS = {"+": "green", "-": "red", "@": "cyan"}
Report = Mapping[str, Any]


def rehearsal_option(command: Command) -> Command:
    """``--output table|json|yaml``: how a dry run is printed."""
    return click.option(
        "--output",
        "-o",
        "form",
        type=click.Choice(("table", "json", "yaml")),
        default="table",
        show_default=True,
        help="How to print a --dry-run; json and yaml name every machine.",
    )(command)


def progress() -> Counting | None:
    """A line on a terminal that goes away when all is done; nothing on a pipe."""
    if not sys.stderr.isatty():
        return None

    def show(what: str, done: int, total: int) -> None:
        line = f"{what} {done} of {total} " + ("outputs" if what == "validated" else "machines, now and then")
        click.echo(f"\r\x1b[K{line}" if done < total else "\r\x1b[K", nl=False, err=True)

    return show


def print_rehearsed(
    before: Mapping[str, Any] | None, after: Mapping[str, Any] | None, client: Client, form: str = "table"
) -> None:
    """A change that ``client`` rehearsed, as a diff, and what it would do to the machines that it reaches."""
    report = client.radius(progress())
    if form != "table":
        print_object({"before": before, "after": after, "radius": report}, form)
        return
    if show_change(before, after, "nothing would change"):
        print_radius(report)
        click.echo(DRY_RUN)


@contextmanager
def told_when_refused(client: Client, *, dry_run: bool, form: str = "table") -> Iterator[None]:
    """A rehearsed change that validation refuses still says what it would do to those machines that render."""
    try:
        yield
    except ProvisionerError:
        report = client.radius(progress()) if dry_run else None
        if report is not None:
            print_radius(report, form)
        raise


def print_radius(report: Report | None, form: str = "table") -> None:
    """What `services.radius.report` found: errors first, then what differs, each group once."""
    if form != "table":
        print_object({"radius": report}, form)
        return
    if report is None:
        return  # no change of what machines are built from
    click.echo()
    if not report["reached"]:
        click.echo("reaches no machine")
        return
    click.echo(f"reaches {_machines(report['reached'])}: {_counts(report)}")
    for error in report["errors"]:
        click.secho(f"\nfails then: {_who(error['machines'])}", fg="red", bold=True)
        _print_error(error)
    for group in report["groups"][:SHOWN]:
        _print_group(group)
    _print_rest(report)
    _print_seconds(report["seconds"])


def _counts(report: Report) -> str:
    counted = [(report["failed"], "would fail"), (report["changed"], "would change")]
    counted += [(sum(len(each["machines"]) for each in report["unrendered"]), "cannot be rendered now either")]
    counted += [(len(report["mended"]), "can be rendered then"), (len(report["added"]), "added")]
    counted += [(report["unchanged"], "would stay as now")]
    return ", ".join(f"{count} {what}" for count, what in counted if count)


def _print_group(group: Mapping[str, Any]) -> None:
    count, example = len(group["machines"]), group["example"]
    alike = f"{_machines(count)} alike, {_who(group['machines'])}; of {example}:" if count > 1 else f"{example}:"
    click.secho(f"\n{alike}", bold=True)
    if group["problem"]:
        click.secho("  refused by the installer's validator, a build would not be armed:", fg="red")
        _print_error(group["problem"])
    for warning in group["warnings"]:
        click.secho(f"  warning: {warning}", fg="yellow")
    for text in group["files"].values():
        for line in text.splitlines():
            click.secho(line, fg=None if line.startswith(("+++", "---")) else _COLOURS.get(line[:1]))


def _print_error(error: Mapping[str, Any]) -> None:
    place = f"{error['where']}: " if error["where"] else ""
    click.echo(f"  [{error['code']}] {place}{error['message']}")
    if error["hint"]:
        click.echo(f"    next: {error['hint']}")


def _print_rest(report: Report) -> None:
    more = report["groups"][SHOWN:]
    if more:
        count = sum(len(each["machines"]) for each in more)
        click.echo(f"\nand {len(more)} more kinds of difference, on {_machines(count)}; --output json has them all")
    unvalidated = sum(not each["validated"] for each in report["groups"])
    if unvalidated:
        click.echo(f"of all kinds, {unvalidated} were not held against their installer's grammar")
    for each in report["unrendered"]:
        click.secho(f"\nnot rendered, now or then: {_who(each['machines'])}", fg="yellow")
        _print_error(each)
    for key, words in (("mended", "can be rendered then, cannot now"), ("added", "added")):
        if report[key]:
            click.echo(f"\n{words}: {_who(report[key])}")
    if report["sealed"]:
        count = len(report["sealed"])
        have, keeps = ("machine has", "keeps") if count == 1 else ("machines have", "keep")
        click.secho(
            f"\n{count} {have} a build under way that {keeps} what it was sealed with: {_who(report['sealed'])};"
            " `build cancel` and start again to take the change",
            fg="yellow",
        )


def _print_seconds(seconds: Mapping[str, float]) -> None:
    """Only for people: what a program reads is the same each time."""
    if sys.stderr.isatty():
        click.echo(
            f"\nrendered in {seconds['rendering']:.1f} s; one of each kind validated in {seconds['validating']:.1f} s",
            err=True,
        )


def _machines(count: int) -> str:
    return "1 machine" if count == 1 else f"{count} machines"


def _who(names: Sequence[str]) -> str:
    rest = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {rest} more" if rest > 0 else "")
