"""AutoYaST for SLES 15 and Leap 15: what YaST is told after the early script ran, and what hostile values do to it."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.errors import TemplateError
from provisioner.render.validate import findings
from tests.render.context import NETWORKS
from tests.render.faked import Ran, run
from tests.render.goldens import FIRMWARES, hold
from tests.render.structural import (
    HASH,
    a_machine,
    arguments,
    data_of,
    found,
    in_this_process,
    made,
    mistake,
    quickly,
    with_value,
)

pytestmark = pytest.mark.slow

PROFILES = ("sles15", "leap15")
SECRETS = {"root_password": HASH, "disk_passphrase": "a&b <c>|\\1 'd'"}
NS = "{http://www.suse.com/1.0/yast2ns}"
PARAMETERS: dict[str, Any] = {
    "packages": ["vim"],
    "ntp": ["ntp.example.com"],
    "ssh_keys": ["ssh-ed25519 AAAAC3Nza admin@example.com"],
    "users": [{"name": "ops", "ssh_keys": ["ssh-ed25519 AAAAC3Nzb ops@example.com"], "sudo": True}],
}


def script(text: str, name: str) -> str:
    """The source of one script."""
    root = ET.fromstring(text)
    for each in root.iter(f"{NS}script"):
        if each.findtext(f"{NS}filename") == name:
            return str(each.findtext(f"{NS}source"))
    raise AssertionError(name)


def played(text: str, place: Path, firmware: str, **variables: str) -> tuple[Ran, str]:
    """The early script, run on a made-up machine, and the profile that it left for YaST."""
    profile = place / "profile"
    profile.mkdir(exist_ok=True)
    (profile / "autoinst.xml").write_text(text)
    (place / "work").mkdir(exist_ok=True)
    given = {
        "provisioner_profile": str(profile),
        "provisioner_work": str(place / "work"),
        "provisioner_hold": "true",
        "provisioner_y2log": str(place / "none"),
    }
    machine = (
        a_machine(firmware).build(place) if not (place / "sys").exists() else {"provisioner_sys": str(place / "sys")}
    )
    # The watcher would go on for ever where sleeping is nothing.
    early = re.sub(r"\n\(\n    log=.*?\n\) <[^\n]*\n", "\n", script(text, "provisioner-early.sh"), flags=re.DOTALL)
    ran = run(early, place, machine | given | variables, secrets=SECRETS)
    left = profile / "modified.xml"
    return ran, left.read_text() if left.exists() else ""


@pytest.mark.parametrize("links", NETWORKS)
@pytest.mark.parametrize("firmware", FIRMWARES)
@pytest.mark.parametrize("name", PROFILES)
def test_s34_the_shipped_profiles_match_their_golden_files(
    name: str, firmware: str, links: str, tmp_path: Path
) -> None:
    data = data_of(name, links, parameters=PARAMETERS)
    text = made(name, links, parameters=PARAMETERS)
    assert found(name, text) == []
    ran, told = played(text, tmp_path, firmware)
    assert ran.status == 0, ran.output
    assert ran.steps() == ["installer", "disk"]
    assert [each for each in found(name, told) if each.level == "error"] == []
    options = "\n".join(arguments(name, data))
    answers = re.sub(r"(?s)\n  <scripts>.*</scripts>", "", told).replace(HASH, "HASH")
    hold(name, firmware, links, f"# boot arguments\n{options}\n\n# autoinst.xml, as YaST reads it\n{answers}")


@pytest.mark.parametrize("name", PROFILES)
def test_s34_nothing_but_the_defaults_is_needed(name: str) -> None:
    text = made(name, secrets=[])
    assert found(name, text) == []
    assert "<user_password>!</user_password>" in text


@pytest.mark.parametrize("partitioning", ["plain", "lvm"])
@pytest.mark.parametrize("raid1", [False, True])
@pytest.mark.parametrize("encrypt", [False, True])
def test_s34_every_way_of_dividing_the_disks_is_valid(
    partitioning: str, raid1: bool, encrypt: bool, tmp_path: Path
) -> None:
    wanted = {"partitioning": partitioning, "raid1": raid1, "encrypt": encrypt, "var_size": "20G", "swap_size": "4G"}
    text = made("sles15", parameters=wanted, secrets=list(SECRETS))
    ran, told = played(text, tmp_path, "uefi")
    assert ran.status == 0, ran.output
    assert [each for each in found("sles15", told) if each.level == "error"] == []
    root = ET.fromstring(told)
    drives = root.findall(f"{NS}partitioning/{NS}drive")
    disks = [each.findtext(f"{NS}device") for each in drives if each.findtext(f"{NS}type") == "CT_DISK"]
    assert disks == (["/dev/sdb", "/dev/sda"] if raid1 else ["/dev/sdb"])
    mounts = {each.text for each in root.iter(f"{NS}mount")}
    assert mounts == {"/", "/var", "swap", "/boot/efi"} | ({"/boot"} if encrypt else set())
    keys = {each.text for each in root.iter(f"{NS}crypt_key")}
    assert keys == ({SECRETS["disk_passphrase"]} if encrypt else set())


def test_s23_the_early_script_unwraps_and_the_sealed_text_has_no_secret(tmp_path: Path) -> None:
    text = made("sles15", secrets=list(SECRETS), parameters={"encrypt": True})
    assert "$6$" not in text and "secret_root_password" not in text
    ran, told = played(text, tmp_path, "bios")
    assert ran.status == 0, ran.output
    root = ET.fromstring(told)
    assert root.findtext(f"{NS}users/{NS}user/{NS}user_password") == HASH
    assert "PROVISIONER_PASSPHRASE" in script(told, "provisioner-early.sh")  # only the element was filled in
    assert not (tmp_path / "work/value").exists() and not (tmp_path / "work/edits.sed").exists()


def test_a_changed_profile_runs_its_early_script_again_without_asking_twice(tmp_path: Path) -> None:
    """AutoYaST starts over when a script changed the profile; a second unwrap would look like a thief."""
    _, told = played(made("sles15"), tmp_path, "bios")
    (tmp_path / "profile/modified.xml").unlink()
    (tmp_path / "posted").unlink()
    again, left = played(told, tmp_path, "bios")
    assert (again.status, again.reports, left) == (0, [], "")


def test_c06_a_script_that_stops_holds_the_installer(tmp_path: Path) -> None:
    """AutoYaST itself would go on with the profile as it is."""
    text = made("sles15", parameters={"disk": {"at_least": "900G"}})
    ran, told = played(text, tmp_path, "bios", provisioner_hold="echo HELD")
    assert "HELD" in ran.output and ran.status != 0
    assert ran.steps() == ["installer", "failed"] and told == ""


@pytest.mark.parametrize("said", ["<3> web01(3800) [Ruby] modules/Report.rb:450 No proposal was possible", ""])
def test_an_error_that_yast_shows_is_reported_with_its_log(said: str, tmp_path: Path) -> None:
    log = tmp_path / "y2log"
    log.write_text(f"<1> web01(3800) started\n{said}\n")
    early = script(made("sles15"), "provisioner-early.sh")
    (watch,) = re.findall(r"(?m)^\(\n    log=.*?^\) [^\n]*$", early, flags=re.DOTALL)
    functions = early[early.index("# --- reports to Provisioner") : early.index("trap '[ $? = 0 ]")]
    # A minute of it where sleeping is nothing; then whoever runs it ends.
    bounded = watch.replace("while sleep", 'for _ in 1 2 3; do :; done; while [ -z "$over" ] && sleep', 1)
    ran = run(
        functions + bounded.replace("        fi\n    done", "        fi\n        over=1\n    done") + "\nwait\n",
        tmp_path,
        {"provisioner_y2log": str(log)},
    )
    assert ran.steps() == (["failed"] if said else [])
    assert not said or "No+proposal+was+possible" in ran.reports[0]


def test_decision_5_the_reboot_half_way_is_reported_before_it_happens() -> None:
    text = made("sles15")
    late, last = script(text, "provisioner-chroot.sh"), script(text, "provisioner-last.sh")
    assert late.rindex("provisioner_event reboot") > late.index("provisioner_get ")
    assert "provisioner_stop" in late[late.rindex("provisioner_event reboot") :]
    assert last.index("\nprovisioner_built\n") < last.index("rm -rf") < last.index("systemctl")
    assert "built" not in re.sub(r"(?m)^ *#.*|provisioner_built\(\).*", "", late).split("provisioner_event reboot")[1]


def test_the_last_script_leaves_no_token_and_no_hash(tmp_path: Path) -> None:
    for name in ("var/adm/autoinstall/cache/installedSystem.xml", "var/lib/YaST2/install.inf"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("http://x/build/token/answer")
    log = tmp_path / "var/log/YaST2/y2log"
    log.parent.mkdir(parents=True)
    log.write_text(f"fetching http://x/build/abc_-9/answer\nuser_password={HASH}\nkept\n")
    last = script(made("sles15"), "provisioner-last.sh").replace("systemctl", "echo systemctl")
    ran = run(last, tmp_path, {"root": str(tmp_path)})
    assert ran.steps() == ["built"]
    assert log.read_text() == "fetching http://x/build/.../answer\nuser_password=...\nkept\n"
    left = [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix in {".xml", ".inf"}]
    assert left == []
    assert "systemctl enable provisioner-handoff.service" in ran.output


def structure(text: str) -> list[str]:
    """Every element with its depth and type, without the texts."""
    lines: list[str] = []

    def walk(element: ET.Element, depth: int) -> None:
        lines.append(f"{depth} {element.tag} {sorted(element.attrib.items())}")
        for child in element:
            walk(child, depth + 1)

    walk(ET.fromstring(text), 0)
    return lines


HOSTILE = st.one_of(
    st.sampled_from(
        ["]]></source>", "<users/>", "&lol;", "--><x/>", "</timezone><scripts/>", '"/>', "a\nb", "$(id)", "'\"", "\x00"]
    ),
    st.text(max_size=30),
)


@in_this_process
@given(
    value=HOSTILE,
    field=st.sampled_from(["timezone", "locale", "keyboard", "proxy", "packages", "ntp", "ssh_keys", "repos"]),
)
def test_s34_no_value_opens_an_element(value: str, field: str) -> None:
    benign: dict[str, Any] = {
        "packages": ["x"],
        "ntp": ["x"],
        "ssh_keys": ["x"],
        "proxy": "x",
        "repos": [{"name": "x", "url": "x"}],
    }
    if not value and not isinstance(benign.get(field), list):
        return
    data = data_of("sles15", parameters=benign)
    text = with_value("sles15", data, field, {"name": value, "url": value} if field == "repos" else value)
    if text is None:
        return
    assert structure(text) == structure(quickly("sles15", data))
    assert [each for each in findings("autoyast", text, os="sles", version="15") if "shell" in each.message] == []


def test_an_entity_bomb_and_a_file_of_ours_are_refused() -> None:
    bomb = '<!DOCTYPE profile [<!ENTITY a "ha">' + "".join(f'<!ENTITY a{n} "{"&a;" * 9}">' for n in range(9)) + "]>"
    file = '<!DOCTYPE profile [<!ENTITY f SYSTEM "file:///etc/passwd">]>'
    for prolog in (bomb, file, '<!DOCTYPE profile SYSTEM "http://evil/x.dtd">'):
        (finding,) = findings("autoyast", f"{prolog}<profile>&a;&f;</profile>", os="sles", version="15")
        assert (finding.level, finding.line) == ("error", 1) and "refused" in finding.message
    (finding,) = findings("autoyast", "<profile>&nobody;</profile>", os="sles", version="15")
    assert finding.level == "error"


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("<timezone>\n", "<timezon>\n", "mismatched tag"),
        ("  <language>\n", "  <languages></languages>\n  <language>\n", "no section 'languages'"),
        ("  <users config", "  <language/>\n  <users config", "language stands on line"),
        ('<confirm config:type="boolean">false', '<confirm config:type="boolean">maybe', "confirm is true or false"),
        ('<partitions config:type="list">', "<partitions>", "partitions is a list"),
        ('config:type="symbol">CT_LVM', 'config:type="symbol">CT_LVN', "no type of drive"),
        ("<mount>/</mount>", "<mount>/srv</mount>", "nothing is mounted on /"),
        ("<lvm_group>system", "<lvm_group>other", "no drive other"),
        ("<bootproto>dhcp</bootproto>", "<bootproto>magic</bootproto>", "bootproto is one of"),
        ("provisioner_built\n", "if provisioner_built\n", "shell: "),
        ('<encrypted config:type="boolean">true', '<encrypted config:type="boolean">false', "in clear"),
        ('config:type="integer">3<', 'config:type="integer">three<', "timeout is a number"),
    ],
)
def test_s33_mistakes_are_found_with_their_line(before: str, after: str, message: str) -> None:
    first, line = mistake("sles15", before, after, message)
    assert first.level == "error" and first.line > 0
    assert abs(first.line - line) <= 45  # where it stands, or its element begins or ends


@pytest.mark.parametrize("place", ["", "root"])
def test_encryption_without_its_secret_says_what_to_do(place: str) -> None:
    with pytest.raises(TemplateError) as caught:
        made("sles15", parameters={"encrypt": True}, secrets=["root_password"] if place else [])
    assert "--secret disk_passphrase=FILE" in caught.value.message


def test_the_installer_gets_a_static_address() -> None:
    options = arguments("sles15", data_of("sles15", "static"))
    assert "ifcfg=*52:54:00:12:34:56=10.0.2.11/24,10.0.2.1,10.0.2.1,example.com" in options
    assert "autoyast=" + data_of("sles15")["urls"]["answer"] in options
    assert options[1].startswith("install=")
