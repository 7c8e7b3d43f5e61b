"""Broken answer files are found before a machine sees them, with line and text."""

import pytest

from provisioner.errors import AnswerInvalid
from provisioner.render.validate import Finding, kickstart_version, validate
from provisioner.render.validate import programs as module

KICKSTART = "lang en_US.UTF-8\nrootpw --lock\n%pre\necho hello\n%end\n%packages\n@core\n%end\n"
PRESEED = "d-i debian-installer/locale string en_US.UTF-8\nd-i keyboard-configuration/xkb-keymap select us\n"


def check(kind: str, text: str, os: str = "rocky", version: str = "9.6") -> list[Finding]:
    return validate(kind, text, os=os, version=version, template=f"{kind}/x.j2")


def broken(kind: str, text: str) -> str:
    with pytest.raises(AnswerInvalid) as caught:
        check(kind, text)
    assert caught.value.where == f"{kind}/x.j2"
    return caught.value.message


@pytest.mark.parametrize(
    ("os", "version", "syntax"),
    [
        ("rocky", "9.6", "RHEL9"),
        ("rhel", "8", "RHEL8"),
        ("alma", "10.1", "RHEL10"),
        ("centos", "7", "RHEL7"),
        ("fedora", "41", "F41"),
        ("debian", "12", None),
        ("rocky", "stream", None),
    ],
)
def test_kickstart_versions(os: str, version: str, syntax: str | None) -> None:
    assert kickstart_version(os, version) == syntax


def test_good_files_pass() -> None:
    assert check("kickstart", KICKSTART) == []
    assert all(finding.level == "warning" for finding in check("preseed", PRESEED))
    assert check("script", "#!/bin/sh\necho ok\n") == []
    assert check("ipxe", "anything") == []


def test_kickstart_errors_have_line_and_text() -> None:
    message = broken("kickstart", KICKSTART.replace("rootpw", "rootpww"))
    assert "line 2" in message and "rootpww" in message
    message = broken("kickstart", KICKSTART + "network --nonsense\n")
    assert "line 9" in message and "--nonsense" in message


def test_kickstart_scripts_are_parsed_by_bash() -> None:
    message = broken("kickstart", KICKSTART.replace("echo hello", "if true; then"))
    assert "shell" in message and "line 5" in message
    assert (
        check("kickstart", KICKSTART.replace("%pre\necho hello", "%pre --interpreter=/usr/bin/python3\nif True: pass"))
        == []
    )
    assert "shell" in broken("kickstart", KICKSTART.replace("%pre\necho hello", "%pre --interpreter=/bin/bash\n((("))


@pytest.mark.parametrize("header", ["--interpreter=/usr/bin/python3", "--interpreter /usr/libexec/platform-python"])
def test_kickstart_scripts_are_checked_by_their_own_interpreter(header: str) -> None:
    """Python by Python, and never run."""
    message = broken("kickstart", KICKSTART.replace("%pre\necho hello", f"%pre {header}\nx = 1\nif x\n    y"))
    assert "line 5: python: " in message and "if x" in message
    open_file = KICKSTART.replace("%pre\necho hello", f"%pre {header}\nraise SystemExit(3)")
    assert check("kickstart", open_file) == []


def test_a_kickstart_script_without_a_checker_is_a_warning() -> None:
    (finding,) = check("kickstart", KICKSTART.replace("%pre\n", "%pre --interpreter='/usr/bin/perl' --erroronfail\n"))
    assert finding == Finding("warning", 3, finding.text, "the %pre script is not checked: it is perl's")
    many = KICKSTART + "%post\ntrue\n%end\n" * module.MAX_SCRIPTS
    (finding,) = check("kickstart", many.replace("%post\ntrue", "%post --interpreter=/usr/bin/python3\n1"))
    assert finding.level == "warning" and "only the first 50" in finding.message


def test_what_a_kickstart_warns_of_stops_nothing() -> None:
    """The installer reads what is deprecated, and a VLAN that has the device of its bond."""
    (finding,) = check("kickstart", KICKSTART + "logging --level=info\n")
    assert (finding.level, finding.line) == ("warning", 9) and "--level option has been deprecated" in finding.message
    bond = "network --device=bond0 --bondslaves=a,b\nnetwork --device=bond0 --vlanid=3\n"
    (finding,) = check("kickstart", KICKSTART + bond)
    assert finding.level == "warning" and "bond0 has already been defined" in finding.message
    assert "line 10" in broken("kickstart", KICKSTART + "logging --level=info\nnonsense\n")


def test_an_unknown_kickstart_version_is_a_warning() -> None:
    for version in ("99", "unknown"):
        (finding,) = check("kickstart", KICKSTART, version=version)
        assert finding.level == "warning" and "not validated" in finding.message


def test_a_missing_ksvalidator_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra `validate` is optional; its absence must not stop a build, but be said."""
    find = module._program
    monkeypatch.setattr(module, "_program", lambda name: None if name == "ksvalidator" else find(name))
    (finding,) = check("kickstart", "nonsense\n")
    assert finding == Finding("warning", 0, "", "not validated: install the extra `validate` (pykickstart)")


def test_a_validator_that_hangs_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setattr(module, "TIMEOUT_SECONDS", 0.01)
    with pytest.raises(AnswerInvalid, match="did not end"):
        check("kickstart", KICKSTART)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("d-i partman/confirm", "line 3"),
        ("d-i partman/confirm bolean true", "line 3"),
        ("d-i partman/confirm boolean yes", "true or false"),
        ("d-i debian-installer/locale string de_DE.UTF-8", "already answered on line 1"),
        ("nonsense", "line 3"),
    ],
)
def test_preseed_errors(line: str, said: str) -> None:
    message = broken("preseed", f"{PRESEED}{line}\n")
    assert said in message and line.rsplit(maxsplit=1)[-1] in message


def test_preseed_without_mandatory_answers() -> None:
    assert "keyboard-configuration/xkb-keymap" in broken("preseed", PRESEED.splitlines()[0] + "\n")


def test_preseed_continued_lines_are_one_answer() -> None:
    text = PRESEED + "d-i partman-auto/expert_recipe string one \\\n  two \\\n  three\n"
    assert all(finding.level == "warning" for finding in check("preseed", text))


def test_preseed_scripts_in_comments_are_parsed() -> None:
    message = broken("preseed", PRESEED + "#early| echo a\n#early| if true; then\n")
    assert "shell" in message


TRAPS = [
    "apt-get install -y vim",
    "chroot /target apt-get -y install vim",
    "chroot /target /usr/bin/apt install vim",
    'sh -c "chroot /target apt-get install vim"',
    "in-target true; chroot /target apt-get install vim",
    "DEBIAN_FRONTEND=noninteractive chroot /target dpkg -i /tmp/x.deb",
    "if ! chroot /target apt-get update; then true; fi",
    "x=$(chroot /target apt-get -y install vim)",
    "env -i PATH=/bin chroot /target apt-get install vim </dev/null",
    "env PATH=/bin chroot /target apt-get install vim </dev/null 3>&-",
    "log-output -t x chroot /target tasksel install standard",
    "x=${y#z}; chroot /target aptitude install vim",
]
SAFE = [
    "in-target apt-get install -y vim",
    "apt-install vim || true",
    'in-target sh -c "apt-get update; apt-get -y install vim"',
    "log-output -t x in-target dpkg -i /tmp/x.deb",
    "env -i PATH=/bin DEBIAN_FRONTEND=noninteractive chroot /target apt-get -y install vim </dev/null 3>&-",
    "mkdir -p /target/etc/apt; rm -rf /target/var/lib/apt",
    "echo apt-get install vim",
    "chroot /target dpkg -l vim",
    "true # apt-get install vim",
]


@pytest.mark.parametrize("command", TRAPS)
@pytest.mark.parametrize("place", ["#late| {}\n", "d-i preseed/late_command string {}\n"])
def test_preseeds_that_fall_into_the_debconf_trap_are_refused(command: str, place: str) -> None:
    """The installer's environment in a package's script waits for ever; at arming it is an error with its line."""
    message = broken("preseed", PRESEED + place.format(command))
    assert "would wait for ever" in message and "in-target" in message
    assert f"line {len(PRESEED.splitlines()) + 1}" in message


@pytest.mark.parametrize("command", SAFE)
@pytest.mark.parametrize("place", ["#late| {}\n", "d-i preseed/late_command string {}\n"])
def test_preseeds_may_install_packages_the_right_way(command: str, place: str) -> None:
    check("preseed", PRESEED + place.format(command))


def test_continued_lines_and_here_documents_of_a_preseed_script() -> None:
    late = "#late| cat >/target/x <<'EOF'\n#late| apt-get install vim\n#late| EOF\n"
    check("preseed", PRESEED + late)
    check("preseed", PRESEED + "#target| apt-get install -y vim\n")
    late += "#late| chroot /target \\\n#late|     apt-get install vim\n"
    assert f"line {len(PRESEED.splitlines()) + 4}" in broken("preseed", PRESEED + late)


def test_script_errors_have_their_line() -> None:
    message = broken("script", "#!/bin/sh\necho ok\nfi\n")
    assert "line 3" in message
