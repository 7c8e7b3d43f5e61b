"""ansible-pull, git and sshd as Debian ships them, between real namespaces and the service."""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import Served
from handoff.ansiblelab import MARKS, PACKAGES, PLAYBOOK, VAULTED, finished, vaulted
from handoff.canary import Canaries
from handoff.firstday import FirstDay
from handoff.git_server import git_over_https
from handoff.rootdir import Root, Wire, base
from handoff.setup_steps import steps

from provisioner.handoff.ansible_pull import AnsiblePull
from provisioner.handoff.protocol import Host

pytestmark = MARKS


@pytest.fixture
def machine(lan: Wire) -> Iterator[Root]:
    with finished(lan) as root:
        yield root


@dataclass(frozen=True)
class Repository:
    """A git repository behind a real sshd on a machine of its own."""

    root: Root
    url: str

    def git(self, script: str, stdin: str = "") -> str:
        """Run shell in a clone of it, as its owner, and push what came of it."""
        script = f"set -eu; cd ~/work; {script}; git push -q --follow-tags -f origin HEAD:main; git push -q -f --tags"
        return self.root.run(["su", "git", "-c", script], stdin=stdin).stdout.strip()

    def commit(self, content: str, file: str = "local.yml") -> str:
        """Another commit; its full id."""
        return self.git(f"cat >{file}; git add .; git commit -q --allow-empty -m change; git rev-parse HEAD", content)


@pytest.fixture(scope="module")
def repository(lan: Wire, credentials: Path) -> Iterator[Repository]:
    """The repository, with its deploy key and its host keys among the credentials."""
    make = """useradd -m -s /bin/sh git; service ssh start; su git -c 'set -eu; mkdir -m 700 ~/.ssh
        git init -q --bare ~/site.git; git config --global user.email git@example.com; git config --global user.name git
        git init -q -b main ~/work; cd ~/work; git remote add origin ~/site.git
        git commit -q --allow-empty -m first'"""
    with lan.root("git", base(*PACKAGES)) as root:
        root.run(["sh", "-euc", make])
        text = steps("A deploy key for ansible-pull").replace("git.example.com", root.address)
        done = subprocess.run(
            ["sh", "-euc", text.replace("/var/lib/provisioner", str(credentials.parent))],
            capture_output=True,
            text=True,
            check=True,
        )
        root.write("/home/git/.ssh/authorized_keys", done.stdout.splitlines()[-1] + "\n")
        yield Repository(root, f"ssh://git@{root.address}/home/git/site.git")


def pull(repository: Repository, ref: str, **more: Any) -> dict[str, Any]:
    """The handoff's settings."""
    access = {"deploy_key": "site-deploy-key", "known_hosts": "git-hosts", "variables": {"colour": "blue"}}
    return {"tool": "ansible-pull", "url": repository.url, "ref": ref, "timeout": 600} | access | more


def test_pull_runs_the_very_commit_and_the_machine_is_configured(
    served: Served, lan: Wire, machine: Root, repository: Repository, credentials: Path
) -> None:
    """By a deploy key; with secret variables; nothing of that is left, or told to anybody (S80, S81)."""
    commit = repository.commit(PLAYBOOK)
    repository.commit("- hosts: all\n  tasks: [{fail: {msg: not this one}}]\n")
    day = FirstDay(served, lan, machine)
    day.register(pull(repository, commit, **vaulted(credentials)))
    canaries = Canaries(
        {
            "deploy key": (credentials / "site-deploy-key").read_text(),
            "vault password": (credentials / "vault-password").read_text(),
            "vaulted variable": VAULTED,
        }
    )
    with canaries.in_processes():
        day.install()
        done = day.boot()
    assert done.returncode == 0, day.log()
    assert day.state() == "configured"
    assert machine.read("/etc/by-ansible").split() == [machine.name, day.profile, "blue"]
    assert machine.read("/etc/secret-by-ansible") == f"{VAULTED}\n"
    assert f"at {commit}" in day.build_log() and "PLAY RECAP" in day.build_log()
    assert machine.run(["ls", "-A", "/etc/provisioner", "/var/tmp"]).stdout.split() == [
        "/etc/provisioner:",
        "/var/tmp:",
    ]
    canaries.assert_nowhere(served, machine.name, left=[machine.path / "var/log"])


def test_pull_over_https_with_a_token_and_a_ca_of_our_own(
    served: Served, lan: Wire, machine: Root, credentials: Path, tmp_path: Path
) -> None:
    """Whoever is not trusted hears no token; `check` asks by the same way."""
    work = ["git", "-C", str(tmp_path / "work"), "-c", "user.name=a", "-c", "user.email=a@example.com"]
    subprocess.run(["git", "init", "-q", "-b", "main", str(tmp_path / "work")], check=True)
    (tmp_path / "work/local.yml").write_text(PLAYBOOK)
    for words in (["add", "."], ["commit", "-qm", "one"]):
        subprocess.run([*work, *words], check=True)
    commit = subprocess.run([*work, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    subprocess.run(["git", "clone", "-q", "--bare", str(tmp_path / "work"), str(tmp_path / "site.git")], check=True)
    (credentials / "git-token").write_text("robot:to/ken@4711\n")
    tool, host = AnsiblePull(), Host(credentials, credentials)
    day = FirstDay(served, lan, machine)
    with git_over_https(tmp_path, lan.host, "robot:to/ken@4711") as (url, ca):
        (credentials / "git-ca").write_text(ca.read_text())
        settings = {"url": f"{url}/site.git", "ref": commit, "variables": {"colour": "blue"}, "timeout": 600}
        settings |= {"password": "git-token"}
        assert "certificate" in next(tool.probe(settings, host)).why
        assert list(tool.probe(settings | {"ca": "git-ca"}, host)) == []
        day.register({"tool": "ansible-pull", **settings})
        day.install()
        assert day.boot().returncode == 3
        assert "certificate" in day.build_log() and "PLAY" not in day.build_log()
        day.change({"tool": "ansible-pull", **settings, "ca": "git-ca"})
        day.install()
        assert day.boot().returncode == 0, day.log()
    assert day.state() == "configured"
    assert "to/ken" not in day.build_log() and "to%2Fken" not in day.build_log()


def test_pull_that_fails_fails_the_build_with_its_output_and_is_mended_by_retry_handoff(
    served: Served, lan: Wire, machine: Root, repository: Repository, tmp_path: Path
) -> None:
    commit = repository.commit(PLAYBOOK)
    day = FirstDay(served, lan, machine)
    day.register(pull(repository, commit, variables={"colour": "red", "fragile": True}))
    day.install()
    assert day.boot().returncode == 3
    assert (day.state(), day.build()["state"]) == ("failed", "failed")
    assert "/etc/mended" in day.build_log() and "failed=1" in day.build_log()
    machine.write("/etc/mended", "")
    served.cli("build", "retry-handoff", machine.name)
    assert day.boot().returncode == 0, day.log()
    assert day.state() == "configured"


def test_pull_from_a_server_with_another_host_key_is_refused(
    served: Served, lan: Wire, machine: Root, repository: Repository, credentials: Path
) -> None:
    other = machine.read("/etc/ssh/ssh_host_ed25519_key.pub")
    (credentials / "other-hosts").write_text(f"{repository.root.address} {other}")
    day = FirstDay(served, lan, machine)
    day.register(pull(repository, repository.commit(PLAYBOOK), known_hosts="other-hosts"))
    day.install()
    assert day.boot().returncode == 3
    assert "Host key verification failed" in day.build_log() and "PLAY" not in day.build_log()
    assert day.state() == "failed"


def test_pull_of_a_ref_that_was_moved_is_refused(
    served: Served, lan: Wire, machine: Root, repository: Repository
) -> None:
    commit = repository.commit(PLAYBOOK)
    repository.git("git tag v1")
    day = FirstDay(served, lan, machine)
    day.register(pull(repository, "v1", commit=commit))
    day.install()
    assert day.boot().returncode == 0, day.log()
    moved = repository.commit("- hosts: all\n  tasks: [{copy: {dest: /etc/evil, content: x}}]\n")
    repository.git("git tag -f v1")
    day.install()
    assert day.boot().returncode == 3
    assert f"REFUSED: v1 of {repository.url} is at {moved}, and must be at {commit}" in day.build_log()
    assert not (machine.path / "etc/evil").exists()
    assert day.state() == "failed"


@pytest.mark.parametrize("kind", ["ssh", "pgp"])
def test_pull_believes_a_signer_that_the_profile_names_and_nobody_else(
    served: Served, lan: Wire, machine: Root, repository: Repository, credentials: Path, kind: str
) -> None:
    """A signed tag may move; one that somebody else signed, or nobody, is refused."""
    if kind == "ssh":
        repository.git(
            "git config gpg.format ssh; for who in good bad; do rm -f ~/$who*; "
            "ssh-keygen -q -t ed25519 -N '' -f ~/$who; done"
        )
        good, bad = "$HOME/good", "$HOME/bad"
        signers = "releases@example.com " + repository.root.read("/home/git/good.pub")
    else:
        made = "for who in good bad; do gpg -q --batch --passphrase '' --quick-gen-key $who ed25519 sign never; done"
        repository.git(f"git config gpg.format openpgp; {made}")
        good, bad = "good", "bad"
        signers = repository.git("gpg --armor --export good")
    (credentials / f"signers-{kind}").write_text(signers)
    repository.commit(PLAYBOOK)
    repository.git(f"git -c user.signingkey={good} tag -f -s -m release good-{kind}")
    repository.git(f"git -c user.signingkey={bad} tag -f -s -m release bad-{kind}")
    repository.git(f"git tag -f -a -m release none-{kind}")
    day = FirstDay(served, lan, machine)
    day.register(pull(repository, f"good-{kind}", signers=f"signers-{kind}"))
    day.install()
    assert day.boot().returncode == 0, day.log()
    assert day.state() == "configured"
    for ref in (f"bad-{kind}", f"none-{kind}"):
        day.change(pull(repository, ref, signers=f"signers-{kind}"))
        day.install()
        assert day.boot().returncode == 3
        assert f"REFUSED: {ref}" in day.build_log() and "PLAY RECAP" not in day.log()
        assert day.state() == "failed"
