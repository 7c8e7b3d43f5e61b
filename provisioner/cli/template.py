"""`provisioner template`."""

from collections.abc import Mapping
from typing import Any

import click

from provisioner.cli.common import (
    Context,
    dry_run_option,
    output_option,
    pass_context,
    print_change,
    print_object,
    print_rows,
)
from provisioner.cli.nouns import add_changes_of_name
from provisioner.cli.radius import print_rehearsed, rehearsal_option
from provisioner.errors import MalformedContent, NotFound


@click.group()
def template() -> None:
    """Sources of answer files and scripts, and the snippets they include."""


def _text(file: str) -> str:
    try:
        with click.open_file(file, "rb") as stream:
            return bytes(stream.read()).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise MalformedContent(f"cannot be read as UTF-8 text: {error}", where=file, hint="check the path") from error


@template.command("list")
@output_option
@pass_context
def list_(context: Context, /, form: str) -> None:
    """List all templates."""
    empty = "No templates yet: provisioner apply DIR loads them, provisioner init loads the shipped ones"
    print_rows(context.client.templates.every(), form, ("name", "kind", "revision", "bytes", "draft"), empty)


@template.command()
@click.argument("name")
@click.option("--draft", is_flag=True, help="The text that failed, if there is one, instead of the one in force.")
@output_option
@pass_context
def show(context: Context, /, name: str, draft: bool, form: str) -> None:
    """Print a template's text: what is in force. What is wrong with its draft goes to standard error.

    \b
    Example:
      provisioner template show kickstart/web.ks.j2 --draft
    """
    found = context.client.templates.show(name)
    if draft and found["draft"] is None:
        raise NotFound(f"template {name} has no draft", hint="its newest text is good, and in force")
    if form != "table":
        print_object(found, form)
        return
    click.echo(found["draft"] if draft else found["text"], nl=False)
    if found["draft"] is not None:
        _print_problems(found)
        click.echo(f"{name} has a draft that fails; {_in_force(found)}", err=True)


def _in_force(found: Mapping[str, Any]) -> str:
    if not found["text"]:
        return "no text of it was ever good, so no build can be armed with it"
    return "machines still get the last good text"


def _print_problems(found: Mapping[str, Any]) -> None:
    for level, colour in (("problems", "red"), ("warnings", "yellow")):
        for each in found[level]:
            place = f"{each['where']}: " if each["where"] else ""
            click.secho(f"{level[:-1]}: {place}{each['message']}", fg=colour, err=True)
            if each["hint"]:
                click.echo(f"  next: {each['hint']}", err=True)


def _end_if_draft(found: Mapping[str, Any], revision: str | None, *, dry_run: bool = False) -> None:
    """Tell what validation found; a text that was kept as a draft alone is a failure of the command.

    ``revision`` is the one before; it is the one in force unless there was a draft already.
    """
    _print_problems(found)
    if found["draft"] is None:
        return
    kept = "would be kept as a draft" if dry_run else "kept as a draft"
    which = f"machines still get revision {revision}" if revision and found["text"] else _in_force(found)
    click.echo(f"template {found['name']}: {kept}; {which}", err=True)
    raise SystemExit(1)


@template.command()
@click.argument("name", metavar="KIND/NAME")
@click.option("--file", required=True, help="Its text; - is standard input.")
@dry_run_option
@rehearsal_option
@pass_context
def add(context: Context, /, name: str, file: str, dry_run: bool, form: str) -> None:
    """Add a template. A text that fails is kept as a draft, and the exit code is 1.

    \b
    Example:
      provisioner template add kickstart/web.ks.j2 --file web.ks.j2
    """
    changing = context.changing(dry_run)
    after = changing.templates.add(name, {"text": _text(file)})
    if dry_run:
        print_rehearsed(None, {name: _lines(after)}, changing, form)
    _end_if_draft(after, None, dry_run=dry_run)
    if dry_run:
        return
    click.echo(f"template {name} added; use it: provisioner profile edit PROFILE --template {name}")


@template.command()
@click.argument("name", metavar="KIND/NAME")
@click.option("--file", required=True, help="Its new text; - is standard input.")
@dry_run_option
@rehearsal_option
@pass_context
def edit(context: Context, /, name: str, file: str, dry_run: bool, form: str) -> None:
    """Replace a template's text. What builds were sealed with does not change.

    The text is validated first, as every profile that it reaches renders it. One that fails is kept as a draft, which
    `template show --draft` prints, and the exit code is 1.

    \b
    Example:
      provisioner template edit kickstart/web.ks.j2 --file web.ks.j2 --dry-run
    """
    before = context.client.templates.show(name)
    changing = context.changing(dry_run)
    after = changing.templates.edit(name, {"text": _text(file)}, before["revision"])
    lines: tuple[Mapping[str, Any], Mapping[str, Any]] = {name: _lines(before)}, {name: _lines(after)}
    if dry_run:
        print_rehearsed(*lines, changing, form)
    else:
        print_change(*lines, dry_run=False)
    _end_if_draft(after, before["revision"] if before["draft"] is None else None, dry_run=dry_run)


def _lines(found: Mapping[str, Any]) -> list[str]:
    """The newest text, in force or not."""
    text: str = found["text"] if found["draft"] is None else found["draft"]
    return text.splitlines()


add_changes_of_name(template, lambda client: client.templates)
