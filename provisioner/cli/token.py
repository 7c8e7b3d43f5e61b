"""`provisioner token`."""

from typing import Any

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
from provisioner.core.policy import NOUNS, Role

COLUMNS = ("name", "user", "role", "scope", "state", "expires_at", "last_used_at", "last_used_from")


@click.group()
def token() -> None:
    """Credentials of programs for the API: a role, a scope, an expiry; shown once, stored as a hash."""


_shared = options(
    click.option("--role", type=click.Choice([*map(str, Role)]), help="Never more than its user's."),
    click.option(
        "--scope", multiple=True, type=click.Choice(NOUNS), help="Only these objects; several times for more."
    ),
    click.option("--days", type=int, help="Good for so many days from now."),
    click.option("--expires", "expires_at", metavar="DATE", help="Until when (UTC): 2030-12-31, or with T18:00:00Z."),
    click.option("--never", is_flag=True, help="It does not expire."),
)


@token.command("list")
@click.option("--user", help="Those of one user.")
@output_option
@pass_context
def list_(context: Context, /, user: str | None, form: str) -> None:
    """List all API tokens, with their last use.

    A token is active, suspended (its user is disabled or expired), expired or revoked.
    """
    empty = "No tokens yet. Make one: provisioner token add inventory --role operator --scope machines"
    if user:
        # So that a name that is nobody's is not taken for somebody without tokens.
        context.client.users.show(user)
    rows = [row for row in context.client.tokens.every() if not user or row["user"] == user]
    print_rows(rows, form, COLUMNS, empty)


@token.command()
@click.argument("name")
@output_option
@pass_context
def show(context: Context, /, name: str, form: str) -> None:
    """Show an API token, but for its text: that was shown once."""
    print_object(context.client.tokens.show(name), form)


@token.command()
@click.argument("name")
@click.option("--user", help="Whose rights it has; left out, the only administrator's.")
@_shared
@dry_run_option
@output_option
@pass_context
def add(context: Context, /, name: str, user: str | None, dry_run: bool, form: str, **changes: Any) -> None:
    """Make an API token and show it, once. Good for 365 days unless you say otherwise.

    \b
    Examples:
      provisioner token add inventory --role operator --scope machines --days 90
      provisioner token add ci --user jane --expires 2030-12-31 --output json
    """
    owner = {"user": user} if user else {}
    made = context.changing(dry_run).tokens.add(name, _fields(changes) | owner)
    text = made.pop("token")
    if dry_run:
        print_change(None, made, dry_run=True)
    elif form != "table":
        print_object({"token": text} | made, form)
    else:
        scope = f", {' '.join(made['scope'])} only" if made["scope"] else ""
        click.echo(f"token {name}, once: {text}")
        click.echo(f"  {made['role']}{scope}, as {made['user']}, {_until(made['expires_at'])}")
        click.echo("  use it: curl -H 'Authorization: Bearer TOKEN' https://SERVER:8443/api/v1/machines")


def _until(expires_at: str | None) -> str:
    return f"until {expires_at}" if expires_at else "for ever; `provisioner token revoke` ends it"


@token.command()
@click.argument("name")
@_shared
@click.option("--all", "unscoped", is_flag=True, help="No scope: all that its role may.")
@dry_run_option
@pass_context
def edit(context: Context, /, name: str, unscoped: bool, dry_run: bool, **changes: Any) -> None:
    """Change an API token; its text stays good.

    \b
    Example:
      provisioner token edit inventory --scope machines --scope subnets --days 365
    """
    fields = _fields(changes)
    if unscoped and "scope" in fields:
        raise click.UsageError("--all and --scope exclude each other")
    fields |= {"scope": []} if unscoped else {}
    before = context.client.tokens.show(name)
    after = context.changing(dry_run).tokens.edit(name, fields, before["revision"])
    print_change(before, after, dry_run=dry_run)


@token.command()
@click.argument("name")
@dry_run_option
@pass_context
def revoke(context: Context, /, name: str, dry_run: bool) -> None:
    """Let an API token open nothing any more, from the next request on, and keep it in the list.

    \b
    Example:
      provisioner --reason "in a public repository" token revoke ci
    """
    before = context.client.tokens.show(name)
    after = context.changing(dry_run).tokens.revoke(name, before["revision"])
    print_change(before, after, dry_run=dry_run)


def _fields(changes: dict[str, Any]) -> dict[str, Any]:
    never = changes.pop("never")
    if sum((never, changes["expires_at"] is not None, changes["days"] is not None)) > 1:
        raise click.UsageError("--days, --expires and --never exclude each other")
    return given(**changes) | ({"expires_at": None} if never else {})


add_changes_of_name(token, lambda client: client.tokens)
token.commands["remove"].help = "Remove the token; it opens nothing from the next request on. The history stays."
