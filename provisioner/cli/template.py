"""`provisioner template`."""

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
from provisioner.errors import MalformedContent


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
    print_rows(context.client.templates.every(), form, ("name", "kind", "revision", "bytes"), empty)


@template.command()
@click.argument("name")
@output_option
@pass_context
def show(context: Context, /, name: str, form: str) -> None:
    """Print a template's text."""
    found = context.client.templates.show(name)
    if form == "table":
        click.echo(found["text"], nl=False)
    else:
        print_object(found, form)


@template.command()
@click.argument("name", metavar="KIND/NAME")
@click.option("--file", required=True, help="Its text; - is standard input.")
@pass_context
def add(context: Context, /, name: str, file: str) -> None:
    """Add a template.

    \b
    Example:
      provisioner template add kickstart/web.ks.j2 --file web.ks.j2
    """
    context.client.templates.add(name, {"text": _text(file)})
    click.echo(f"template {name} added; use it: provisioner profile edit PROFILE --template {name}")


@template.command()
@click.argument("name", metavar="KIND/NAME")
@click.option("--file", required=True, help="Its new text; - is standard input.")
@dry_run_option
@pass_context
def edit(context: Context, /, name: str, file: str, dry_run: bool) -> None:
    """Replace a template's text. What builds were sealed with does not change."""
    before = context.client.templates.show(name)
    after = context.changing(dry_run).templates.edit(name, {"text": _text(file)}, before["revision"])
    print_change({name: before["text"].splitlines()}, {name: after["text"].splitlines()}, dry_run=dry_run)


add_changes_of_name(template, lambda client: client.templates)
