"""What all commands share: the installation, who is asking, output, errors."""

import csv
import difflib
import getpass
import io
import json
import os
import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import yaml
from rich.console import Console
from rich.table import Table

from provisioner import logs
from provisioner.cli.client import server
from provisioner.cli.client.protocol import Client
from provisioner.core.content import load_yaml
from provisioner.core.pointers import spoken
from provisioner.errors import InvalidInput, InvalidSettings, ProvisionerError
from provisioner.settings import Settings, load

if TYPE_CHECKING:
    from provisioner.services.site import Actor, Site

Command = TypeVar("Command", bound=Callable[..., Any])
_WIDE = 4000
_LEAST = 12
# What changes with every change is no change.
_MOVING = frozenset({"revision", "updated_at"})
DRY_RUN = "(dry run: nothing was changed)"
FORMATS = ("table", "json", "yaml", "csv")


@dataclass
class Context:
    """What a command works with; the installation is opened when the command first needs it.

    Commands ask ``client``, which is this host's installation or the server that PROVISIONER_URL names. Those that work
    with files, keys or daemons of the server take ``settings`` and ``site``, which are refused for a remote server.
    """

    config: Path | None = None
    flags: dict[str, Any] = field(default_factory=dict)
    reason: str = ""

    @cached_property
    def client(self) -> Client:
        """The installation, here or on a server."""
        # Only one of the two is needed, and either takes longer to load than all the rest.
        if not server.is_remote():
            from provisioner.cli.client.local import LocalClient  # noqa: PLC0415

            return LocalClient(self.site, self.actor)
        from provisioner.cli.client.remote import RemoteClient  # noqa: PLC0415
        from provisioner.cli.client.transport import Api  # noqa: PLC0415

        if self.config or self.flags:
            raise InvalidSettings(
                "--config and --state-dir name an installation on this host",
                where=server.URL,
                hint=f"leave them out, or unset {server.URL}, which names a server",
            )
        found = server.from_environment()
        if found.in_clear:
            click.secho(
                f"warning: http: the token and all else can be read on the way to {found.host}", fg="yellow", err=True
            )
        return RemoteClient(Api.at(found, self.reason))

    def close(self) -> None:
        """Let go of what was opened."""
        if "client" in self.__dict__:
            self.client.close()
        if "site" in self.__dict__:
            self.site.engine.dispose()

    def changing(self, dry_run: bool) -> Client:
        """The installation for a change; with ``dry_run`` the change is taken back."""
        return self.client.rehearsing() if dry_run else self.client

    @cached_property
    def settings(self) -> Settings:
        """The settings in force on this host. Raises InvalidSettings when commands are to talk to a server."""
        if server.is_remote():
            ctx = click.get_current_context(silent=True)
            raise InvalidSettings(
                f"`{ctx.command_path if ctx else 'this command'}` is local only: it works with the server's own files",
                where=server.URL,
                hint=f"run it on the server, where {server.URL} is not set",
            )
        settings = load(self.config, flags=self.flags)
        logs.configure(settings)
        return settings

    @cached_property
    def site(self) -> "Site":
        """The installation on this host."""
        from provisioner.services.site import open_site  # noqa: PLC0415 - a remote server needs no database here

        return open_site(self.settings)

    @cached_property
    def actor(self) -> "Actor":
        """Who runs this command; under sudo, who called sudo."""
        from provisioner.services.site import Actor  # noqa: PLC0415

        who = os.environ.get("SUDO_USER") or getpass.getuser()
        return Actor(who=who, origin="cli", request=uuid.uuid4().hex, reason=self.reason)


pass_context = click.make_pass_decorator(Context, ensure=True)


class Errors(click.Group):
    """A group that shows our errors as text, with their exit codes."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ProvisionerError as error:
            show_error(error)
            ctx.exit(error.exit_code)


def show_error(error: ProvisionerError) -> None:
    """What happened, where, and the next step, on standard error."""
    # Without `emoji=False` the ":CD:" of a fingerprint or a MAC comes out as a picture of a disc.
    console = Console(stderr=True, soft_wrap=True, highlight=False, emoji=False)
    place = f"{spoken(error.where)}: " if error.where else ""
    console.print(f"[red]error[/red] \\[{error.code}] {_literal(place + error.message)}")
    if error.hint:
        console.print(f"  next: {_literal(error.hint)}")


def _literal(text: str) -> str:
    return text.replace("[", "\\[")


def output_option(command: Command) -> Command:
    """``--output table|json|yaml|csv``."""
    return click.option(
        "--output", "-o", "form", type=click.Choice(FORMATS), default="table", show_default=True, help="How to print."
    )(command)


def options(*decorators: Callable[[Any], Any]) -> Callable[[Command], Command]:
    """Several options as one decorator, in the order in which the help shows them."""

    def decorate(command: Command) -> Command:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


def confirm(question: str, *, err: bool = False) -> None:
    """Ask before a change that ``--yes`` makes without asking. Raises click.Abort when nobody says yes."""
    try:
        agreed = click.confirm(question, err=err)
    except click.Abort:  # no terminal, or Ctrl-C: the question's line is still open
        click.echo(err=True)
        agreed = False
    if not agreed:
        click.echo("nothing was changed; with --yes nobody is asked", err=True)
        raise click.Abort


def dry_run_option(command: Command) -> Command:
    """``--dry-run``: what would change, without changing it."""
    return click.option("--dry-run", is_flag=True, help="Show what would change, change nothing.")(command)


def print_rows(rows: Sequence[Mapping[str, Any]], form: str, columns: Sequence[str], empty: str) -> None:
    """A list; ``columns`` are those of the table and of CSV, ``empty`` says what to do when there is nothing."""
    if form == "json":
        click.echo(json.dumps(list(rows), indent=2, default=str))
    elif form == "yaml":
        click.echo(yaml.safe_dump([dict(row) for row in rows], sort_keys=False), nl=False)
    elif form == "csv":
        click.echo(_csv(rows, columns), nl=False)
    elif not rows:
        click.echo(empty)
    else:
        _table(rows, columns)


def _table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    # On a pipe nothing is wrapped or cut: the next program reads whole lines.
    console = Console(emoji=False) if sys.stdout.isatty() else Console(width=_WIDE, no_color=True, emoji=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.upper().replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(_literal(_cell(row.get(column))) for column in columns))
    console.print(table)


def cut_to_fit(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], column: str) -> list[Mapping[str, Any]]:
    """The rows for a table in which one column is cut on the left, where a terminal is too narrow for all of it."""
    if not sys.stdout.isatty():
        return list(rows)
    others = sum(
        2 + max([len(each), *(len(_cell(row.get(each))) for row in rows)]) for each in columns if each != column
    )
    room = max(Console().width - others, len(column), _LEAST)
    texts = [_cell(row.get(column)) for row in rows]
    cut = [text if len(text) <= room else f"…{text[1 - room :]}" for text in texts]
    return [{**row, column: text} for row, text in zip(rows, cut, strict=True)]


def _csv(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_inert(_cell(row[column])) if _is_said(row.get(column)) else "" for column in columns])
    return buffer.getvalue()


def _is_said(value: Any) -> bool:
    return value not in (None, "", [], (), {})


def _inert(text: str) -> str:
    """A spreadsheet must not take a machine's words for a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t")) else text


def _cell(value: Any) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(_cell(item) for item in value) or "-"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={_cell(item)}" for key, item in value.items()) or "-"
    return str(value)


def print_object(thing: Mapping[str, Any], form: str) -> None:
    """One object in full."""
    if form == "json":
        click.echo(json.dumps(dict(thing), indent=2, default=str))
    elif form == "csv":
        click.echo(_csv([thing], list(thing)), nl=False)
    elif form == "yaml":
        click.echo(yaml.safe_dump(dict(thing), sort_keys=False), nl=False)
    else:
        width = max(len(key) for key in thing)
        for key, value in thing.items():
            if isinstance(value, list) and value and isinstance(value[0], Mapping):
                for item in value:
                    click.echo(f"{key:<{width}}  {_cell(item)}")
            else:
                click.echo(f"{key:<{width}}  {_cell(value)}")


def print_change(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None, *, dry_run: bool) -> None:
    """What a change does, as a diff; for ``--dry-run`` and as the receipt of a change."""
    if show_change(before, after, "nothing would change" if dry_run else "nothing changed") and dry_run:
        click.echo(DRY_RUN)


def show_change(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None, none: str) -> bool:
    """A change as a diff, or ``none``; whether there is any."""
    old, new = (
        yaml.safe_dump({key: value for key, value in side.items() if key not in _MOVING}, sort_keys=False).splitlines()
        if side
        else []
        for side in (before, after)
    )
    lines = list(difflib.unified_diff(old, new, "now", "then", lineterm="", n=0))[2:]
    shown = [line for line in lines if not line.startswith("@@")]
    if not shown:
        click.echo(none)
    for line in shown:
        click.secho(line, fg="green" if line.startswith("+") else "red")
    return bool(shown)


def parameters(given: Sequence[str], unset: Sequence[str] = ()) -> dict[str, Any]:
    """``--param name=value`` options, the value read as YAML, and ``--unset`` names as None."""
    values: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise InvalidInput(f"{text!r} is not NAME=VALUE", where="--param", hint="for example --param timezone=UTC")
        values[name] = load_yaml(value, f"--param {name}")
    return values | dict.fromkeys(unset)


def given(**options: Any) -> dict[str, Any]:
    """The options that were given: those that are neither None nor empty tuples."""
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in options.items()
        if value is not None and value != ()
    }


def fields(changes: dict[str, Any]) -> dict[str, Any]:
    """The fields that a command's options give; ``params`` and ``unset`` become ``parameters``."""
    params, unset = changes.pop("params"), changes.pop("unset")
    return given(**changes) | ({"parameters": parameters(params, unset)} if params or unset else {})


PARAMETER_OPTIONS = (
    click.option("--param", "params", multiple=True, metavar="NAME=VALUE", help="A parameter (the value is YAML)."),
    click.option("--unset", multiple=True, metavar="NAME", help="Remove a parameter."),
)
KERNEL_OPTION = click.option(
    "--kernel-option", "kernel_options", multiple=True, help="For the installer's kernel; !name removes one."
)


def progress_bar(label: str) -> Callable[[int, int | None], None] | None:
    """A progress line on a terminal, nothing on a pipe."""
    if not sys.stderr.isatty():
        return None

    def show(done: int, total: int | None) -> None:
        part = f" of {total >> 20} MiB ({100 * done // max(total, 1)} %)" if total else " MiB"
        click.echo(f"\r{label}: {done >> 20}{part} ", nl=False, err=True)
        if total is not None and done >= total:
            click.echo("", err=True)

    return show
