"""`provisioner user`."""

from typing import Any, TextIO

import click

from provisioner.cli.common import (
    Context,
    dry_run_option,
    given,
    options,
    output_option,
    pass_context,
    print_change,
    print_object,
    print_rows,
)
from provisioner.cli.nouns import add_changes_of_name
from provisioner.core.passwords import LEAST, MOST
from provisioner.core.policy import Role
from provisioner.services import passwords

COLUMNS = ("name", "role", "disabled", "expires_at")
SESSION_COLUMNS = ("user", "source", "created_at", "last_seen_at", "expires_at", "uid")
_PROMPT = f"Password ({LEAST} characters at least)"


class _HashFile(click.File):
    """A file; the hash itself would be seen in the list of processes."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str) and value.startswith(("$", "{")):
            self.fail("write the hash into a file, or give - and send it in: others see command lines", param, ctx)
        return super().convert(value, param, ctx)


@click.group()
def user() -> None:
    """People who may log in to the admin plane, and their roles.

    \b
    viewer    sees all but users, tokens and webhooks
    operator  sees the same; registers machines, assigns profiles, starts builds
    author    sees the same; writes profiles and templates, and so is root on what others build from them
    admin     everything
    """


_role = click.option(
    "--role", type=click.Choice([*map(str, Role)]), help="What they are trusted with; see `user --help`."
)
_ends = options(
    click.option("--expires", "expires_at", metavar="DATE", help="Until when (UTC): 2030-12-31, or with T18:00:00Z."),
    click.option("--never", is_flag=True, help="They do not expire."),
)
_password = options(
    click.option(
        "--password-file",
        "file",
        type=click.File(errors="surrogateescape"),
        metavar="FILE",
        help="The password in a file; - is standard input. Else one is made, and printed once.",
    ),
    click.option("--ask", is_flag=True, help="Ask for the password."),
)
_hash = click.option(
    "--password-hash",
    "hash_file",
    type=_HashFile(errors="surrogateescape"),
    metavar="FILE",
    help="A hash made elsewhere, in a file; - is standard input. argon2, bcrypt, SHA crypt or yescrypt.",
)


@user.command("list")
@output_option
@pass_context
def list_(context: Context, /, form: str) -> None:
    """List all users."""
    empty = "No users yet. `provisioner init` makes the first: admin"
    print_rows(context.client.users.every(), form, COLUMNS, empty)


@user.command()
@click.argument("name")
@output_option
@pass_context
def show(context: Context, /, name: str, form: str) -> None:
    """Show a user."""
    print_object(context.client.users.show(name), form)


@user.command()
@click.argument("name", required=False)
@output_option
@pass_context
def sessions(context: Context, /, name: str | None, form: str) -> None:
    """Show who is logged in, from where, and since when. Setting a password ends them all."""
    print_rows(context.client.users.sessions(name), form, SESSION_COLUMNS, "Nobody is logged in")


@user.command()
@click.argument("name")
@click.option("--role", type=click.Choice([*map(str, Role)]), required=True, help="What they are trusted with.")
@_ends
@_password
@_hash
@dry_run_option
@output_option
@pass_context
def add(
    context: Context,
    /,
    name: str,
    file: TextIO | None,
    ask: bool,
    hash_file: TextIO | None,
    dry_run: bool,
    form: str,
    **given_: Any,
) -> None:
    """Add a user. Without --password-file, --ask and --password-hash a password is made and printed once.

    \b
    Examples:
      provisioner user add jane --role operator
      provisioner user add joe --role viewer --expires 2030-12-31 --password-file -
      getent shadow ada | cut -d: -f2 | provisioner user add ada --role author --password-hash -
    """
    if hash_file is not None and (file is not None or ask):
        raise click.UsageError("--password-hash excludes --password-file and --ask")
    password, made = ("", False) if hash_file is not None else _read(file, ask)
    secret = {"password": password} if hash_file is None else {"password_hash": _line(hash_file)}
    after = context.changing(dry_run).users.add(name, _fields(given_) | secret)
    if dry_run:
        print_change(None, after, dry_run=True)
    elif form != "table":
        print_object(after | ({"password": password} if made else {}), form)
    else:
        click.echo(f"user {name} added, {after['role']}")
        if made:
            click.echo(f"  password, once: {password}")


@user.command()
@click.argument("name")
@_role
@click.option(
    "--enabled/--disabled", "enabled", default=None, help="Disabled: logins, sessions and tokens are refused."
)
@_ends
@_hash
@dry_run_option
@pass_context
def edit(context: Context, /, name: str, hash_file: TextIO | None, dry_run: bool, **changes: Any) -> None:
    """Change a user. Whoever loses rights is logged out at once; their tokens lose the same rights.

    A password is set by `user password`; here only a hash that another system made, which ends the user's sessions too.

    \b
    Examples:
      provisioner user edit jane --role author
      provisioner --reason "left the team" user edit joe --disabled
    """
    before = context.client.users.show(name)
    secret = {} if hash_file is None else {"password_hash": _line(hash_file)}
    after = context.changing(dry_run).users.edit(name, _fields(changes) | secret, before["revision"])
    print_change(before, after, dry_run=dry_run)


@user.command()
@click.argument("name")
@_password
@pass_context
def password(context: Context, /, name: str, file: TextIO | None, ask: bool) -> None:
    """Set a user's password and end their sessions; their tokens stay good (see `token list --user NAME`).

    \b
    Example:
      provisioner user password jane
    """
    chosen, made = _read(file, ask)
    context.client.users.edit(name, {"password": chosen})
    click.echo(f"user {name} has another password; their sessions are over")
    if made:
        click.echo(f"  password, once: {chosen}")


def _fields(changes: dict[str, Any]) -> dict[str, Any]:
    never, enabled = changes.pop("never"), changes.pop("enabled", None)
    if never and changes["expires_at"]:
        raise click.UsageError("--expires and --never exclude each other")
    fields = given(**changes)
    fields |= {"expires_at": None} if never else {}
    return fields | ({"disabled": not enabled} if enabled is not None else {})


def _line(file: TextIO) -> str:
    return file.read(1024).strip()


def _read(file: TextIO | None, ask: bool) -> tuple[str, bool]:
    """The password, and whether we made it. Never from the command line, which every user of the host can read."""
    if file is not None and ask:
        raise click.UsageError("--password-file and --ask exclude each other")
    if file is not None:
        # One character more than any password, and the line's end, so that what is too long is seen as such.
        text = file.read(MOST + 3)
        return text.removesuffix("\n").removesuffix("\r"), False
    if ask:
        return str(click.prompt(_PROMPT, hide_input=True, confirmation_prompt=True)), False
    return passwords.made(), True


add_changes_of_name(user, lambda client: client.users)
user.commands["remove"].help = "Remove the user, with their sessions and tokens. The history stays."
