"""`provisioner puppet-autosign`: the policy executable of a Puppet CA."""

import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import click

from provisioner.cli.client import server
from provisioner.cli.client.transport import Api
from provisioner.cli.common import show_error
from provisioner.core.content import load_yaml
from provisioner.errors import InvalidSettings, ProvisionerError, Unreachable

CONFIG = Path("/etc/provisioner/autosign.yaml")
_PATH = "/handoffs/puppet:autosign"
_KEYS = {
    "url": server.URL,
    "token": server.TOKEN,
    "token_file": server.TOKEN_FILE,
    "ca": server.CA,
    "fingerprint": server.FINGERPRINT,
}
_LONGEST_CONFIG = 65_536
_LONGEST_CSR = 65_536
_ANSWER_SECONDS = 15.0
_PAUSE_SECONDS = 3.0
_PATIENCE_SECONDS = 40.0
_AT_MOST_SECONDS = 60
"""The CA waits meanwhile, and so does the agent; agents give up after ten minutes."""


@click.command("puppet-autosign")
@click.argument("certname", required=False)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help=f"Where Provisioner is: url, token_file, fingerprint or ca, in YAML [{CONFIG}, if it is there].",
)
@click.option(
    "--check", "only_check", is_flag=True, help="Ask about a request that is none, to see that it is answered."
)
@click.pass_context
def puppet_autosign(ctx: click.Context, certname: str | None, config: Path | None, only_check: bool) -> None:
    """Tell a Puppet CA whether to sign: exit status 0 to sign the request on standard input, 1 to refuse.

    The CA's `autosign` setting names a script that runs this, as the Puppet server's user. It asks Provisioner, which
    says yes once, for the machine, challenge and extensions of a build whose handoff waits. Whatever goes wrong is a
    no, within a minute.

    \b
    /etc/provisioner/autosign.yaml (or PROVISIONER_URL and its companions):
      url: https://provisioner.example.com:8443
      token_file: /etc/provisioner/autosign.token
      fingerprint: "what `provisioner init` printed"

    \b
    Example, in the script /usr/local/bin/provisioner-autosign:
      exec provisioner puppet-autosign "$1"
    """
    _end_in_time(ctx)
    try:
        api = Api.at(server.from_environment(_environment(config)))
        if only_check:
            _ask(api, "provisioner-probe-", "")
            click.echo("Provisioner answers, and takes this token")
            return
        if not certname:
            raise click.UsageError("name the certname, as the CA does", ctx)
        verdict = _patiently(api, certname, sys.stdin.buffer.read(_LONGEST_CSR).decode("ascii", "replace"))
    except ProvisionerError as error:
        show_error(error)
        ctx.exit(1)
    if verdict != "sign":
        # The same for every reason: what this prints, the CA logs.
        click.echo(f"{certname!r} is refused; the build's events in Provisioner say why, or its log", err=True)
        ctx.exit(1)


def _environment(config: Path | None) -> Mapping[str, str]:
    """The variables of a remote client: from the file, or from the environment where there is no file."""
    if config is None and not CONFIG.exists():
        if not server.is_remote():
            raise InvalidSettings(
                "nothing says where Provisioner is",
                where=str(CONFIG),
                hint=f"write url, token_file and fingerprint there; or set {server.URL}",
            )
        return os.environ
    return _from_file(config or CONFIG)


def _from_file(path: Path) -> dict[str, str]:
    try:
        with path.open("rb") as file:
            data = load_yaml(file.read(_LONGEST_CONFIG).decode(), str(path))
            mode = os.fstat(file.fileno()).st_mode
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSettings(
            f"{path} cannot be read: {error}", where=str(path), hint="the Puppet server's user must be able to read it"
        ) from error
    known = ", ".join(_KEYS)
    if not isinstance(data, dict) or not all(key in _KEYS and isinstance(data[key], str) for key in data):
        raise InvalidSettings(
            f"{path} is not a few lines of YAML with texts", where=str(path), hint=f"it takes {known}"
        )
    if "url" not in data:
        raise InvalidSettings(f"{path} names no url", where=str(path), hint="such as https://HOST:8443")
    if "token" in data and mode & 0o077:
        raise InvalidSettings(
            f"{path} holds a token and can be read by others", where=str(path), hint=f"chmod 600 {path}"
        )
    return {_KEYS[key]: value for key, value in data.items()}


def _patiently(api: Api, certname: str, pem: str) -> str:
    """The verdict. A server that is not there yet is tried again; one that may have answered already is not."""
    end = time.monotonic() + _PATIENCE_SECONDS
    while True:
        verdict = "later"
        try:
            api.wire.connect()
        except Unreachable:
            if time.monotonic() > end:
                raise
        else:
            verdict = _ask(api, certname, pem)
        if verdict != "later" or time.monotonic() > end:
            return verdict
        time.sleep(_PAUSE_SECONDS)


def _ask(api: Api, certname: str, pem: str) -> str:
    body: dict[str, Any] = {"certname": certname, "csr": pem}
    answer = api.change("POST", _PATH, body, seconds=_ANSWER_SECONDS)
    return str(answer.get("verdict")) if isinstance(answer, dict) else "refuse"


def _end_in_time(ctx: click.Context) -> None:
    """Whatever hangs (a name server, say): a refusal, in time."""
    ctx.call_on_close(lambda: signal.alarm(0))
    signal.signal(signal.SIGALRM, _too_late)
    signal.alarm(_AT_MOST_SECONDS)


def _too_late(_number: int, _frame: FrameType | None) -> NoReturn:
    os.write(2, b"error: Provisioner did not answer in time; the certificate is not signed\n")
    os._exit(1)
