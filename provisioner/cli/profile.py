"""`provisioner profile`."""

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from provisioner.cli.common import (
    KERNEL_OPTION,
    PARAMETER_OPTIONS,
    Context,
    dry_run_option,
    fields,
    options,
    output_option,
    pass_context,
    print_change,
    print_object,
    print_rows,
)
from provisioner.cli.nouns import add_changes_of_name, as_of_option
from provisioner.cli.radius import print_rehearsed, rehearsal_option, told_when_refused
from provisioner.core.content import load_yaml
from provisioner.core.localboot import WAYS
from provisioner.errors import MalformedContent, cause

COLUMNS = ("name", "parent", "distro", "image", "template", "handoff", "description")
_TABLE = ("name", "parent", "installs", "template", "handoff", "description")
_SELECTS = ("name", "os", "version", "arch", "kind")
_DESCRIBED = 110
"""Narrower terminals have no room for descriptions."""


@click.group()
def profile() -> None:
    """What to build: distro or image, template, parameters, kernel options, handoff."""


_shared = options(
    click.option("--parent", help="The profile it inherits from."),
    click.option("--description", help="For people."),
    click.option("--distro", help="A distro's name, or os=rocky,version=9 for the newest that fits."),
    click.option("--image", help="An image's name, or os=debian,version=12 for the newest that fits."),
    click.option("--template", help="KIND/NAME of its answer file's template."),
    KERNEL_OPTION,
    click.option("--handoff", help="tool=script,command=... or tool=none."),
    click.option(
        "--local-boot",
        metavar="WAY",
        help=f"How its firmware gets to the disk: {', '.join(WAYS)}. '' is its parent's way.",
    ),
    *PARAMETER_OPTIONS,
)


def _data(changes: dict[str, Any]) -> dict[str, Any]:
    data = fields(changes)
    for key in ("distro", "image", "handoff"):
        if "=" in data.get(key, ""):
            data[key] = dict(part.partition("=")[::2] for part in data[key].split(","))
        elif key == "handoff" and key in data:
            data[key] = {"tool": data[key]}
    if data.get("local_boot") == "":
        data["local_boot"] = None
    return data


@profile.command("list")
@output_option
@pass_context
def list_(context: Context, /, form: str) -> None:
    """List all profiles."""
    empty = "No profiles yet: provisioner apply DIR loads them, provisioner init loads the shipped ones"
    rows = context.client.profiles.every()
    if form != "table":
        print_rows(rows, form, COLUMNS, empty)
        return
    narrow = sys.stdout.isatty() and shutil.get_terminal_size().columns < _DESCRIBED
    told = [row | {"installs": _installs(row), "handoff": (row["handoff"] or {}).get("tool")} for row in rows]
    print_rows(told, form, _TABLE[:-1] if narrow else _TABLE, empty)


def _installs(row: Mapping[str, Any]) -> str:
    """What a profile itself says to install, in one column: ``rocky 9 x86_64``, ``debian 12 stem-cell``."""
    distro, image = row["distro"] or {}, row["image"] or {}
    if image and "kind" not in image:
        image = image | {"name": f"image {image.get('name', '')}".strip()}
    told = (" ".join(str(each[key]) for key in _SELECTS if key in each) for each in (distro, image))
    return ", ".join(filter(None, told))


@profile.command()
@click.argument("name")
@as_of_option
@output_option
@pass_context
def show(context: Context, /, name: str, as_of: str | None, form: str) -> None:
    """Show a profile, as it is written; `profile explain MACHINE` shows what a machine gets in the end.

    \b
    Example:
      provisioner profile show rocky9 --as-of 2026-11-20
    """
    noun = context.client.profiles
    print_object(noun.as_of(name, as_of) if as_of else noun.show(name), form)


@profile.command()
@click.argument("name", metavar="MACHINE")
@output_option
@pass_context
def explain(context: Context, /, name: str, form: str) -> None:
    """Show each effective value of a machine and where it came from.

    \b
    Example:
      provisioner profile explain web01
    """
    rows = context.client.machines.explain(name)["values"]
    if form in {"table", "csv"}:
        # A list of mappings, such as `links`, is read as it is written, not as words with commas between.
        rows = [row | {"value": _spelled(row["value"])} for row in rows]
    print_rows(rows, form, ("what", "name", "value", "source", "overrides"), f"{name} has no values")


def _spelled(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value


@profile.command()
@click.argument("name")
@click.option("--file", type=click.Path(path_type=Path), help="The profile as YAML; its name must be NAME.")
@_shared
@dry_run_option
@rehearsal_option
@pass_context
def add(context: Context, /, name: str, file: Path | None, dry_run: bool, form: str, **changes: Any) -> None:
    """Add a profile.

    \b
    Example:
      provisioner profile add rocky9-web --parent rocky9 --param 'packages=[nginx]'
    """
    data = _from_file(file, name) if file else {}
    changing = context.changing(dry_run)
    with told_when_refused(changing, dry_run=dry_run, form=form):
        after = changing.profiles.add(name, data | _data(changes))
    if dry_run:
        print_rehearsed(None, after, changing, form)
    else:
        click.echo(f"profile {name} added; assign it: provisioner machine edit MACHINE --profile {name}")


def _from_file(file: Path, name: str) -> dict[str, Any]:
    try:
        data = load_yaml(file.read_text(), str(file))
    except (OSError, UnicodeDecodeError) as error:
        raise MalformedContent(f"cannot be read: {cause(error)}", where=str(file), hint="check the path") from error
    if not isinstance(data, dict) or data.get("name") != name:
        raise MalformedContent(f"this is not the profile {name}", where=str(file), hint=f"write `name: {name}` first")
    del data["name"]
    return data


@profile.command()
@click.argument("name")
@_shared
@dry_run_option
@rehearsal_option
@pass_context
def edit(context: Context, /, name: str, dry_run: bool, form: str, **changes: Any) -> None:
    """Change a profile. What builds were sealed with does not change.

    With --dry-run every machine that inherits from it is rendered as it is and as it would be.

    \b
    Example:
      provisioner profile edit rocky9 --param timezone=Europe/Berlin --dry-run
    """
    before = context.client.profiles.show(name)
    changing = context.changing(dry_run)
    with told_when_refused(changing, dry_run=dry_run, form=form):
        after = changing.profiles.edit(name, _data(changes), before["revision"])
    if dry_run:
        print_rehearsed(before, after, changing, form)
    else:
        print_change(before, after, dry_run=False)


add_changes_of_name(profile, lambda client: client.profiles)
