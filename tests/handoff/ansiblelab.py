"""What the tests of ansible-pull, ansible-push and AWX share: machines, a playbook, a vaulted file."""

import contextlib
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Served
from handoff.rootdir import Root, Wire, base

MARKS = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),  # the first of a kind makes its root directory
    pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root"),
]
PACKAGES = ("ansible-core", "git", "gnupg", "openssh-server", "python3")
VAULTED = "the vaulted canary word"
PLAYBOOK = """
- hosts: all
  tasks:
    - copy:
        dest: /etc/by-ansible
        content: "{{ provisioner.name }} {{ provisioner.profile }} {{ colour }}\\n"
    - copy: {dest: /etc/secret-by-ansible, content: "{{ canary }}\\n", mode: "0600"}
      no_log: true
      when: canary is defined
    - command: test -e /etc/mended
      when: fragile | default(false)
"""
_NUMBERS = itertools.count(1)


def credentials_of(served: Served) -> Path:
    """The service's credentials directory."""
    directory = served.state / "credentials"
    directory.mkdir(mode=0o700, exist_ok=True)
    return directory


@contextlib.contextmanager
def finished(lan: Wire) -> Iterator[Root]:
    """A finished machine of its own for each test, with SSH host keys of its own."""
    with lan.root(f"machine-{next(_NUMBERS)}", base(*PACKAGES)) as root:
        root.run(["sh", "-c", "rm /etc/ssh/ssh_host_*; ssh-keygen -q -A"])
        yield root


def vaulted(credentials: Path) -> dict[str, str]:
    """A file of variables that only the vault's password opens; both are canaries."""
    (credentials / "vault-password").write_text("the canary that opens the vault\n")
    (credentials / "vaulted").write_text(f"canary: {VAULTED}\n")
    command = ["ansible-vault", "encrypt", "--vault-password-file", str(credentials / "vault-password")]
    beside = Path(sys.executable).parent / command[0]
    subprocess.run([str(beside), *command[1:], str(credentials / "vaulted")], capture_output=True, check=True)
    return {"variables_file": "vaulted", "vault_password": "vault-password"}
