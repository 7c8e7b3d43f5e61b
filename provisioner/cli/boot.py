"""`provisioner boot` and `provisioner render`."""

import json

import click

from provisioner.cli.common import Context, output_option, parameters, pass_context, print_object
from provisioner.cli.nouns import as_of_option
from provisioner.core.firmware import KNOWN


@click.group()
def boot() -> None:
    """What happens at a network boot."""


@boot.command("explain")
@click.argument("mac")
@click.option(
    "--arch", type=click.Choice([each.name for each in KNOWN]), default="bios", show_default=True, help="The firmware."
)
@click.option("--from", "source", help="The address it would ask from; its assigned one unless given.")
@output_option
@pass_context
def explain_(context: Context, /, mac: str, arch: str, source: str | None, form: str) -> None:
    """Show the whole chain this MAC (or machine) would get from this firmware now, and what decided. Changes nothing.

    \b
    Example:
      provisioner boot explain 52:54:00:12:34:56 --arch uefi
    """
    chain = context.client.machines.boot(mac, arch, source)
    if form != "table":
        print_object(chain, form)
        return
    click.echo(f"{chain['machine'] or 'an unknown machine'} ({chain['mac']}, {chain['firmware']}) ", nl=False)
    click.secho(f"gets: {chain['decision']}", bold=True)
    click.echo(f"because {chain['because']}")
    for hop in chain["hops"]:
        click.echo(f"  {hop['hop']:<13} {hop['what']}")
    if chain["recorded"]:
        row = chain["recorded"]
        seen = f"first {row['first_seen']}, last {row['last_seen']}, from {row['address']}"
        click.echo(f"in quarantine: seen {row['times']} times, {seen}; see `provisioner machine discovered`")
    elif chain["decision"] == "discovery" and not chain["machine"]:
        click.echo("not in quarantine: this MAC never asked from a subnet of ours")


@click.command()
@click.argument("name")
@click.option("--file", "wanted", help="Only this file: answer, user-data, ipxe, grub, handoff, ...")
@click.option("--param", "params", multiple=True, metavar="NAME=VALUE", help="As for `build start`.")
@as_of_option
@click.option("--output", "-o", "form", type=click.Choice(("text", "json")), default="text", help="How to print.")
@pass_context
def render(
    context: Context, /, name: str, wanted: str | None, params: tuple[str, ...], as_of: str | None, form: str
) -> None:
    """Print the files that a build of this machine would be sealed with now; nothing is armed, tokens are masked.

    With --as-of those of then: the sealed files of the build that it had, or else rendered from the objects of that
    moment; which of the two is said on standard error and in JSON.

    \b
    Examples:
      provisioner render web01
      provisioner render web01 --file answer > web01.ks
      provisioner render web01 --as-of 2026-11-20 --file answer
    """
    if as_of and params:
        raise click.UsageError("--param is for what would be sealed now; what was then has no such parameters")
    asked = context.client.machines
    told = asked.rendered_as_of(name, as_of) if as_of else {"files": asked.render(name, parameters(params))}
    files = told["files"]
    if wanted is not None and wanted not in files:
        raise click.BadParameter(f"this build has {', '.join(sorted(files))}", param_hint="--file")
    if form == "json":
        click.echo(json.dumps(told | {"files": {wanted: files[wanted]} if wanted else files}, indent=2))
        return
    if as_of:
        click.echo(f"{told['machine']} as of {told['as_of']}: {told['because']}", err=True)
    for file, text in files.items():
        if wanted == file:
            click.echo(text, nl=False)
        elif wanted is None:
            click.secho(f"--- {file}", fg="cyan")
            click.echo(text)
