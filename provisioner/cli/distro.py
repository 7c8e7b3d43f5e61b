"""`provisioner distro`."""

import click

from provisioner.cli.common import (
    Context,
    given,
    output_option,
    pass_context,
    print_change,
    print_object,
    print_rows,
    progress_bar,
)
from provisioner.cli.nouns import add_changes_of_name
from provisioner.core.choices import ARCHES

COLUMNS = ("name", "os", "version", "arch", "kernel_name", "initrd_name", "tree")


@click.group()
def distro() -> None:
    """Installable systems: kernel, initrd, install tree."""


@distro.command("list")
@output_option
@pass_context
def list_(context: Context, /, form: str) -> None:
    """List all distros."""
    empty = "No distros yet: provisioner distro add --help shows how to register one"
    print_rows(context.client.distros.every(), form, COLUMNS, empty)


@distro.command()
@click.argument("name")
@output_option
@pass_context
def show(context: Context, /, name: str, form: str) -> None:
    """Show a distro."""
    print_object(context.client.distros.show(name), form)


@distro.command()
@click.argument("name")
@click.option("--os", required=True, help="rocky, rhel, alma, centos, fedora, debian or ubuntu.")
@click.option("--version", required=True, help="Such as 9.6.")
@click.option("--arch", type=click.Choice(ARCHES), default="x86_64", show_default=True)
@click.option("--kernel", required=True, metavar="FILE|URL", help="Copied into the media store.")
@click.option("--initrd", required=True, metavar="FILE|URL", help="Copied into the media store.")
@click.option("--tree", default="", metavar="URL|DIR", help="Install tree or mirror; media serves a directory.")
@pass_context
def add(context: Context, /, name: str, **options: str) -> None:
    """Register a distro; kernel and initrd are fetched now, and kept by their SHA-256.

    \b
    Example:
      provisioner distro add rocky-9.6 --os rocky --version 9.6 --kernel images/pxeboot/vmlinuz \\
          --initrd images/pxeboot/initrd.img --tree http://mirror.example.com/rocky/9.6/BaseOS/x86_64/os
    """
    added = context.client.distros.add(name, options, progress_bar(name))
    click.echo(f"distro {name} added: kernel {added['kernel_sha256'][:12]}, initrd {added['initrd_sha256'][:12]}")


@distro.command()
@click.argument("name")
@click.option("--os", help="rocky, rhel, alma, centos, fedora, debian or ubuntu.")
@click.option("--version", help="Such as 9.6.")
@click.option("--kernel", metavar="FILE|URL", help="Another kernel.")
@click.option("--initrd", metavar="FILE|URL", help="Another initrd.")
@click.option("--tree", metavar="URL|DIR", help="Another install tree.")
@pass_context
def edit(context: Context, /, name: str, **options: str | None) -> None:
    """Change a distro; sealed builds keep the files they were sealed with."""
    before = context.client.distros.show(name)
    after = context.client.distros.edit(name, given(**options), before["revision"], progress_bar(name))
    print_change(before, after, dry_run=False)


add_changes_of_name(distro, lambda client: client.distros)
