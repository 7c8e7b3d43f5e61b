"""`provisioner webhook`."""

import sys
from pathlib import Path
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
from provisioner.errors import InvalidInput, cause

_COLUMNS = ("name", "url", "events", "enabled", "waiting", "last_delivery")
_DELIVERIES = ("uid", "created_at", "event", "machine", "state", "attempts", "status", "error", "due_at")
_NONE_YET = (
    "No webhooks yet. Add one: provisioner webhook add chat --url https://chat.example.com/hook --event build.failed"
)


@click.group()
def webhook() -> None:
    """URLs that are told of events: machines added, changed and removed, builds as they go on.

    Deliveries are signed with a secret, tried eight times in a day and a half, and kept for two weeks. Private
    networks are reached; loopback, link-local and this host's own addresses only if the setting `webhook_networks`
    allows them.
    """


_shared = options(
    click.option(
        "--event",
        "events",
        multiple=True,
        help="An event such as build.failed, or a group such as machine.*; several times for more. Without it: all.",
    ),
    click.option(
        "--secret-file",
        type=click.Path(path_type=Path, allow_dash=True),
        help="A file that holds the secret, - for standard input.",
    ),
    click.option("--description", help="What it is for."),
)


@webhook.command("list")
@output_option
@pass_context
def list_(context: Context, /, form: str) -> None:
    """List all webhooks, and how the latest delivery of each went."""
    rows = context.client.webhooks.every()
    if form in {"table", "csv"}:
        rows = [row | {"last_delivery": _fared(row["last_delivery"])} for row in rows]
        rows = [row | {"events": row["events"] or "all"} for row in rows]
    print_rows(rows, form, _COLUMNS, _NONE_YET)


@webhook.command()
@click.argument("name")
@output_option
@pass_context
def show(context: Context, /, name: str, form: str) -> None:
    """Show a webhook. Its secret is shown to nobody."""
    shown = context.client.webhooks.show(name)
    if form in {"table", "csv"}:
        shown |= {"events": shown["events"] or "all", "last_delivery": _fared(shown["last_delivery"])}
    print_object(shown, form)


@webhook.command()
@click.argument("name")
@click.option("--url", required=True, help="Where to POST, http or https.")
@_shared
@click.option("--disabled", is_flag=True, help="Tell it nothing yet.")
@dry_run_option
@pass_context
def add(
    context: Context, /, name: str, disabled: bool, secret_file: Path | None, dry_run: bool, **changes: Any
) -> None:
    """Add a webhook. Without a secret one is made, and shown this once.

    \b
    Examples:
      provisioner webhook add chat --url https://chat.example.com/hook --event build.failed --event build.flagged
      provisioner webhook add cmdb --url http://10.0.9.5/provisioner --secret-file - <secret.txt
    """
    fields = given(**changes) | _secret(secret_file) | {"enabled": not disabled}
    after = context.changing(dry_run).webhooks.add(name, fields)
    key = after.pop("key", None)
    if dry_run:
        print_change(None, after, dry_run=True)
        return
    click.echo(f"webhook {name} added: {after['url']} is told of {', '.join(after['events']) or 'all events'}")
    _show_once(key)
    click.echo(f"  try it: provisioner webhook test {name}")


@webhook.command()
@click.argument("name")
@click.option("--url", help="Where to POST. Another scheme, host or port needs the secret again.")
@_shared
@click.option("--all-events", is_flag=True, help="Tell it of everything.")
@click.option("--new-secret", is_flag=True, help="Make another secret, and show it this once.")
@click.option("--enabled/--disabled", default=None, help="Whether it is told of anything.")
@dry_run_option
@pass_context
def edit(
    context: Context,
    /,
    name: str,
    all_events: bool,
    new_secret: bool,
    secret_file: Path | None,
    dry_run: bool,
    **changes: Any,
) -> None:
    """Change a webhook. Another receiver without its secret is disabled, since the old secret is not given to it.

    \b
    Examples:
      provisioner webhook edit chat --event 'build.*'
      provisioner webhook edit chat --url https://chat2.example.com/hook --new-secret
    """
    if new_secret and secret_file is not None:
        raise InvalidInput("give a secret or have one made, not both", where="--new-secret", hint="leave one out")
    if all_events and changes["events"]:
        raise InvalidInput("choose some events or all, not both", where="--all-events", hint="leave one out")
    before = context.client.webhooks.show(name)
    fields = given(**changes) | _secret(secret_file) | ({"events": []} if all_events else {})
    fields |= {"new_secret": True} if new_secret else {}
    after = context.changing(dry_run).webhooks.edit(name, fields, before["revision"])
    key = after.pop("key", None)
    print_change(_administered(before), _administered(after), dry_run=dry_run)
    if not dry_run:
        _show_once(key)
    if after["secret"] is None:
        click.echo("  it is disabled: another receiver needs a secret of its own", err=True)
        click.echo(
            f"  next: provisioner webhook edit {name} --secret-file FILE --enabled (or --new-secret --enabled)",
            err=True,
        )


@webhook.command()
@click.argument("name")
@output_option
@pass_context
def test(context: Context, /, name: str, form: str) -> None:
    """Send a `ping` at once and show what came; exit code 1 if it was not taken."""
    came = context.client.webhooks.test(name)
    if form != "table":
        print_object(came, form)
    elif came["delivered"]:
        click.echo(f"{came['url']} took it: status {came['status']}, {came['seconds']} s")
    else:
        click.secho(f"{came['url']} did not take it: {came['error']}", fg="red")
    raise SystemExit(0 if came["delivered"] else 1)


@webhook.command()
@click.argument("name")
@click.option("--limit", type=click.IntRange(1, 500), default=50, show_default=True, help="How many.")
@click.option("--cursor", help="The page after: the cursor that the page before ended with.")
@output_option
@pass_context
def deliveries(context: Context, /, name: str, limit: int, cursor: str | None, form: str) -> None:
    """List what a webhook was told, the newest first, with what came of it."""
    page = context.client.webhooks.deliveries(name, limit, cursor)
    rows = page["items"]
    if form in {"table", "csv"}:
        rows = [row | {"machine": ((row["payload"] or {}).get("machine") or {}).get("name")} for row in rows]
    empty = f"No deliveries yet: nothing happened that it is told of. Try it: provisioner webhook test {name}"
    print_rows(rows, form, _DELIVERIES, empty)
    if page["next"]:
        click.echo(f"more: provisioner webhook deliveries {name} --limit {limit} --cursor {page['next']}", err=True)


@webhook.command()
@click.argument("uid")
@pass_context
def redeliver(context: Context, /, uid: str) -> None:
    """Send a delivery again, with the same id and body.

    \b
    Example:
      provisioner webhook redeliver 0f3a61b2c4d5e6f708192a3b4c5d6e7f
    """
    again = context.client.webhooks.redeliver(uid)
    click.echo(f"{again['event']} {uid} is sent again within a second, if `provisioner serve` runs")


add_changes_of_name(webhook, lambda client: client.webhooks)


def _secret(path: Path | None) -> dict[str, str]:
    if path is None:
        return {}
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(
            f"the secret cannot be read: {cause(error)}", where="--secret-file", hint="check the file"
        ) from error
    return {"secret": text.strip("\r\n")}


def _show_once(key: str | None) -> None:
    if key is not None:
        click.echo(f"  secret: {key}   (shown only now)")


def _administered(view: dict[str, Any]) -> dict[str, Any]:
    """Without how it fares, which changes by itself."""
    return {key: value for key, value in view.items() if key not in {"waiting", "last_delivery", "revision"}}


def _fared(last: dict[str, Any] | None) -> str | None:
    if last is None:
        return None
    return f"{last['event']} {last['state']}" + (f": {last['error']}" if last["error"] else "")
