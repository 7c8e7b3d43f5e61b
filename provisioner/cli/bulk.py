"""`provisioner machine import` and `provisioner machine export`."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from provisioner.cli.client.protocol import Counting
from provisioner.cli.common import Context, confirm, pass_context
from provisioner.cli.radius import print_radius
from provisioner.cli.radius import progress as progress_of_radius
from provisioner.core import importing
from provisioner.core.importing import FORMATS, Imported
from provisioner.errors import InvalidInput, NotFound, PlanRefused
from provisioner.services.files import replacing

_SUFFIXES = {".csv": "csv", ".yaml": "yaml", ".yml": "yaml", ".json": "json"}
_SHOWN = 50
_WIDTH = 60

_format_option = click.option("--format", "form", type=click.Choice(FORMATS), help="Else by the file's suffix.")


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@_format_option
@click.option("--yes", is_flag=True, help="Apply the plan without asking.")
@click.option("--dry-run", is_flag=True, help="Show the plan and what it does to answer files, change nothing.")
@click.option("--all", "whole", is_flag=True, help=f"Show every machine of the plan, not the first {_SHOWN} of a kind.")
@click.option(
    "--flag-missing",
    metavar="PREFIX",
    help="Name machines whose `inventory` begins so and that the file has not; they are never removed.",
)
@pass_context
def import_(
    context: Context, /, file: Path, form: str | None, yes: bool, dry_run: bool, whole: bool, flag_missing: str | None
) -> None:
    """Add and change machines by a CSV, YAML or JSON file: a plan first, then all of it or nothing. `-` is stdin.

    A machine is found by any of its MACs, by its serial number or UUID, or by its name where no MAC is given. What the
    file does not say stays as it is; interfaces, tags and kernel options replace those there were. `next` as an address
    is the next free one of the subnet. Machines that are not in the file are left alone.

    \b
    CSV has one row a machine. Columns: name, mac, ip, nic, subnet (mac2, ip2, nic2, subnet2 for the second
    interface, and so on), profile, tags, kernel_options (words with spaces between), serial, uuid, inventory,
    description, local_boot, protected, retired (true or false), param.NAME (JSON, or else a text).
    An empty cell changes nothing, `-` empties the field; an apostrophe before a cell is taken away.

    \b
    Example:
      $ cat rack12.csv
      name,mac,ip,mac2,ip2,profile,tags,param.timezone
      web01,52:54:00:12:34:56,10.0.2.11,52:54:00:12:34:57,10.0.3.11,rocky9,web rack12,Europe/Berlin
      $ provisioner machine import rack12.csv
    """
    form, name = _format(file, form), "standard input" if str(file) == "-" else str(file)
    if str(file) == "-" and not (yes or dry_run):
        raise InvalidInput(
            "standard input is the file, so nobody can be asked",
            where="-",
            hint="add --dry-run to look, --yes to apply",
        )
    imported = importing.read(_read(file), form, name)
    client = context.changing(dry_run)
    plans = client.plans
    with _progress() as progress:
        plan = plans.plan(imported.machines, flag_missing, progress)
    _show(plan, imported, whole=whole)
    if plan["refused"]:
        raise PlanRefused(
            f"refused: {len(plan['refused'])} of {_machines(plan['machines'])}; nothing was changed", where=name
        )
    if dry_run:
        print_radius(client.radius(progress_of_radius()))
        click.echo("(dry run: nothing was changed)")
    elif plan["created"] or plan["changed"]:
        if not yes:
            confirm("Apply this plan?")
        with _progress() as progress:
            done = plans.apply(plan["id"], progress)
        click.echo(f"machines added: {len(done['created'])}, changed: {len(done['changed'])}")


@click.command()
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True), default="-")
@_format_option
@pass_context
def export(context: Context, /, file: Path, form: str | None) -> None:
    """Write all machines as CSV, YAML or JSON, so that importing the file again changes nothing. Secrets are left out.

    \b
    Examples:
      provisioner machine export machines.yaml
      provisioner machine export --format csv | column -s, -t
    """
    form = form or ("csv" if str(file) == "-" else _format(file, None))
    machines = context.client.plans.export()
    text = importing.write(machines, form)
    if str(file) == "-":
        click.echo(text, nl=False)
        return
    with replacing(file, mode=0o600) as stream:
        stream.write(text.encode())
    click.echo(f"{_machines(len(machines))} written to {file}", err=True)


def _format(file: Path, form: str | None) -> str:
    found = form or _SUFFIXES.get(file.suffix.lower())
    if found is None:
        raise InvalidInput(
            f"{file} does not say what it is", where="--format", hint=f"give --format {'|'.join(FORMATS)}"
        )
    return found


def _read(file: Path) -> bytes:
    try:
        with click.open_file(str(file), "rb") as stream:
            # One byte more than is allowed is enough to see that it is too large.
            data: bytes = stream.read(importing.MOST_BYTES + 1)
            return data
    except FileNotFoundError as error:
        raise NotFound(f"there is no file {file}", hint="check its name") from error
    except OSError as error:
        raise InvalidInput(f"{file} cannot be read: {error.strerror}", hint="check its name and mode") from error


def _show(plan: Mapping[str, Any], imported: Imported, *, whole: bool) -> None:
    """The plan, as people read it: what is added, changed and refused, and in the end how much."""
    most = None if whole else _SHOWN
    for each in plan["created"][:most]:
        click.secho(f"+ {_sketch(each['machine'])}", fg="green")
    _more(plan["created"], most, "added")
    for each in plan["changed"][:most]:
        click.secho(f"~ {each['name']}", fg="yellow")
        for change in each["changes"]:
            spoken = change["pointer"].removeprefix("/")
            click.secho(f"    {spoken}: {_value(change['before'])} -> {_value(change['after'])}", fg="yellow")
    _more(plan["changed"], most, "changed")
    for each in plan["refused"][:most]:
        place = f"{imported.places[each['index']]} {each['pointer'].removeprefix('/')}".strip()
        click.secho(f"! {_plain(each['name'] or '?')} ({place}): {_plain(each['reason'])} [{each['code']}]", fg="red")
        if each["hint"]:
            click.secho(f"    next: {_plain(each['hint'])}", fg="red")
    _more(plan["refused"], most, "refused")
    for name in plan["missing"]:
        click.secho(f"? {name} is not in the file; it stays", fg="cyan")
    counts = [(len(plan["created"]), "to add"), (len(plan["changed"]), "to change"), (len(plan["refused"]), "refused")]
    counts += [(plan["unchanged"], "unchanged"), (len(plan["missing"]), "missing")]
    told = ", ".join(f"{count} {what}" for count, what in counts if count or what in {"to add", "to change"})
    click.echo(f"{_machines(plan['machines'])}: {told}")


def _machines(number: int) -> str:
    return f"{number} machine{'' if number == 1 else 's'}"


def _more(rows: Sequence[object], most: int | None, what: str) -> None:
    if most is not None and len(rows) > most:
        click.echo(f"  ... and {len(rows) - most} more {what} (--all shows them)")


def _sketch(machine: Mapping[str, Any]) -> str:
    nics = [" ".join(filter(None, (nic["mac"], nic["ip"]))) for nic in machine["interfaces"]]
    parts = [machine["name"], ", ".join(nics), f"profile {machine['profile']}" if machine["profile"] else ""]
    return "  ".join([*filter(None, parts), *(f"#{tag}" for tag in machine["tags"])])


def _value(value: Any) -> str:
    if value is None or value in ("", [], {}):
        return "-"
    text = _plain(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    return text if len(text) <= _WIDTH else f"{text[:_WIDTH]}…"


def _plain(text: str) -> str:
    """The text on one line; a terminal obeys nothing in it."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


@contextmanager
def _progress() -> Iterator[Counting | None]:
    """A progress line on a terminal, taken away at the end; nothing on a pipe."""
    if not sys.stderr.isatty():
        yield None
        return
    try:
        yield lambda what, done, total: click.echo(
            f"\r\x1b[K{what} {done or total} of {total} machines", nl=False, err=True
        )
    finally:
        click.echo("\r\x1b[K", nl=False, err=True)
