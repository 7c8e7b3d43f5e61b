"""`provisioner storm`."""

import click

from provisioner.cli.common import Context, output_option, pass_context, print_object


@click.group()
def storm() -> None:
    """Many machines that boot at once."""


@storm.command()
@click.option("--machines", type=click.IntRange(1, 1_000_000), required=True, help="How many boot.")
@click.option("--link", required=True, metavar="RATE", help="The server's link in bits a second: 1G, 2.5G, 10G.")
@click.option("--profile", help="What they are built from [the profile of the most machines].")
@click.option("--firmware", type=click.Choice(["bios", "uefi"]), default="uefi", show_default=True)
@click.option("--tftp-rate", type=float, metavar="MB/S", help="What the server can send by TFTP, if that is known.")
@click.option("--media-rate", type=float, metavar="MB/S", help="What the server can send by HTTP, if that is known.")
@output_option
@pass_context
def plan(
    context: Context,
    /,
    machines: int,
    link: str,
    profile: str | None,
    firmware: str,
    tftp_rate: float | None,
    media_rate: float | None,
    form: str,
) -> None:
    """Say how long it takes until all have loaded, what limits it, and how many to power on together.

    It counts with what earlier builds of the profile loaded from here, or else with the files that are registered.

    \b
    Example:
      provisioner storm plan --machines 400 --link 10G --profile rocky9
    """
    found = context.client.storm(
        machines=machines,
        link=link,
        profile=profile,
        firmware=firmware,
        tftp_rate=tftp_rate,
        media_rate=media_rate,
    )
    if form == "table":
        for sentence in found["sentences"]:
            click.echo(sentence)
    else:
        print_object(found, form)
