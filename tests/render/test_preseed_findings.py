"""What is found in a preseed before a machine sees it: each mistake with its line, and what to do."""

import shutil

import pytest

from provisioner.render.validate import Finding, findings
from provisioner.render.validate import programs as module

pytestmark = pytest.mark.slow

WHOLE = """\
d-i debian-installer/locale string en_US.UTF-8
d-i keyboard-configuration/xkb-keymap select us
d-i partman-auto/method string lvm
d-i partman/confirm boolean true
d-i partman/confirm_nooverwrite boolean true
d-i passwd/make-user boolean false
"""


def found(more: str, whole: str = WHOLE) -> list[Finding]:
    return findings("preseed", whole + more, os="debian", version="12")


def test_a_whole_preseed_has_nothing_to_say_of() -> None:
    assert found("") == []


@pytest.mark.parametrize(
    ("line", "level", "said"),
    [
        ("d-i partman/early_command", "error", "not a preseed line"),
        ("d-i netcfg/enable bolean true", "error", "not a preseed line"),
        ("d-i netcfg/enable boolean yes", "error", "netcfg/enable is true or false"),
        ("d-i netcfg/enable string yes", "error", "netcfg/enable is true or false"),
        ("d-i netcfg/enable string true", "warning", "netcfg/enable is a boolean, not a string"),
        ("d-i pkgsel/upgrade select dist-upgrade", "error", "is one of full-upgrade, none, safe-upgrade"),
        ("d-i partman/confirm boolean true", "error", "partman/confirm is already answered on line 4"),
        ("partman partman/confirm boolean true", "error", "already answered for d-i on line 4"),
        ("d-i partmn/confirm_write boolean true", "warning", "the installer asks nothing that begins with partmn/"),
        ("ngnix ngnix/port string 80", "warning", "unknown owner ngnix"),
        ("d-i passwd/root-password password secret", "warning", "stands here for everybody to read"),
        ("d-i partman-crypto/passphrase password secret", "warning", "make it a secret of the machine"),
        ("d-i time/zone string \\", "error", "nothing follows"),
        ("d-i preseed/late_command string if true; then echo", "error", "preseed/late_command: shell: "),
        ("d-i partman/early_command string x=(a b)", "error", "partman/early_command: shell: "),
        ("d-i preseed/late_command string chroot /target apt-get install vim", "error", "use in-target"),
        ("#late| if true; then", "error", "shell: "),
        ("#late| x=(a b)", "error", "shell: "),
        ("#late| chroot /target dpkg -i x.deb", "error", "use in-target"),
    ],
)
def test_a_mistake_has_its_line(line: str, level: str, said: str) -> None:
    """Arrays are bash's; the installer's busybox stops at them."""
    (each,) = [each for each in found(f"{line}\n") if said in each.message]
    assert (each.level, each.line, each.text) == (level, 7, line)


@pytest.mark.parametrize(
    "line",
    [
        "nginx nginx/port string 80\nd-i pkgsel/include string vim nginx",
        "tasksel tasksel/first multiselect standard",
        "d-i partman/confirm seen true",
        "d-i partman-auto/expert_recipe string one :: \\\n   1 1 1 free \\\n#a comment\n\n   method{ biosgrub } .",
        "d-i passwd/root-password-crypted password !",
        "#late| in-target apt-get install vim",
    ],
)
def test_what_is_right_passes(line: str) -> None:
    assert found(f"{line}\n") == []


@pytest.mark.parametrize("missing", range(6))
def test_what_the_installer_would_ask_is_said(missing: int) -> None:
    lines = WHOLE.splitlines(keepends=True)
    question = lines.pop(missing).split()[1]
    (each,) = found("", "".join(lines))
    assert each.message.startswith(f"{question} is not answered")
    assert each.level == ("error" if missing < 2 else "warning")


def without(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    find = module._program
    monkeypatch.setattr(module, "_program", lambda name: None if name == program else find(name))


def test_without_debconf_it_is_said_and_our_own_checks_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "debconf-set-selections")
    (each,) = found("")
    assert each.level == "warning" and each.message.startswith("not validated by debconf-set-selections")
    assert any("true or false" in each.message for each in found("d-i netcfg/enable boolean yes\n"))


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_without_dash_bash_reads_the_scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "dash")
    assert found("#late| x=(a b)\n") == []
    (each,) = found("#late| if true; then\n")
    assert each.message.startswith("shell: ") and each.line in {7, 8}
