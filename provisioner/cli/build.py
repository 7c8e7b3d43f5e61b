"""`provisioner build`."""

from typing import Any

import click

from provisioner.cli.common import (
    Context,
    output_option,
    parameters,
    pass_context,
    print_object,
    print_rows,
)

COLUMNS = ("machine", "number", "state", "profile", "attempts", "seconds", "waits_for", "outcome")
_SHOWN = 50
_ENDED = {"configured": "green", "failed": "red", "cancelled": "yellow"}


@click.group()
def build() -> None:
    """Builds: one numbered run of making a machine, sealed when it is armed."""


@build.command()
@click.argument("name")
@click.option("--param", "params", multiple=True, metavar="NAME=VALUE", help="A parameter for this build alone.")
@click.option("--kernel-option", "kernel_options", multiple=True, help="A kernel option for this build alone.")
@output_option
@pass_context
def start(context: Context, /, name: str, params: tuple[str, ...], kernel_options: tuple[str, ...], form: str) -> None:
    """Arm a build: resolve, render, validate and seal. The machine's next network boot wipes and installs it.

    \b
    Example:
      provisioner build start web01 --param timezone=Europe/Berlin
    """
    _armed(context.client.builds.start(name, parameters(params), kernel_options), form)


@build.command()
@click.argument("name")
@click.option("--number", type=int, help="The build to repeat; the latest unless given.")
@output_option
@pass_context
def repeat(context: Context, /, name: str, number: int | None, form: str) -> None:
    """Arm a new build from the sealed files of an earlier one, whatever changed since.

    \b
    Example:
      provisioner build repeat web01 --number 3
    """
    _armed(context.client.builds.repeat(name, number), form)


@build.command()
@click.argument("name")
@output_option
@pass_context
def reseal(context: Context, /, name: str, form: str) -> None:
    """Seal the armed build again, from what there is now, for as long as the machine has not asked for it.

    The values that were given for that build alone stay. The build gets the next number; the old one is cancelled.

    \b
    Example:
      provisioner build reseal web01
    """
    _armed(context.client.builds.reseal(name), form)


def _armed(result: dict[str, Any], form: str) -> None:
    if form != "table":
        print_object(result, form)
        return
    click.echo(f"build {result['number']} of {result['machine']} is armed: boot it from the network")
    for warning in result["warnings"]:
        click.secho(f"  warning: {warning}", fg="yellow")
    click.echo(f"  watch it: provisioner build show {result['machine']} --watch")


@build.command("list")
@click.argument("name", required=False)
@click.option("--all", "whole", is_flag=True, help=f"Show all in the table, not the newest {_SHOWN} alone.")
@output_option
@pass_context
def list_(context: Context, /, name: str | None, whole: bool, form: str) -> None:
    """List builds, the newest first; of one machine if it is named. JSON, YAML and CSV hold all of them.

    \b
    Examples:
      provisioner build list web01
      provisioner build list --output csv > builds.csv
    """
    cut = form == "table" and not whole
    rows = context.client.builds.every(name, _SHOWN + 1 if cut else None)
    shown = rows[:_SHOWN] if cut else rows
    print_rows(shown, form, COLUMNS, "No builds yet: provisioner build start MACHINE")
    if len(rows) > len(shown):
        words = " ".join(filter(None, ("provisioner build list", name, "--all")))
        click.echo(f"these are the newest {_SHOWN}; see all with: {words}", err=True)


@build.command()
@click.argument("name")
@click.option("--number", type=int, help="The latest unless given.")
@click.option("--watch", is_flag=True, help="Follow it live until it ends.")
@output_option
@pass_context
def show(context: Context, /, name: str, number: int | None, watch: bool, form: str) -> None:
    """Show a build: state, timeline, and what it waits for.

    With --watch the exit code is 0 for `configured`, 1 otherwise.

    \b
    Examples:
      provisioner build show web01 --number 3
      provisioner build start web01 && provisioner build show web01 --watch
    """
    if not watch:
        view = context.client.builds.show(name, number)
        if form == "table":
            _timeline(view)
        else:
            print_object(view, form)
        return
    raise SystemExit(_watch(context, name, number))


def _timeline(view: dict[str, Any]) -> None:
    click.echo(f"build {view['number']} of {view['machine']} ({view['profile']}): ", nl=False)
    click.secho(view["state"], fg=_ENDED.get(view["state"], "cyan"), bold=True)
    for event in view["events"]:
        _event(event)
    if view["handoff"]:
        told = view["handoff"]
        click.echo(f"handed to {told['tool']}{' as ' if told['identity'] else ''}{told['identity']}: {told['state']}")
    if view["outcome"]:
        click.echo(f"outcome: {view['outcome']}")
    if view["waits_for"]:
        click.echo(f"waits for {view['waits_for']}")


def _event(event: dict[str, Any]) -> None:
    attempt = f"attempt {event['attempt']}" if event["attempt"] else ""
    line = f"{event['seconds']:9.1f} s  {attempt:<10} {event['kind']:<14} {event['message']}"
    click.secho(line + (f"  [{event['source']}]" if event["source"] else ""), fg="red" if event["flagged"] else None)


def _watch(context: Context, /, name: str, number: int | None) -> int:
    seen, waiting, state = 0, "", ""
    for view in context.client.builds.follow(name, number):
        state = view["state"]
        if seen == 0:
            click.echo(f"build {view['number']} of {view['machine']} ({view['profile']})")
        for event in view["events"][seen:]:
            _event(event)
        seen = len(view["events"])
        if state in _ENDED:
            click.secho(f"{state} {view['outcome']}".rstrip(), fg=_ENDED[state], bold=True)
        elif view["waits_for"] != waiting:
            waiting = view["waits_for"]
            click.secho(f"             waits for {waiting}", dim=True)
    return 0 if state == "configured" else 1


@build.command()
@click.argument("name")
@click.option("--number", type=int, help="The latest unless given.")
@click.option("--sealed", is_flag=True, help="Also print what it was sealed with, tokens masked.")
@pass_context
def log(context: Context, /, name: str, number: int | None, sealed: bool) -> None:
    """Print a build's events with the logs that the installer sent.

    \b
    Example:
      provisioner build log web01 --sealed
    """
    for event in context.client.builds.log(name, number):
        _event(event)
        for line in event["log"].splitlines():
            click.echo(f"             | {line}")
    if sealed:
        for file, text in context.client.builds.sealed(name, number)["files"].items():
            click.echo(f"--- {file}\n{text}")


@build.command()
@click.argument("name")
@click.argument("old", type=int, required=False)
@click.argument("new", type=int, required=False)
@pass_context
def diff(context: Context, /, name: str, old: int | None, new: int | None) -> None:
    """Show what differs between the sealed files of two builds; the latest two unless numbered.

    \b
    Example:
      provisioner build diff web01 2 5
    """
    text = context.client.builds.diff(name, old, new)
    for line in text.splitlines():
        click.secho(line, fg={"+": "green", "-": "red", "@": "cyan"}.get(line[:1]))
    if not text:
        click.echo("the sealed files are equal")


@build.command()
@click.argument("name")
@pass_context
def cancel(context: Context, /, name: str) -> None:
    """Cancel the build: its tokens are dead, the machine's next boot goes to its local disk.

    \b
    Example:
      provisioner build cancel web01
    """
    view = context.client.builds.cancel(name)
    click.echo(f"build {view['number']} of {view['machine']} is cancelled")


@build.command("continue")
@click.argument("name")
@pass_context
def continue_(context: Context, /, name: str) -> None:
    """Let a halted build have one more attempt; the installer will wipe the disk again.

    \b
    Example:
      provisioner build log web01 && provisioner build continue web01
    """
    context.client.builds.go_on(name)
    click.echo(f"one more attempt of {name} is allowed: boot it from the network")


@build.command("retry-handoff")
@click.argument("name")
@pass_context
def retry_handoff(context: Context, /, name: str) -> None:
    """Hand the machine over once more, with new secrets, without installing it again.

    \b
    Example:
      provisioner build retry-handoff web01
    """
    context.client.builds.retry_handoff(name)
    click.echo(f"waiting for {name}: it fetches its new handoff script within five minutes, or when it boots")
