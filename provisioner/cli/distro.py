"""`provisioner distro`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from provisioner.cli.client import server
from provisioner.cli.common import (
    DRY_RUN,
    Context,
    cut_to_fit,
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
from provisioner.cli.radius import print_radius, print_rehearsed, rehearsal_option
from provisioner.cli.radius import progress as rehearsed
from provisioner.core.choices import ARCHES
from provisioner.core.firmware import FAMILIES
from provisioner.core.mediatree import Answers
from provisioner.errors import InvalidInput

if TYPE_CHECKING:
    from provisioner.cli.client.local import LocalClient
    from provisioner.services.mediaimport import Imported

COLUMNS = ("name", "os", "version", "arch", "kernel_name", "initrd_name", "tree")


@click.group()
def distro() -> None:
    """Installable systems: kernel, initrd, install tree."""


@distro.command("list")
@output_option
@pass_context
def list_(context: Context, /, form: str) -> None:
    """List all distros."""
    empty = "No distros yet: provisioner distro import ISO, or provisioner distro add --help"
    rows = context.client.distros.every()
    print_rows(cut_to_fit(rows, COLUMNS, "tree") if form == "table" else rows, form, COLUMNS, empty)


@distro.command()
@click.argument("name")
@output_option
@pass_context
def show(context: Context, /, name: str, form: str) -> None:
    """Show a distro."""
    print_object(context.client.distros.show(name), form)


@distro.command()
@click.argument("name")
@click.option("--url", metavar="URL", help="A tree on a mirror: it says itself what it is and where its kernel is.")
@click.option("--os", help=f"One of {', '.join(FAMILIES)}.")
@click.option("--version", help="Such as 9.6.")
@click.option("--arch", type=click.Choice(ARCHES), help="[default: x86_64]")
@click.option("--kernel", metavar="FILE|URL", help="Copied into the media store.")
@click.option("--initrd", metavar="FILE|URL", help="Copied into the media store.")
@click.option("--tree", default="", metavar="URL|DIR", help="Install tree or mirror; media serves a directory.")
@click.option("--iso", default="", metavar="FILE|URL", help="Ubuntu: the live-server ISO, which its installer loads.")
@click.option("--rootfs", default="", metavar="FILE|URL", help="Fedora CoreOS: the live system's root file system.")
@dry_run_option
@rehearsal_option
@pass_context
def add(context: Context, /, name: str, url: str | None, dry_run: bool, form: str, **options: str | None) -> None:
    """Register a distro; kernel and initrd are fetched now, and kept by their SHA-256.

    With --dry-run they are let go again, and you see which machines would be installed from it: a profile means the
    newest distro that fits. With --url all else is found there (.treeinfo, or Debian's dists/); what you say besides
    comes first. Without it --os, --version, --kernel and --initrd are needed. `distro import` takes an ISO or a
    directory.

    \b
    Examples:
      provisioner distro add rocky-9.6 --url http://mirror.example.com/rocky/9.6/BaseOS/x86_64/os
      provisioner distro add debian-12 --url http://mirror.example.com/debian --version 12 --dry-run
      provisioner distro add rocky-9.6 --os rocky --version 9.6 --kernel images/pxeboot/vmlinuz \\
          --initrd images/pxeboot/initrd.img --tree http://mirror.example.com/rocky/9.6/BaseOS/x86_64/os
      provisioner distro add ubuntu-24.04 --os ubuntu --version 24.04 --kernel casper/vmlinuz \\
          --initrd casper/initrd --iso ubuntu-24.04.3-live-server-amd64.iso
    """
    if url is not None:
        _add_from_url(context, name, url, options, dry_run, form)
        return
    for wanted in ("os", "version", "kernel", "initrd"):
        if options[wanted] is None:
            raise click.UsageError(f"Missing option '--{wanted}' (or '--url', where it is found).")
    changing = context.changing(dry_run)
    added = changing.distros.add(name, given(**{"arch": ARCHES[0]} | given(**options)), progress_bar(name))
    if dry_run:
        print_rehearsed(None, added, changing, form)
    else:
        _print_added(added)


def _add_from_url(
    context: Context, name: str, url: str, options: dict[str, str | None], dry_run: bool, form: str
) -> None:
    from provisioner.services import mediaimport  # noqa: PLC0415 - the services, only where they are here

    if options.pop("tree"):
        raise click.UsageError("--url is the tree: leave --tree out.")
    if [options.pop(role) for role in ("iso", "rootfs")] != ["", ""]:
        raise click.UsageError(f"--url without --iso and --rootfs; then: provisioner distro edit {name} --iso FILE|URL")
    if server.is_remote():
        raise InvalidInput(
            "a server of which this is the client does not look into trees",
            where="--url",
            hint="run it on the server, or give --os, --version, --kernel URL, --initrd URL and --tree URL",
        )
    answers = Answers(**given(**options))
    here = _here(context, dry_run)
    with _bars() as progress:
        added, medium = mediaimport.add_from_url(here.site, here.actor, name, url, answers, progress)
    click.echo(f"found by {medium.found_by}: {medium.os} {medium.version} {medium.arch}", err=form != "table")
    if dry_run:
        print_rehearsed(None, added, here, form)
        return
    _print_added(added)
    profiles = mediaimport.fitting(here.site, name)
    _print_fitting(profiles)
    _print_next(profiles, name)


def _here(context: Context, dry_run: bool) -> "LocalClient":
    """The installation of this host; with ``dry_run`` each change is taken back. Raises InvalidSettings elsewhere."""
    site = context.site
    from provisioner.cli.client.local import LocalClient  # noqa: PLC0415 - the services, only where they are here

    client = LocalClient(site, context.actor)
    return client.rehearsing() if dry_run else client


def _print_added(added: Mapping[str, Any]) -> None:
    files = {"kernel": added["kernel_sha256"], "initrd": added["initrd_sha256"]}
    files |= {role: file["sha256"] for role, file in (added.get("files") or {}).items()}
    click.echo(f"distro {added['name']} added: {', '.join(f'{role} {sha[:12]}' for role, sha in files.items())}")


@distro.command("import")
@click.argument("source", metavar="ISO|DIRECTORY", type=click.Path(path_type=Path))
@click.option("--name", default="", help="What to call it  [default: OS-VERSION, such as rocky-9.6]")
@click.option("--os", default="", help="When the medium does not say it.")
@click.option("--version", default="", help="When the medium does not say it.")
@click.option("--arch", default="", help="When the medium does not say it.")
@click.option("--kernel", default="", metavar="PATH", help="Another kernel: a path in it, an absolute path, or a URL.")
@click.option("--initrd", default="", metavar="PATH", help="Another initrd: likewise.")
@click.option("--sha256", default="", metavar="HEX", help="What the ISO must have, as its maker publishes it.")
@dry_run_option
@rehearsal_option
@pass_context
def import_(
    context: Context, /, source: Path, name: str, sha256: str, dry_run: bool, form: str, **options: str
) -> None:
    """Register a distro from its installation medium: an ISO image, or a directory with the same files.

    The medium says itself what it is (.treeinfo, .disk/info, casper/, media.1/, boot.cfg). It is unpacked without root
    and without mounting by a process that can do nothing else; nothing in it is run. Served as /media/NAME/. If the
    import fails or is killed, nothing of it is seen. With --dry-run all of it is read and checked and nothing is kept:
    you see what it is, what it would take, and which machines would be installed from it.

    \b
    Examples:
      provisioner distro import Rocky-9.6-x86_64-dvd.iso --sha256 $(cut -d' ' -f1 Rocky-9.6-x86_64-dvd.iso.sha256)
      provisioner distro import /usr/lib/debian-installer/images/12/amd64/text --dry-run
      provisioner distro import strange.iso --os rhel --version 9.6 --kernel boot/vmlinuz --initrd boot/initrd.img
    """
    here = _here(context, dry_run)
    from provisioner.services import mediaimport  # noqa: PLC0415 - the services, only where they are here

    with _bars() as progress:
        imported = mediaimport.import_medium(
            here.site, here.actor, source, name=name, answers=Answers(**options), sha256=sha256, progress=progress
        )
    if dry_run and form != "table":
        print_rehearsed(None, imported.distro, here, form)
        return
    _print_imported(imported, "would be imported" if dry_run else "imported", source)
    if dry_run:
        print_radius(here.radius(rehearsed()))
        click.echo(DRY_RUN)
    else:
        _print_next(imported.profiles, str(imported.distro["name"]))


def _print_imported(imported: "Imported", said: str, source: Path) -> None:
    thing, medium, written = imported.distro, imported.medium, imported.written
    click.echo(f"distro {thing['name']} {said}: {medium.os} {medium.version} {medium.arch}, by {medium.found_by}")
    click.echo(f"  SHA-256  {imported.sha256}" + ("" if source.is_file() else "  (of all names and contents)"))
    click.echo(f"  kernel   {medium.kernel}  {thing['kernel_sha256'][:12]}")
    click.echo(f"  initrd   {medium.initrd}  {thing['initrd_sha256'][:12]}")
    for role, file in (thing.get("files") or {}).items():
        click.echo(f"  {role:<8} {file['name']}  {file['sha256'][:12]}")
    if thing["tree"]:
        click.echo(f"  tree     /media/{thing['name']}/  ({written.files} files, {written.size >> 20} MiB)")
    if written.left_out:
        click.echo(f"  left out: {', '.join(map(repr, written.left_out))} (links that lead out of it, or devices)")
    for note in medium.notes:
        click.secho(f"note: {note}", fg="yellow")
    _print_fitting(imported.profiles)


def _print_fitting(profiles: Sequence[str]) -> None:
    click.echo(f"profiles that fit: {', '.join(profiles)}" if profiles else "no profile fits yet")


def _print_next(profiles: Sequence[str], name: str) -> None:
    if profiles:
        click.echo(f"next: provisioner machine edit MACHINE --profile {profiles[0]}")
    else:
        click.echo(
            f"next: provisioner profile add NAME --distro {name} --template TEMPLATE  (provisioner template list)"
        )


@contextmanager
def _bars() -> Iterator[Callable[[str, int, int], None] | None]:
    """A progress line for each thing that is done, on a terminal; nothing on a pipe."""
    bars: dict[str, Callable[[int, int | None], None]] = {}

    def show(what: str, done: int, total: int) -> None:
        bar = bars.get(what) or progress_bar(what)
        if bar is not None:
            bars[what] = bar
            bar(done, total or None)

    yield show if progress_bar("") is not None else None


@distro.command()
@click.argument("name")
@click.option("--os", help=f"One of {', '.join(FAMILIES)}.")
@click.option("--version", help="Such as 9.6.")
@click.option("--kernel", metavar="FILE|URL", help="Another kernel.")
@click.option("--initrd", metavar="FILE|URL", help="Another initrd.")
@click.option("--tree", metavar="URL|DIR", help="Another install tree.")
@click.option("--iso", metavar="FILE|URL", help="Another ISO; empty: none.")
@click.option("--rootfs", metavar="FILE|URL", help="Another root file system; empty: none.")
@dry_run_option
@rehearsal_option
@pass_context
def edit(context: Context, /, name: str, dry_run: bool, form: str, **options: str | None) -> None:
    """Change a distro; sealed builds keep the files they were sealed with.

    With --dry-run files are read or fetched too, and let go; every machine whose profile means the distro, now or then,
    is rendered as it is and as it would be.

    \b
    Example:
      provisioner distro edit rocky-9.6 --tree http://mirror.example.com/rocky/9.6/BaseOS/x86_64/os --dry-run
    """
    before = context.client.distros.show(name)
    changing = context.changing(dry_run)
    after = changing.distros.edit(name, given(**options), before["revision"], progress_bar(name))
    if dry_run:
        print_rehearsed(before, after, changing, form)
    else:
        print_change(before, after, dry_run=False)


def _kept(removed: Mapping[str, Any]) -> str:
    if "/media/trees/" not in removed["tree"]:
        return ""
    return f"its tree stays for builds that were sealed with it; when none needs it: rm -r {removed['tree']}"


add_changes_of_name(distro, lambda client: client.distros, _kept)
