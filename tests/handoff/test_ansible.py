"""The three ways of Ansible, without machines: settings, credentials, playbooks, limits, findings."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import wait_for
from hypothesis import given
from hypothesis import settings as property_settings
from hypothesis import strategies as st

from provisioner.errors import CredentialMissing, HandoffRefused, HandoffUnreachable, InvalidInput
from provisioner.handoff import ansible, awx
from provisioner.handoff.ansible_pull import AnsiblePull
from provisioner.handoff.ansible_push import KEY, AnsiblePush
from provisioner.handoff.awx import Awx
from provisioner.handoff.protocol import Host, Identity, Reached, Subject, Tool
from tests.handoff.awx_server import TEMPLATE, StandIn
from tests.handoff.awx_server import awx as stand_in

pytestmark = pytest.mark.slow

SUBJECT = Subject("web01", "web01.example.com", "rocky9", 3, ("10.0.2.11",))
COMMIT = "a" * 40
PULL = {"url": "https://git.example.com/site.git", "ref": COMMIT}
BY_SSH = {"url": "git@git.example.com:site.git", "ref": COMMIT, "known_hosts": "git-hosts"}
PUSH = {"playbook": "site.yml"}
CALL = {"server": "https://awx.example.com", "template": TEMPLATE, "host_config_key": "awx-key"}
SHELLS = ("dash", "bash", "busybox sh")


@pytest.fixture
def host(tmp_path: Path) -> Host:
    for name in ("credentials", "playbooks"):
        (tmp_path / name).mkdir()
    return Host(tmp_path / "credentials", tmp_path / "playbooks")


def identity(tool: Tool, settings: Mapping[str, Any], host: Host) -> Identity:
    """As the service makes it when a build is armed."""
    tool.check(settings)
    prepared = tool.prepare(settings, SUBJECT)
    made = tool.credentials(prepared, SUBJECT, host)
    assert set(made.secrets) == set(prepared.secrets)
    return Identity(prepared.identity, SUBJECT.name, SUBJECT.build, prepared.settings, made.public, made.kept)


@pytest.mark.parametrize(
    ("tool", "settings"),
    [
        (AnsiblePull(), PULL),
        (AnsiblePull(), BY_SSH | {"deploy_key": "key"}),
        (AnsiblePull(), PULL | {"ref": "v1", "commit": COMMIT}),
        (AnsiblePull(), PULL | {"ref": "release/1.2", "signers": "signers"}),
        (AnsiblePull(), PULL | {"ref": "main", "unpinned": True, "variables": {"a": [1, {"b": None}]}}),
        (AnsiblePull(), PULL | {"url": "http://git.example.com/site.git"}),
        (AnsiblePush(), PUSH | {"user": "deploy", "from": "10.0.0.0/8,2001:db8::1", "port": 2222, "timeout": 60}),
        (Awx(), CALL | {"token": "t", "ca": "c", "host": "web01.example.com"}),
        (Awx(), CALL | {"server": "https://[2001:db8::1]:8443/api/controller/v2"}),
    ],
)
def test_good_settings_pass_are_sealed_whole_and_prepared_the_same_each_time(
    tool: Tool, settings: dict[str, Any]
) -> None:
    tool.check(settings)
    prepared = tool.prepare(settings, SUBJECT)
    assert prepared == tool.prepare(settings, SUBJECT)
    assert settings.items() <= prepared.settings.items()
    assert prepared.settings["timeout"] == settings.get("timeout", 3600)
    json.dumps(prepared.settings)
    script = f"handoff() {{\n{tool.body(prepared)}\n}}\n"
    assert tool.body(prepared) == tool.body(prepared)
    for shell in SHELLS:
        subprocess.run([*shell.split(), "-n"], input=script.encode(), check=True)


@pytest.mark.parametrize(
    ("tool", "settings", "where"),
    [
        (AnsiblePull(), {"url": PULL["url"]}, "ref"),
        (AnsiblePull(), PULL | {"ref": "main"}, "ref"),
        (AnsiblePull(), PULL | {"ref": "abcdef1"}, "ref"),
        (AnsiblePull(), PULL | {"ref": "--upload-pack=x"}, "ref"),
        (AnsiblePull(), PULL | {"commit": "b" * 40}, "commit"),
        (AnsiblePull(), PULL | {"ref": "main", "unpinned": "yes"}, "unpinned"),
        (AnsiblePull(), PULL | {"url": "ext::sh -c id"}, "url"),
        (AnsiblePull(), PULL | {"url": "/srv/site.git"}, "url"),
        (AnsiblePull(), PULL | {"url": "-oProxyCommand=id@host:x"}, "url"),
        (AnsiblePull(), PULL | {"url": "https://me:secret@git.example.com/x"}, "url"),
        (AnsiblePull(), PULL | {"url": "http://git.example.com/x", "password": "file"}, "url"),
        (AnsiblePull(), PULL | {"url": "http://git.example.com/x", "ref": "main", "unpinned": True}, "url"),
        (AnsiblePull(), {key: BY_SSH[key] for key in ("url", "ref")}, "known_hosts"),
        (AnsiblePull(), PULL | {"playbook": "../x.yml"}, "playbook"),
        (AnsiblePull(), PULL | {"deploy_key": "../key"}, "deploy_key"),
        (AnsiblePull(), PULL | {"colour": "blue"}, "colour"),
        (AnsiblePush(), {}, "playbook"),
        (AnsiblePush(), {"playbook": "/etc/site.yml"}, "playbook"),
        (AnsiblePush(), {"playbook": ".hidden.yml"}, "playbook"),
        (AnsiblePush(), {"playbook": "a/../b.yml"}, "playbook"),
        (AnsiblePush(), {"playbook": "-i.yml"}, "playbook"),
        (AnsiblePush(), PUSH | {"user": "root; id"}, "user"),
        (AnsiblePush(), PUSH | {"from": '10.0.0.1",command="id'}, "from"),
        (AnsiblePush(), PUSH | {"port": 0}, "port"),
        (AnsiblePush(), PUSH | {"port": True}, "port"),
        (AnsiblePush(), PUSH | {"become": "yes"}, "become"),
        (AnsiblePush(), PUSH | {"timeout": 0}, "timeout"),
        (AnsiblePush(), PUSH | {"variables": []}, "variables"),
        (AnsiblePush(), PUSH | {"variables": {"ansible_connection": "local"}}, "variables"),
        (AnsiblePush(), PUSH | {"variables": {"provisioner": 1}}, "variables"),
        (AnsiblePush(), PUSH | {"variables": {"a": "{{ lookup('pipe', 'id') }}"}}, "variables.a"),
        (AnsiblePush(), PUSH | {"variables": {"a": [{"b": "{% x %}"}]}}, "variables.a"),
        (AnsiblePush(), PUSH | {"variables": {"a": datetime.now(UTC)}}, "variables"),
        (Awx(), CALL | {"server": "http://awx.example.com"}, "server"),
        (Awx(), CALL | {"server": "https://me@awx.example.com"}, "server"),
        (Awx(), CALL | {"template": "7"}, "template"),
        (Awx(), {key: CALL[key] for key in ("server", "template")}, "host_config_key"),
    ],
)
def test_wrong_settings_are_refused_where_they_stand(tool: Tool, settings: dict[str, Any], where: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        tool.check(settings)
    assert caught.value.where == f"handoff.{where}"
    assert caught.value.hint


@given(st.text(max_size=40))
@property_settings(max_examples=40)
def test_s34_whatever_a_variable_holds_stays_one_word_of_the_script(text: str) -> None:
    """Variables are the only settings that take any text."""
    tool, value = AnsiblePull(), text.replace("{", "").replace("#", "")
    body = tool.body(tool.prepare(PULL | {"variables": {"a": value}}, SUBJECT))
    given = body.removesuffix(ansible.shell("ansible_pull.sh")) + 'printf %s "$pull_variables"'
    done = subprocess.run(["dash", "-c", given], capture_output=True, check=True)
    assert json.loads(done.stdout)["a"] == value


def test_s40_a_playbook_outside_its_directory_is_refused(host: Host) -> None:
    (host.playbooks / "site.yml").write_text("[]")
    outside = host.credentials / "outside.yml"
    outside.write_text("[]")
    (host.playbooks / "link.yml").symlink_to(outside)
    (host.playbooks / "dir").symlink_to(host.credentials)
    (host.playbooks / "inner.yml").symlink_to(host.playbooks / "site.yml")
    assert ansible.playbook(host, "site.yml") == ansible.playbook(host, "inner.yml")
    for name in ("link.yml", "dir/outside.yml", "../credentials/outside.yml", "missing.yml", str(outside)):
        with pytest.raises(HandoffRefused):
            ansible.playbook(host, name)


def test_credentials_are_read_when_a_build_is_armed_and_missing_ones_are_told_then(host: Host) -> None:
    tool = AnsiblePull()
    with pytest.raises(CredentialMissing) as caught:
        identity(tool, BY_SSH | {"deploy_key": "key"}, host)
    assert "git-hosts" in caught.value.message or "key" in caught.value.message
    (host.credentials / "token").write_text("robot:p@ss/word\n")
    made = tool.credentials(tool.prepare(PULL | {"password": "token"}, SUBJECT), SUBJECT, host)
    assert made.secrets == {"ansible-pull-password": "https://robot:p%40ss%2Fword@git.example.com"}
    (host.credentials / "token").write_text("no colon")
    with pytest.raises(InvalidInput):
        tool.credentials(tool.prepare(PULL | {"password": "token"}, SUBJECT), SUBJECT, host)


def test_s80_each_round_has_a_key_of_its_own_and_its_private_half_leaves_us_never(host: Host) -> None:
    tool = AnsiblePush()
    prepared = tool.prepare(PUSH, SUBJECT)
    one, two = (tool.credentials(prepared, SUBJECT, host) for _ in range(2))
    assert one.secrets[KEY].startswith("ssh-ed25519 ") and one.secrets[KEY] != two.secrets[KEY]
    assert set(one.kept) == {"private_key"} and one.public == {"ssh_key": one.secrets[KEY]}
    assert one.kept["private_key"] not in tool.body(prepared) + str(one.secrets) + str(one.public)


def test_a_program_is_streamed_and_ended_with_all_its_children_when_the_time_is_up(tmp_path: Path) -> None:
    said: list[str] = []
    script = "import subprocess, sys, time\nprint('\\033[32mhello\\033[0m', flush=True)\n"
    script += "child = subprocess.Popen(['sleep', '600'])\nprint(child.pid, flush=True)\ntime.sleep(600)"
    code = ansible.run_within(1.5, [sys.executable, "-c", script], ansible.environment(tmp_path), said.append)
    assert code == ansible.TIMED_OUT
    told = "".join(said).split("\n")
    assert told[0] == "hello" and "time limit" in told[2]
    wait_for(lambda: not Path(f"/proc/{told[1]}/exe").exists(), what="the end of the child")
    assert ansible.ran(60, [sys.executable, "-c", "print('last')\nraise SystemExit(7)"], {}).code == 7


def test_s81_a_playbook_runs_with_nothing_of_ours_but_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROVISIONER_DATABASE_URL", "postgresql://secret")
    monkeypatch.setenv("SSH_AUTH_SOCK", "/tmp/agent")
    monkeypatch.setenv("ANSIBLE_HOST_KEY_CHECKING", "False")
    told = json.loads(
        ansible.ran(
            60, ["python3", "-c", "import json, os; print(json.dumps(dict(os.environ)))"], ansible.environment(tmp_path)
        ).output
    )
    assert not {"PROVISIONER_DATABASE_URL", "SSH_AUTH_SOCK", "ANSIBLE_HOST_KEY_CHECKING"} & set(told)
    assert told["HOME"] == str(tmp_path)


@pytest.mark.parametrize(
    "reached",
    [
        Reached("10.0.2.11\nevil", ("ssh-ed25519 " + "A" * 68,)),
        Reached("-oProxyCommand=id", ("ssh-ed25519 " + "A" * 68,)),
        Reached("10.0.2.11", ()),
        Reached("10.0.2.11", ("ssh-ed25519 AAAA\n* ssh-rsa " + "A" * 68, "ssh-dss " + "A" * 68)),
    ],
)
def test_s61_what_a_machine_says_of_itself_is_checked_before_ssh_sees_it(host: Host, reached: Reached) -> None:
    (host.playbooks / "site.yml").write_text("[]")
    tool = AnsiblePush()
    with pytest.raises(HandoffRefused):
        tool.push(identity(tool, PUSH, host), reached, host, lambda text: None)


def test_check_tells_what_a_push_would_lack(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = AnsiblePush()
    assert [each.what for each in tool.probe(PUSH, host)] == ["there is no playbook site.yml"]
    (host.playbooks / "site.yml").write_text("- hosts: all\n  tasks:\n    - no_such_module_of_anybody: {}\n")
    (found,) = tool.probe(PUSH | {"vault_password": ""}, host)
    assert found.level == "error" and "refuses site.yml" in found.what and "no_such_module" in found.why
    (host.playbooks / "site.yml").write_text("- hosts: all\n  tasks: []\n")
    assert list(tool.probe(PUSH, host)) == []
    assert [each.what for each in tool.probe(PUSH | {"variables_file": "gone"}, host)][:1] == [
        "the file gone of variables_file is missing"
    ]
    monkeypatch.setattr(ansible, "program", lambda name: None)
    assert [each.what for each in tool.probe(PUSH, host)] == ["ansible-playbook is not installed here"]


def repository(folder: Path) -> tuple[Path, str]:
    """A bare git repository with a branch and a tag, and the commit that both are at."""
    work = folder / "work"
    git = ["git", "-C", str(work), "-c", "user.name=a", "-c", "user.email=a@example.com"]
    subprocess.run(["git", "init", "-q", "-b", "main", str(work)], check=True)
    (work / "local.yml").write_text("[]")
    for words in (["add", "."], ["commit", "-qm", "one"], ["tag", "-am", "one", "v1"]):
        subprocess.run([*git, *words], check=True)
    subprocess.run(["git", "clone", "-q", "--bare", str(work), str(folder / "site.git")], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    return folder / "site.git", commit


@pytest.mark.parametrize(
    ("ref", "commit", "level", "words"),
    [
        ("v1", "", "", ""),
        ("main", "", "", ""),
        ("v1", "at", "", ""),
        ("v1", "b" * 40, "error", "not at bbb"),
        ("v2", "", "error", "no branch or tag v2"),
        ("c" * 40, "", "", ""),
    ],
)
def test_check_tells_a_ref_that_is_missing_or_was_moved(
    tmp_path: Path, host: Host, ref: str, commit: str, level: str, words: str
) -> None:
    place, at = repository(tmp_path)
    settings = {"url": str(place), "ref": ref, "commit": at if commit == "at" else commit, "signers": ""}
    found = list(AnsiblePull().probe(settings, host))
    assert [each.level for each in found] == ([level] if level else [])
    assert all(words in each.what for each in found)


def test_check_warns_of_a_branch_that_is_not_pinned_and_tells_what_git_said(tmp_path: Path, host: Host) -> None:
    place, _ = repository(tmp_path)
    found = list(AnsiblePull().probe({"url": str(place), "ref": "main", "unpinned": True}, host))
    assert [(each.level, "not pinned" in each.what) for each in found] == [("warning", True)]
    (found_missing,) = AnsiblePull().probe({"url": str(tmp_path / "gone.git"), "ref": COMMIT}, host)
    assert found_missing.level == "error" and "gone.git" in found_missing.why


@pytest.fixture
def server(tmp_path: Path, host: Host, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(awx, "_POLL_SECONDS", 0.01)
    with stand_in(tmp_path) as state:
        for name, text in (("awx-key", state.key), ("awx-token", state.token), ("awx-ca", state.ca.read_text())):
            (host.credentials / name).write_text(text)
        yield state


def by(server: StandIn, **more: Any) -> dict[str, Any]:
    return CALL | {"server": server.url, "token": "awx-token", "ca": "awx-ca"} | more


REACHED = Reached("10.0.2.11", ())


@pytest.mark.parametrize("prompts", [True, False])
@pytest.mark.parametrize(("outcome", "code"), [("successful", 0), ("failed", 1), ("error", 1), ("canceled", 1)])
def test_the_job_of_this_round_counts_and_its_output_is_told(
    server: StandIn, host: Host, prompts: bool, outcome: str, code: int
) -> None:
    """By the round's word where the template takes variables, else by host and time; all output, however late."""
    tool, said = Awx(), list[str]()
    server.prompts, server.outcome = prompts, outcome
    mine = identity(tool, by(server), host)
    server.launch("web02", extra={awx.ROUND: mine.public[awx.ROUND]})
    server.launch("web01", kind="manual", extra={awx.ROUND: mine.public[awx.ROUND]})
    wanted = server.launch("all:&web01", extra={awx.ROUND: mine.public[awx.ROUND]})
    assert tool.push(mine, REACHED, host, said.append) == code
    told = "".join(said)
    assert f"job {wanted} of template 7" in told and f"job {wanted}: {outcome}" in told
    assert told.count("PLAY [all] ***") == 1 and told.count("PLAY RECAP") == 1 and "\nok: [web01]\n" in told


def test_no_other_round_s_job_counts(server: StandIn, host: Host) -> None:
    tool, said = Awx(), list[str]()
    mine = replace(identity(tool, by(server, timeout=1), host))
    server.launch("web01", extra={awx.ROUND: "another round"})
    server.launch("web01", created=(datetime.now(UTC) - timedelta(hours=1)).isoformat())
    server.launch("web01", created="rubbish")
    assert tool.push(mine, REACHED, host, said.append) == ansible.TIMED_OUT
    assert "launched no job" in said[-1]


def test_without_a_token_nothing_is_decided_here(server: StandIn, host: Host) -> None:
    tool = Awx()
    assert tool.push(identity(tool, by(server, token=""), host), REACHED, host, lambda text: None) is None
    assert server.asked == []


def test_awx_is_asked_over_a_trusted_connection_alone_and_no_token_is_told(server: StandIn, host: Host) -> None:
    tool = Awx()
    (host.credentials / "awx-ca").unlink()
    untrusted = by(server, ca="")
    with pytest.raises(HandoffUnreachable) as caught:
        tool.push(identity(tool, untrusted, host), REACHED, host, lambda text: None)
    assert "not trusted" in caught.value.message and server.asked == []
    (host.credentials / "awx-ca").write_text(server.ca.read_text())
    (host.credentials / "awx-token").write_text("bad\r\nX-Evil: token")
    with pytest.raises(HandoffRefused) as refused:
        tool.push(identity(tool, by(server), host), REACHED, host, lambda text: None)
    assert "Evil" not in str(refused.value) and server.asked == []


def test_check_tells_what_a_callback_would_meet(server: StandIn, host: Host) -> None:
    tool = Awx()

    def found(**more: Any) -> list[str]:
        return [f"{each.level}: {each.what}: {each.why}" for each in tool.probe(by(server, **more), host)]

    assert found() == []
    server.prompts = False
    assert [each.partition(":")[0] for each in found()] == ["warning"]
    server.prompts = True
    assert "error" in found(template=8)[0] and "404" in found(template=8)[0]
    (host.credentials / "awx-key").write_text("another")
    (told,) = found()
    assert "has another host config key" in told and server.key not in told and "another\n" not in told
    server.key = ""
    assert "takes no callbacks" in found()[0]
    server.token = "changed"
    assert "401" in found()[0]
    assert found(token="")[0].startswith("warning: there is no token")
    assert "missing" in found(token="gone")[0]
    assert "not trusted" in found(ca="")[0]


def test_the_sealed_script_holds_no_secret(server: StandIn, host: Host) -> None:
    tool = Awx()
    prepared = tool.prepare(by(server), SUBJECT)
    made = tool.credentials(prepared, SUBJECT, host)
    posted = json.loads(made.secrets[awx.CALLBACK])
    assert posted["host_config_key"] == server.key
    assert posted["extra_vars"]["provisioner"]["name"] == "web01"
    assert server.key not in tool.body(prepared) + str(prepared.settings) + str(made.public)


def test_ansible_s_programs_are_found_beside_our_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    found = ansible.program("ansible-playbook")
    assert found is not None and os.access(found, os.X_OK)
    assert ansible.program("no-such-program") is None
    assert shutil.which("ansible-playbook") is None
