"""`provisioner`: the root of all commands."""

from pathlib import Path

import click

from provisioner import __version__
from provisioner.cli import (
    boot,
    build,
    bulk,
    content,
    dhcp,
    discovered,
    distro,
    history,
    image,
    inventory,
    machine,
    profile,
    puppet,
    setup,
    simulate,
    storm,
    subnet,
    template,
    token,
    user,
    webhook,
)
from provisioner.cli.common import Context, Errors

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


@click.group(cls=Errors, context_settings=_CONTEXT)
@click.version_option(__version__, prog_name="provisioner")
@click.option("--config", type=click.Path(path_type=Path), help="Settings file [/etc/provisioner/provisioner.yaml].")
@click.option("--state-dir", type=click.Path(path_type=Path), help="Where database, keys and media live.")
@click.option("--reason", default="", help="Why; kept in the history with whatever this command changes.")
@click.pass_context
def cli(ctx: click.Context, config: Path | None, state_dir: Path | None, reason: str) -> None:
    """Rack a server, power it on: it netboots, is installed from the answer file rendered for its MAC address, and is
    handed to your configuration management.

    \b
    The first five minutes:
      provisioner init
      provisioner serve
      provisioner subnet add lab --cidr 10.0.2.0/24 --gateway 10.0.2.1 \\
          --dns 10.0.2.1 --dhcp off
      provisioner distro add rocky-9.6 --os rocky --version 9.6 --arch x86_64 \\
          --kernel FILE|URL --initrd FILE|URL --tree URL
      provisioner machine add web01 --mac 52:54:00:12:34:56 --ip 10.0.2.11 \\
          --profile rocky9
      provisioner build start web01
      provisioner build show web01 --watch

    \b
    Elsewhere than on the server the same commands ask its API:
      export PROVISIONER_URL=https://SERVER:8443
      # a token that `provisioner token add` printed; chmod 600
      export PROVISIONER_TOKEN_FILE=~/.provisioner-token
      # of its own certificate, as `provisioner init` printed it;
      # or PROVISIONER_CA, a PEM file with its authority
      export PROVISIONER_FINGERPRINT=...
    """
    flags = {"state_dir": state_dir.absolute()} if state_dir else {}
    ctx.obj = Context(config=config, flags=flags, reason=reason)
    ctx.call_on_close(ctx.obj.close)


for command in (
    setup.init,
    setup.serve,
    setup.check,
    content.apply,
    content.export,
    boot.render,
    simulate.simulate,
    puppet.puppet_autosign,
):
    cli.add_command(command)
for group in (
    machine.machine,
    subnet.subnet,
    profile.profile,
    template.template,
    distro.distro,
    image.image,
    build.build,
    boot.boot,
    dhcp.dhcp,
    history.history,
    inventory.inventory,
    storm.storm,
    user.user,
    token.token,
    webhook.webhook,
):
    cli.add_command(group)
for command in (discovered.discovered, discovered.forget, bulk.import_, bulk.export):
    machine.machine.add_command(command)


def main() -> None:
    """The program's entry."""
    cli(prog_name="provisioner")
