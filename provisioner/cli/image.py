"""`provisioner image`."""

import click

from provisioner.cli.common import (
    Context,
    dry_run_option,
    given,
    output_option,
    pass_context,
    print_change,
    print_object,
    print_rows,
    progress_bar,
)
from provisioner.cli.nouns import add_changes_of_name
from provisioner.cli.radius import print_rehearsed, rehearsal_option
from provisioner.core.choices import ARCHES, IMAGE_FORMATS, IMAGE_KINDS

COLUMNS = ("name", "kind", "os", "version", "arch", "format", "root", "size", "sha256")


@click.group()
def image() -> None:
    """Disk images: golden (complete) or stem-cell (a base that configuration management finishes)."""


@image.command("list")
@output_option
@pass_context
def list_(context: Context, /, form: str) -> None:
    """List all images."""
    empty = "No images yet: scripts/build-image makes one, provisioner image add NAME --file FILE registers it"
    print_rows(context.client.images.every(), form, COLUMNS, empty)


@image.command()
@click.argument("name")
@output_option
@pass_context
def show(context: Context, /, name: str, form: str) -> None:
    """Show an image."""
    print_object(context.client.images.show(name), form)


@image.command()
@click.argument("name")
@click.option("--file", required=True, metavar="FILE|URL", help="The image; copied into the media store.")
@click.option("--os", required=True, help="Such as debian.")
@click.option("--version", required=True, help="Such as 12.")
@click.option("--arch", type=click.Choice(ARCHES), default="x86_64", show_default=True)
@click.option("--kind", type=click.Choice(IMAGE_KINDS), default="stem-cell", show_default=True)
@click.option("--format", type=click.Choice(IMAGE_FORMATS), default="raw.gz", show_default=True)
@click.option("--root", default="", help="Its root file system: LABEL=... or a partition's number.")
@dry_run_option
@rehearsal_option
@pass_context
def add(context: Context, /, name: str, dry_run: bool, form: str, **options: str) -> None:
    """Register a disk image, kept by its SHA-256. With --dry-run it is only read.

    \b
    Example:
      provisioner image add stem-debian12 --file stem.raw.gz --os debian --version 12 --root LABEL=stem-root
    """
    changing = context.changing(dry_run)
    added = changing.images.add(name, options, progress_bar(name))
    if dry_run:
        print_rehearsed(None, added, changing, form)
        return
    click.echo(f"image {name} added: {added['size'] >> 20} MiB, SHA-256 {added['sha256'][:12]}")


@image.command()
@click.argument("name")
@click.option("--file", metavar="FILE|URL", help="Another file.")
@click.option("--version", help="Such as 12.")
@click.option("--kind", type=click.Choice(IMAGE_KINDS))
@click.option("--format", type=click.Choice(IMAGE_FORMATS))
@click.option("--root", help="Its root file system: LABEL=... or a partition's number.")
@dry_run_option
@rehearsal_option
@pass_context
def edit(context: Context, /, name: str, dry_run: bool, form: str, **options: str | None) -> None:
    """Change an image; sealed builds keep the file they were sealed with. With --dry-run a file is only read."""
    before = context.client.images.show(name)
    changing = context.changing(dry_run)
    after = changing.images.edit(name, given(**options), before["revision"], progress_bar(name))
    if dry_run:
        print_rehearsed(before, after, changing, form)
    else:
        print_change(before, after, dry_run=False)


add_changes_of_name(image, lambda client: client.images)
