"""Handoff by ansible-pull: ``{tool: ansible-pull, url: https://git.example.com/site.git, ref: COMMIT}``.

What runs as root on the machine is exactly what was meant: a commit by its full id, a tag or branch that must still be
at a named commit, or one with a good signature of a named signer.
"""

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote, urlsplit

from provisioner.errors import InvalidInput, ProvisionerError
from provisioner.handoff import ansible
from provisioner.handoff.protocol import (
    DEFAULT_TIMEOUT,
    Credentials,
    Finding,
    Host,
    Prepared,
    Settings,
    Subject,
    Tool,
    credential,
    known,
    text,
)

_URL = r"(https|http|ssh)://[A-Za-z0-9_.~%:@/\[\]+-]+|[a-z_][a-z0-9_-]*@[A-Za-z0-9.-]+:[A-Za-z0-9_.~/+-]+"
_REF = r"[A-Za-z0-9_][A-Za-z0-9_.+-]*(/[A-Za-z0-9_][A-Za-z0-9_.+-]*)*"
_COMMIT = r"[0-9a-f]{40}|[0-9a-f]{64}"
_FILES = {
    "deploy_key": "an SSH key that may read the repository",
    "known_hosts": "the git server's SSH host keys, as `ssh-keyscan` prints them",
    "password": "USER:PASSWORD or USER:TOKEN for a repository behind https",
    "ca": "the CA certificates of the git server",
    "signers": "who may sign: an OpenSSH allowed signers file, or PGP public keys",
    "variables_file": "more variables, as YAML or JSON; they may be secret",
    "vault_password": "Ansible's vault",
}
_LS_SECONDS = 30.0
_PATIENCE = 900


class AnsiblePull(Tool):
    """Has the machine fetch a playbook by git and run it on itself."""

    name = "ansible-pull"

    def check(self, settings: Settings) -> None:
        """``url``, ``ref``, ``playbook``; ``commit``, ``signers`` or ``unpinned``; the git server's and Ansible's
        credentials. Raises InvalidInput."""
        names = ("url", "ref", "commit", "unpinned", "playbook", "role", "variables", *_FILES)
        known(self.name, settings, *names)
        url = text(self.name, settings, "url", _URL, "https://HOST/PATH, ssh://USER@HOST/PATH or USER@HOST:PATH")
        ref = text(self.name, settings, "ref", _REF, "a full commit id, a tag or a branch")
        text(self.name, settings, "commit", _COMMIT, "the full id of the commit that `ref` must be at", default="")
        text(self.name, settings, "playbook", ansible.PLAYBOOK, "a path in the repository", default="local.yml")
        text(self.name, settings, "role", r"[A-Za-z0-9_.:-]{1,64}", "one word", default="")
        for name, what in _FILES.items():
            credential(self.name, settings, name, what, default="")
        _check_pin(settings, ref)
        _check_access(settings, url)
        ansible.check_variables(self.name, settings)

    def prepare(self, settings: Settings, subject: Subject) -> Prepared:
        """All settings; there is no server that would know an identity."""
        about = {
            "name": subject.name,
            "fqdn": subject.fqdn,
            "profile": subject.profile,
            "role": settings.get("role", ""),
        }
        told = {"playbook": "local.yml", "timeout": DEFAULT_TIMEOUT} | dict(settings)
        return Prepared(told | {"about": about}, "", tuple(_secret(name) for name in _FILES if settings.get(name)))

    def credentials(self, prepared: Prepared, subject: Subject, host: Host) -> Credentials:  # noqa: ARG002 - protocol
        """Copies of the files that the settings name. Raises CredentialMissing, InvalidInput."""
        told = prepared.settings
        copied = {_secret(name): host.text(told[name]) for name in _FILES if told.get(name)}
        if told.get("password"):
            copied[_secret("password")] = _stored_password(told["url"], copied[_secret("password")])
        return Credentials(copied)

    def body(self, prepared: Prepared) -> str:
        """Finds the commit, checks it, and runs ansible-pull on that very commit."""
        told = prepared.settings
        values = {
            "pull_url": told["url"],
            "pull_ref": told["ref"],
            "pull_commit": told.get("commit") or (told["ref"] if re.fullmatch(_COMMIT, told["ref"]) else ""),
            "pull_playbook": told["playbook"],
            "pull_seconds": told["timeout"],
            "pull_patience": min(_PATIENCE, told["timeout"]),
            "pull_variables": json.dumps(ansible.variables(told)),
        }
        values |= {f"pull_{name}": _secret(name) if told.get(name) else "" for name in _FILES}
        lines = [f"{name}={shlex.quote(str(value))}" for name, value in values.items()]
        return "\n".join(lines) + "\n" + ansible.shell("ansible_pull.sh")

    def probe(self, settings: Settings, host: Host) -> Iterator[Finding]:
        """The credentials, and whether the repository has the ref, asked from this host."""
        if settings.get("unpinned"):
            yield Finding(
                "warning",
                f"{settings['ref']} of {settings['url']} is not pinned",
                "whoever may push there is root on every machine that is built",
                "name a full commit id as `ref` or `commit`, or `signers`",
            )
        missing = list(ansible.missing_credentials(host, settings, *_FILES))
        yield from missing
        if missing:
            return
        git = ansible.program("git")
        if git is None:
            yield Finding("warning", "git is not installed here", "the repository was not tried", "apt install git")
            return
        try:
            yield from _remote(git, settings, host)
        except ProvisionerError as error:
            yield Finding("error", error.message, "the credential cannot be used", error.hint)


def _secret(name: str) -> str:
    return f"ansible-pull-{name.replace('_', '-')}"


def _check_pin(settings: Settings, ref: str) -> None:
    unpinned, commit = settings.get("unpinned", False), settings.get("commit")
    if not isinstance(unpinned, bool):
        raise InvalidInput(f"unpinned is {unpinned!r}", where="handoff.unpinned", hint="true or false")
    is_commit = re.fullmatch(_COMMIT, ref) is not None
    if is_commit and commit and commit != ref:
        raise InvalidInput("ref and commit are two commits", where="handoff.commit", hint="leave commit out")
    if not (is_commit or commit or settings.get("signers") or unpinned):
        raise InvalidInput(
            f"{ref} is not pinned: it can become another commit at any time",
            where="handoff.ref",
            hint="a full commit id, or `commit: ID` beside it, or `signers: FILE`; or say `unpinned: true`",
        )


def _check_access(settings: Settings, url: str) -> None:
    by_http = url.startswith(("http://", "https://"))
    if by_http and urlsplit(url).username is not None:
        hint = "put USER:PASSWORD into a file of credentials_dir, and its name into `password`"
        raise InvalidInput("the url holds a user or a password", where="handoff.url", hint=hint)
    if not by_http and not settings.get("known_hosts"):
        hint = "a file with the server's keys, as `ssh-keyscan HOST` prints them: compare them before you trust them"
        raise InvalidInput("a git server behind SSH needs known_hosts", where="handoff.known_hosts", hint=hint)
    if url.startswith("http://") and (settings.get("password") or settings.get("unpinned")):
        raise InvalidInput(
            "anybody on the way can read and change what http:// carries", where="handoff.url", hint="use https or ssh"
        )


def _stored_password(url: str, given: str) -> str:
    """As git's credential store wants it: one URL."""
    user, colon, password = given.partition(":")
    if not colon or not user or not password or re.search(r"\s", given):
        raise InvalidInput(
            "the file of `password` does not hold USER:PASSWORD", where="handoff.password", hint="on one line"
        )
    parts = urlsplit(url)
    return f"{parts.scheme}://{quote(user, safe='')}:{quote(password, safe='')}@{parts.netloc}"


def _remote(git: str, settings: Settings, host: Host) -> Iterator[Finding]:
    url, ref = settings["url"], settings["ref"]
    is_commit = re.fullmatch(_COMMIT, ref) is not None
    with ansible.private_directory() as directory:
        env = _git_environment(directory, settings, host)
        asked = ["HEAD"] if is_commit else [ref, f"refs/heads/{ref}", f"refs/tags/{ref}", f"refs/tags/{ref}^{{}}"]
        done = ansible.ran(_LS_SECONDS, [git, "ls-remote", url, *asked], env)
    if done.code:
        yield Finding(
            "error",
            f"the repository {url} cannot be read",
            done.last or f"git ended with exit status {done.code}",
            "is the address right, and the credential good? The machine asks with the same ones",
        )
        return
    lines = [line.split("\t") for line in done.output.splitlines() if line.count("\t") == 1]
    found = {name: commit for commit, name in lines}
    names = (f"refs/tags/{ref}^{{}}", f"refs/tags/{ref}", f"refs/heads/{ref}")
    at = next((found[name] for name in names if name in found), "")
    if not is_commit and not at:
        yield Finding("error", f"{url} has no branch or tag {ref}", "machines would find nothing to run", "push it")
    elif not is_commit and settings.get("commit") and at != settings["commit"]:
        yield Finding(
            "error",
            f"{ref} of {url} is at {at}, not at {settings['commit']}",
            "machines refuse it: it was moved",
            "find out who moved it; then name the commit that you mean",
        )


def _git_environment(directory: Path, settings: Settings, host: Host) -> Mapping[str, str]:
    options = ["ssh", "-F", "none", "-o", "BatchMode=yes", "-o", "IdentityAgent=none", "-o", "IdentitiesOnly=yes"]
    options += ["-o", "ConnectTimeout=15", "-o", "GlobalKnownHostsFile=/dev/null", "-o", "StrictHostKeyChecking=yes"]
    if settings.get("known_hosts"):
        options += ["-o", f"UserKnownHostsFile={host.path(settings['known_hosts'])}"]
    if settings.get("deploy_key"):
        # ssh refuses a key that others may read, whatever the administrator's copy allows.
        key = ansible.write_private(directory / "key", host.text(settings["deploy_key"]) + "\n")
        options += ["-i", str(key)]
    lines = ["[http]", "\tfollowRedirects = false", "[credential]", "\thelper ="]
    if settings.get("ca"):
        lines[1:1] = [f"\tsslCAInfo = {host.path(settings['ca'])}"]
    if settings.get("password"):
        stored = _stored_password(settings["url"], host.text(settings["password"]))
        lines.append(f"\thelper = store --file={ansible.write_private(directory / 'stored', stored + chr(10))}")
    ansible.write_private(directory / ".gitconfig", "\n".join(lines) + "\n")
    return ansible.environment(directory) | {"GIT_SSH_COMMAND": shlex.join(options)}
