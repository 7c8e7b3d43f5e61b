"""Handoff by a playbook that this host runs: ``{tool: ansible-push, playbook: site.yml}``.

The machine lets in a key that was made for this build alone, reports its SSH host keys, and waits; the worker runs
`ansible-playbook` against exactly those host keys. The key is gone from the machine when that is over.
"""

import ipaddress
import json
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from provisioner.core.ansible import group_names
from provisioner.errors import HandoffRefused, InvalidInput, ProvisionerError
from provisioner.handoff import ansible
from provisioner.handoff.protocol import (
    DEFAULT_TIMEOUT,
    Credentials,
    Finding,
    Host,
    Identity,
    Prepared,
    Reached,
    Settings,
    Subject,
    Tool,
    credential,
    known,
    text,
)

KEY = "ansible-push-key"
MARK = "provisioner-handoff"
"""The comment of the key in authorized_keys, by which it is found and taken away again."""
_FROM = r"[0-9a-fA-F.:/*?!]+(,[0-9a-fA-F.:/*?!]+)*"
_HOST_KEY = re.compile(r"(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)) [A-Za-z0-9+/]{40,4000}={0,3}")
_SYNTAX_SECONDS = 60.0
_REMOVE_SECONDS = 45.0


class AnsiblePush(Tool):
    """Runs a playbook of this host's against the machine."""

    name = "ansible-push"
    pushes = True

    def check(self, settings: Settings) -> None:
        """``playbook``; ``user``, ``become``, ``port``, ``from``, ``role``, ``variables``, ``variables_file``,
        ``vault_password``. Raises InvalidInput."""
        names = ("playbook", "user", "become", "port", "from", "role", "variables", "variables_file", "vault_password")
        known(self.name, settings, *names)
        hint = "a file under `playbooks_dir`, such as `site.yml`: no `..`, no leading `.` or `/`"
        text(self.name, settings, "playbook", ansible.PLAYBOOK, hint)
        text(self.name, settings, "user", r"[a-z_][a-z0-9_-]{0,31}", "an account of the machine", default="root")
        text(self.name, settings, "role", r"[A-Za-z0-9_.:-]{1,64}", "one word", default="")
        text(self.name, settings, "from", _FROM, "addresses and networks of this host, with commas", default="")
        credential(self.name, settings, "variables_file", "more variables, as YAML or JSON", default="")
        credential(self.name, settings, "vault_password", "the password of Ansible's vault", default="")
        port, become = settings.get("port", 22), settings.get("become", False)
        if isinstance(port, bool) or not isinstance(port, int) or not 1 <= port <= 65_535:
            raise InvalidInput(f"{port!r} is no port", where="handoff.port", hint="the one that sshd listens on; 22")
        if not isinstance(become, bool):
            raise InvalidInput(f"become is {become!r}", where="handoff.become", hint="true or false")
        ansible.check_variables(self.name, settings)

    def prepare(self, settings: Settings, subject: Subject) -> Prepared:
        """All settings; the inventory's host is the machine's name."""
        user = settings.get("user", "root")
        defaults = {"user": "root", "become": user != "root", "port": 22, "timeout": DEFAULT_TIMEOUT}
        about = {"fqdn": subject.fqdn, "profile": subject.profile, "role": settings.get("role", "")}
        return Prepared(defaults | dict(settings) | {"about": about}, subject.name, (KEY,))

    def credentials(self, prepared: Prepared, subject: Subject, host: Host) -> Credentials:  # noqa: ARG002 - protocol
        """An ed25519 key: the machine gets the public half, we keep the private one."""
        key = Ed25519PrivateKey.generate()
        private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
        public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
        return Credentials(secrets={KEY: public}, kept={"private_key": private}, public={"ssh_key": public})

    def body(self, prepared: Prepared) -> str:
        """Lets the key in, starts sshd, waits for the result and takes the key away."""
        told = prepared.settings
        options = ["restrict", "pty"]
        if told.get("from"):
            options.append(f'from="{told["from"]}"')
        values = {
            "push_user": told["user"],
            "push_port": told["port"],
            "push_seconds": told["timeout"],
            "push_options": ",".join(options),
            "push_key": KEY,
            "push_mark": MARK,
        }
        lines = [f"{name}={shlex.quote(str(value))}" for name, value in values.items()]
        return "\n".join(lines) + "\n" + ansible.shell("ansible_push.sh")

    def push(self, identity: Identity, reached: Reached, host: Host, say: Callable[[str], None]) -> int:
        """Run the playbook; ansible-playbook's exit status, 124 when it takes longer than ``timeout``.

        Raises HandoffRefused for a machine that gave no usable address or host keys, and where the playbook or a
        program is missing; CredentialMissing.
        """
        book = ansible.playbook(host, identity.settings["playbook"])
        runner = ansible.program("ansible-playbook")
        if runner is None or ansible.program("ssh") is None:
            raise HandoffRefused(
                "ansible-playbook or ssh is not installed here",
                hint="pip install 'provisioner[ansible]', apt install openssh-client",
            )
        with ansible.private_directory() as directory:
            inventory = _lay_out(directory, identity, reached)
            env = ansible.environment(directory)
            command = [runner, "-i", str(inventory), *_extra(directory, identity, host), str(book)]
            code = ansible.run_within(float(identity.settings["timeout"]), command, env, say, directory=book.parent)
            if code != ansible.TIMED_OUT:
                _take_key_away(directory, identity, reached, env)
            return code

    def probe(self, settings: Settings, host: Host) -> Iterator[Finding]:
        """The program, the playbook and its syntax, and the credentials."""
        yield from ansible.missing_credentials(host, settings, "variables_file", "vault_password")
        runner = ansible.program("ansible-playbook")
        if runner is None or ansible.program("ssh") is None:
            what = "ansible-playbook" if runner is None else "ssh"
            yield Finding(
                "error",
                f"{what} is not installed here",
                "the worker of this host runs the playbook, over SSH",
                "pip install 'provisioner[ansible]', or apt install ansible-core openssh-client",
            )
        try:
            book = ansible.playbook(host, settings["playbook"])
        except ProvisionerError as error:
            yield Finding("error", error.message, "the worker would have nothing to run", error.hint)
            return
        if runner is not None:
            yield from _syntax(runner, book, settings, host)


def _lay_out(directory: Path, identity: Identity, reached: Reached) -> Path:
    """Write the key, the host keys and the inventory; the inventory's path."""
    try:
        address = ipaddress.ip_address(reached.address)
    except ValueError as error:
        raise HandoffRefused(f"{reached.address[:80]!r} is no address") from error
    keys = [key for key in reached.host_keys if _HOST_KEY.fullmatch(key)]
    if not keys:
        raise HandoffRefused(f"{identity.machine} reported no SSH host key that can be checked")
    ansible.write_private(directory / "key", identity.kept["private_key"])
    ansible.write_private(directory / "known_hosts", "".join(f"{identity.name} {key}\n" for key in keys))
    told = identity.settings
    one = {
        "ansible_host": str(address),
        "ansible_port": told["port"],
        "ansible_user": told["user"],
        "ansible_become": told["become"],
        "ansible_ssh_private_key_file": str(directory / "key"),
        "ansible_ssh_common_args": shlex.join(_ssh_options(directory, identity)),
    }
    profile = told["about"]["profile"]
    groups: dict[str, Any] = {group_names("profile", [profile])[profile]: {"hosts": {identity.name: {}}}}
    content: Mapping[str, Any] = {"all": {"hosts": {identity.name: one}, "children": groups}}
    return ansible.write_private(directory / "inventory.json", json.dumps(content))


def _ssh_options(directory: Path, identity: Identity) -> list[str]:
    """No configuration, key, agent or known host of anybody's: this key, and the host keys that the build recorded."""
    options = {
        "UserKnownHostsFile": directory / "known_hosts",
        "GlobalKnownHostsFile": "/dev/null",
        "HostKeyAlias": identity.name,
        "StrictHostKeyChecking": "yes",
        "UpdateHostKeys": "no",
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "PreferredAuthentications": "publickey",
        "BatchMode": "yes",
        "ForwardAgent": "no",
        "ServerAliveInterval": "15",
        "ServerAliveCountMax": "8",
    }
    return ["-F", "none", *(word for name, value in options.items() for word in ("-o", f"{name}={value}"))]


def _extra(directory: Path, identity: Identity, host: Host) -> list[str]:
    told = identity.settings
    mine = ansible.variables(told, name=identity.machine, build=identity.build)
    words = ["--extra-vars", f"@{ansible.write_private(directory / 'variables.json', json.dumps(mine))}"]
    if told.get("variables_file"):
        words += ["--extra-vars", f"@{host.path(told['variables_file'])}"]
    if told.get("vault_password"):
        words += ["--vault-password-file", str(host.path(told["vault_password"]))]
    return words


def _take_key_away(directory: Path, identity: Identity, reached: Reached, env: Mapping[str, str]) -> None:
    """The machine does it too; but it may be cut off from us by the very playbook. It may be gone already."""
    told = identity.settings
    where = ["-i", str(directory / "key"), "-p", str(told["port"]), "-l", told["user"], reached.address]
    command = ["ssh", *_ssh_options(directory, identity), "-o", "ConnectTimeout=15", *where]
    ansible.ran(_REMOVE_SECONDS, [*command, f"sed -i '/ {MARK}$/d' ~/.ssh/authorized_keys"], env)


def _syntax(runner: str, book: Path, settings: Settings, host: Host) -> Iterator[Finding]:
    with ansible.private_directory() as directory:
        command = [runner, "--syntax-check", "-i", "localhost,", str(book)]
        if settings.get("vault_password"):
            command[1:1] = ["--vault-password-file", str(host.credentials / settings["vault_password"])]
        done = ansible.ran(_SYNTAX_SECONDS, command, ansible.environment(directory), book.parent)
    if done.code:
        yield Finding(
            "error",
            f"ansible-playbook refuses {settings['playbook']}",
            done.last,
            f"mend it: ansible-playbook --syntax-check {book}",
        )
