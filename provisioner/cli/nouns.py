"""The verbs that are the same for every noun."""

from collections.abc import Callable, Mapping
from typing import Any

import click

from provisioner.cli.common import Context, dry_run_option, pass_context, print_change
from provisioner.services.site import Actor, Site

Show = Callable[[Site, str], Mapping[str, Any]]
Rename = Callable[[Site, Actor, str, str], object]
Remove = Callable[[Site, Actor, str], None]


def add_rename_and_remove(group: click.Group, show: Show, rename: Rename, remove: Remove) -> None:
    """Give the noun ``rename`` and ``remove``, each with ``--dry-run``; services decide and refuse."""
    noun = group.name

    @group.command("rename", help=f"Give the {noun} another name; what refers to it follows, or refuses.")
    @click.argument("name")
    @click.argument("new_name")
    @dry_run_option
    @pass_context
    def rename_(context: Context, /, name: str, new_name: str, dry_run: bool) -> None:
        before = show(context.site, name)
        rename(context.site.rehearsing() if dry_run else context.site, context.actor, name, new_name)
        if dry_run:
            print_change(before, {**before, "name": new_name}, dry_run=True)
        else:
            click.echo(f"{noun} {before['name']} is now {new_name}")

    @group.command("remove", help=f"Remove the {noun}, if nothing refers to it. Sealed builds and the history stay.")
    @click.argument("name")
    @click.option("--yes", is_flag=True, help="Do not ask.")
    @dry_run_option
    @pass_context
    def remove_(context: Context, /, name: str, yes: bool, dry_run: bool) -> None:
        before = show(context.site, name)
        if dry_run:
            remove(context.site.rehearsing(), context.actor, name)
            print_change(before, None, dry_run=True)
            return
        if not yes:
            click.confirm(f"Remove {noun} {before['name']}?", abort=True)
        remove(context.site, context.actor, name)
        click.echo(f"{noun} {before['name']} removed")
