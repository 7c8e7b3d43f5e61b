"""Fedora CoreOS and Flatcar: the live system's config, the new system's inside it, the script that installs."""

import base64
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.core.markers import fill_secrets, secrets_in
from provisioner.errors import BuildNotPossible, MalformedContent, TemplateError
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
    made_of,
    mistake,
    quickly,
    with_value,
)

pytestmark = pytest.mark.slow

PROFILES = ("fcos", "flatcar")
SCRIPT = {"fcos": "/usr/local/bin/provisioner-install", "flatcar": "/opt/bin/provisioner-install"}
ROOTFS = "@@provisioner:media_url@@/media/sha256/HASH/rootfs.img"
PARAMETERS: dict[str, Any] = {
    "ntp": ["ntp.example.com"],
    "ssh_keys": ["ssh-ed25519 AAAAC3Nza admin@example.com"],
    "users": [{"name": "ops", "ssh_keys": ["ssh-ed25519 AAAAC3Nzb ops@example.com"], "sudo": True}],
    "serial_console": "ttyS0,115200n8",
}


def wrong(text: str) -> list[str]:
    """The messages of the validator."""
    return [each.message for each in findings("ignition", text, os="fcos", version="41")]


def content(config: Any, path: str) -> str:
    """What a config writes into a file, from its data: URL."""
    (file,) = [each for each in config["storage"]["files"] if each["path"] == path]
    head, _, body = file["contents"]["source"].partition(",")
    return unquote(body) if head == "data:" else f"({head},{body})"


def target(text: str) -> Any:
    """The config of the new system."""
    return json.loads(content(json.loads(text), "/etc/provisioner/target.ign"))


def installed(
    name: str, text: str, place: Path, firmware: str, *, memory: int = 8192, tpm: bool = True
) -> tuple[Ran, str, str]:
    """The install script on a made-up machine: how it ran, what it installed with, and the config it gave."""
    work = place / "work"
    (work / "stage/etc/provisioner").mkdir(parents=True)
    (work / "stage/etc/provisioner/handoff.sh").write_text("#!/bin/sh\ntrue\n")
    config = content(json.loads(text), "/etc/provisioner/target.ign")
    (place / "target.ign").write_text(config)
    tools = """
coreos-installer() { echo coreos-installer "$@" >"$place/called"; cp "$work/target.ign" "$place/given"; }
flatcar-install() { echo flatcar-install "$@" >"$place/called"; cp "$work/target.ign" "$place/given"; }
systemctl() { echo systemctl "$@"; }
sync() { :; }
"""
    script = tools + content(json.loads(text), SCRIPT[name])
    variables = a_machine(firmware).build(place)
    variables |= {"provisioner_run": str(work), "provisioner_target": str(place / "target.ign"), "place": str(place)}
    (place / "memory").write_text(f"MemTotal: {memory * 1024} kB\nMemFree: 1 kB\n")
    variables |= {"provisioner_memory": str(place / "memory"), "provisioner_links": str(place / "disk")}
    variables |= {"provisioner_tpm": str(place / "memory" if tpm else place / "nothing")}
    # A name that no config can hold, one of another disk, then the right ones.
    for link, disk in (("by-id/a b", "sdb"), ("by-id/ata-INTEL", "sdb"), ("by-path/pci-1", "sda"), ("by-id/x", "sdc")):
        (place / "disk" / link).parent.mkdir(parents=True, exist_ok=True)
        (place / "disk" / link).symlink_to(f"/dev/{disk}")
    ran = run(script, place, variables)
    called, given_config = place / "called", place / "given"
    return (
        ran,
        called.read_text().replace(str(work), "/run/provisioner") if called.exists() else "",
        given_config.read_text() if given_config.exists() else "",
    )


def readable(config: Any) -> str:
    """A config as text: each file with its content, then the rest."""
    lines = []
    for file in config["storage"].pop("files"):
        mark = f"== {file['path']} {file['mode']:o}{' overwrite' if file.get('overwrite') else ''}"
        lines += [mark, content({"storage": {"files": [file]}}, file["path"])]
    rest = json.dumps(config, indent=1)
    return "\n".join([*lines, "== all else", rest, ""])


def data_with_rootfs(name: str, links: str = "dhcp", **changes: Any) -> dict[str, Any]:
    """The context with the file that Fedora CoreOS's live system needs."""
    data = data_of(name, links, **changes)
    data["distro"]["files"] = {"rootfs": ROOTFS} if name == "fcos" else {}
    return data


@pytest.mark.parametrize("links", NETWORKS)
@pytest.mark.parametrize("firmware", FIRMWARES)
@pytest.mark.parametrize("name", PROFILES)
def test_s34_the_shipped_profiles_match_their_golden_files(
    name: str, firmware: str, links: str, tmp_path: Path
) -> None:
    data = data_with_rootfs(name, links, parameters=PARAMETERS)
    text = made_of(name, data)
    assert found(name, text) == []
    ran, called, config = installed(name, text, tmp_path, firmware)
    assert ran.status == 0, ran.output
    assert ran.steps() == ["installer", "disk", "built"]
    assert "systemctl --no-block reboot" in ran.output
    assert wrong(config) == []
    assert "PROVISIONER_" not in config
    options = "\n".join(arguments(name, data))
    new = readable(target(text))
    hold(name, firmware, links, f"# boot arguments\n{options}\n\n# what installs\n{called}\n# the new system\n{new}")


def test_nothing_but_the_defaults_is_needed() -> None:
    for name in PROFILES:
        text = made(name, secrets=[])
        assert found(name, text) == []
        assert "passwordHash" not in text


def test_s23_the_secret_is_a_marker_until_the_first_fetch() -> None:
    for name in PROFILES:
        text = made(name)
        assert secrets_in(text) == ("root_password",) and "$6$" not in text
        (root, *_) = target(fill_secrets(text, {"root_password": HASH}))["passwd"]["users"]
        assert root["passwordHash"] == HASH


@pytest.mark.parametrize("value", ['x"', "x y", "x\n", "%22", "", "\u00e9", "x" * 513, "x\\", "{", "'"])
def test_s23_a_secret_that_could_break_out_is_never_filled_in(value: str) -> None:
    with pytest.raises(MalformedContent) as caught:
        fill_secrets("@@provisioner:secret_root_password@@", {"root_password": value})
    assert not value.strip() or value not in str(caught.value)


def test_the_first_boots_files_are_put_into_the_config(tmp_path: Path) -> None:
    _, _, config = installed("fcos", made("fcos"), tmp_path, "bios")
    files = {each["path"]: each for each in json.loads(config)["storage"]["files"]}
    head, _, body = files["/etc/provisioner/handoff.sh"]["contents"]["source"].partition(",")
    assert head == "data:;base64" and base64.b64decode(body, validate=True).startswith(b"#!/bin/sh\n")
    assert files["/etc/provisioner/handoff.sh"]["mode"] == 0o700
    assert not (tmp_path / "work").exists()


def test_c06_an_installer_that_fails_says_so_and_nothing_is_booted(tmp_path: Path) -> None:
    text = made("fcos").replace("coreos-installer%20install", "false%20install")
    ran, called, _ = installed("fcos", text, tmp_path, "bios")
    assert ran.status == 1 and called == ""
    assert ran.steps() == ["installer", "disk", "failed"]
    assert "reboot" not in ran.output


@pytest.mark.parametrize(
    ("name", "changes", "says"),
    [
        ("fcos", {"partitioning": "lvm"}, "partitioning: plain"),
        ("flatcar", {"raid1": True}, "the controller's RAID"),
        ("fcos", {"encrypt": True, "var_size": "20G"}, "inside the encrypted root"),
        ("flatcar", {"encrypt": True}, "storage.luks"),
        ("fcos", {"swap_size": "4G"}, "leave it empty"),
        ("flatcar", {"var_size": "20G"}, "leave it empty"),
        ("fcos", {"packages": ["vim"]}, "containers"),
        ("flatcar", {"locale": "de_DE.UTF-8"}, "C.UTF-8"),
        ("flatcar", {"keyboard": "de"}, "keymap"),
        ("fcos", {"proxy": "http://p"}, "template of your own"),
    ],
)
def test_s34_what_ignition_cannot_do_is_refused_with_what_to_do_instead(
    name: str, changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(TemplateError) as caught:
        made(name, parameters=changes)
    assert says in caught.value.message


def test_a_var_of_its_own() -> None:
    text = made("fcos", parameters={"var_size": "40G"})
    assert found("fcos", text) == []
    (disk,) = target(text)["storage"]["disks"]
    assert disk["partitions"][1] == {"label": "var", "sizeMiB": 40960}
    assert [each["name"] for each in target(text)["systemd"]["units"]] == ["var.mount"]


def devices(config: Any) -> list[str]:
    """What each file system of a config is on, in order, with what it is called or where it is mounted."""
    return [f"{each['device']} {each.get('label') or each['path']}" for each in config["storage"]["filesystems"]]


ESPS = ["/dev/disk/by-partlabel/esp-1 esp-1", "/dev/disk/by-partlabel/esp-2 esp-2"]
BOOT = "/dev/md/md-boot boot"


@pytest.mark.parametrize(
    ("changes", "systems", "mirrors", "luks"),
    [
        ({"raid1": True}, [*ESPS, BOOT, "/dev/md/md-root root"], ["md-boot", "md-root"], []),
        (
            {"raid1": True, "var_size": "40G"},
            [*ESPS, BOOT, "/dev/md/md-var /var", "/dev/md/md-root root"],
            ["md-boot", "md-var", "md-root"],
            [],
        ),
        ({"encrypt": True}, ["/dev/mapper/root root"], [], ["/dev/disk/by-partlabel/root"]),
        (
            {"raid1": True, "encrypt": True},
            [*ESPS, BOOT, "/dev/mapper/root root"],
            ["md-boot", "md-root"],
            ["/dev/md/md-root"],
        ),
    ],
    ids=["mirror", "mirror with var", "encrypted", "encrypted mirror"],
)
def test_fedora_coreos_is_mirrored_and_encrypted_as_butane_translates_it(
    changes: dict[str, Any], systems: list[str], mirrors: list[str], luks: list[str], tmp_path: Path
) -> None:
    """The order and sizes of partitions are those of Butane's `boot_device` for x86_64."""
    text = made("fcos", parameters=changes)
    assert found("fcos", text) == []
    ran, called, config = installed("fcos", text, tmp_path, "uefi")
    assert (ran.status, ran.steps()) == (0, ["installer", "disk", "built"]), ran.output
    assert wrong(config) == [] and "PROVISIONER_" not in config
    new = json.loads(config)
    assert devices(new) == systems
    assert [each["name"] for each in new["storage"].get("raid", [])] == mirrors
    volumes = new["storage"].get("luks", [])
    assert [(each["device"], each["clevis"]) for each in volumes] == [(device, {"tpm2": True}) for device in luks]
    if "raid1" not in changes:
        assert "disks" not in new["storage"]
        return
    assert "coreos-installer install /dev/sdb" in called, "the first of the mirror"
    links = tmp_path / "disk"
    assert [each["device"] for each in new["storage"]["disks"]] == [
        f"{links}/by-id/ata-INTEL",
        f"{links}/by-path/pci-1",
    ]
    for number, disk in enumerate(new["storage"]["disks"], 1):
        parts = [(each["label"], each.get("sizeMiB")) for each in disk["partitions"]]
        root = (
            [(f"root-{number}", 16384), (f"var-{number}", 40960)]
            if "var_size" in changes
            else [(f"root-{number}", None)]
        )
        assert parts == [(f"bios-{number}", 1), (f"esp-{number}", 127), (f"boot-{number}", 384), *root]
    units = {each["name"]: each["contents"] for each in new.get("systemd", {}).get("units", [])}
    assert ("What=/dev/md/md-var" in units.get("var.mount", "")) is ("var_size" in changes)
    assert "dev-md-md\\x2dvar.service" in units.get("var.mount", "dev-md-md\\x2dvar.service")


@pytest.mark.parametrize(
    ("changes", "memory", "tpm", "says"),
    [
        ({"encrypt": True}, 8192, False, "needs a TPM 2.0"),
        ({"encrypt": True}, 2048, True, "encrypt needs 4 GiB of memory"),
        ({"raid1": True}, 2048, True, "raid1 needs 4 GiB of memory"),
    ],
)
def test_r39_what_the_first_boot_would_lack_is_said_before_a_disk_is_touched(
    changes: dict[str, Any], memory: int, tpm: bool, says: str, tmp_path: Path
) -> None:
    text = made("fcos", parameters=changes)
    ran, called, _ = installed("fcos", text, tmp_path, "uefi", memory=memory, tpm=tpm)
    assert (ran.status, called, ran.steps()) == (1, "", ["installer", "failed"])
    assert says in ran.output and "no disk was touched" in ran.output


def test_fedora_coreos_needs_its_rootfs() -> None:
    with pytest.raises(BuildNotPossible) as caught:
        arguments("fcos", data_of("fcos"))
    assert "--rootfs" in caught.value.hint


def structure(value: Any) -> Any:
    """Keys and lengths of lists, without the texts."""
    if isinstance(value, dict):
        return {key: structure(item) for key, item in value.items()}
    return [structure(item) for item in value] if isinstance(value, list) else type(value).__name__


HOSTILE = st.one_of(
    st.sampled_from(['"', '"}, {"path": "/etc/shadow', "\\", "%22%7D", "a\nb", "$(id)", "'; id; '", "../../x", "\x00"]),
    st.text(max_size=20),
)


@in_this_process
@given(
    value=HOSTILE,
    name=st.sampled_from(PROFILES),
    field=st.sampled_from(["timezone", "keyboard", "ntp", "ssh_keys", "image_url", "serial_console", "fqdn"]),
)
def test_s34_no_value_opens_a_key_or_a_line(value: str, name: str, field: str) -> None:
    benign: dict[str, Any] = {"ntp": ["x"], "ssh_keys": ["x"], "image_url": "x", "serial_console": "x"}
    data = data_of(name, parameters=benign)
    plain, text = quickly(name, data), with_value(name, data, field, value)
    if not value or text is None:
        return
    assert structure(json.loads(text)) == structure(json.loads(plain))
    assert structure(target(text)) == structure(target(plain))
    before, after = (content(json.loads(each), SCRIPT[name]) for each in (plain, text))
    assert len(after.splitlines()) == len(before.splitlines())
    assert [each for each in wrong(text) if "shell" in each] == []


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ('"version": "3.3.0"', '"version": "2.1.0"', "ignition.version is 3.0.0"),
        ('"mode": 448', '"mode": 70000', "no file mode"),
        ('"mode": 448', '"mode": "0700"', "wrong type"),
        ('"mode": 448', '"mod": 448', "no key 'mod'"),
        (SCRIPT["fcos"] + '", "mode"', '/etc/provisioner/target.ign", "mode"', "written twice"),
        (SCRIPT["fcos"] + '", "mode"', 'usr/bin/x", "mode"', "not an absolute path"),
        ("data:,%23%21/bin/bash", "file:,%23%21/bin/bash", "contents.source is a URL"),
        ("data:,%23%21/bin/bash", "data:,%23%21/bin/bash%0Aif%20x%0A", "shell: "),
        ("%22version%22:%20%223.3.0%22", "%22version%22:%20%229.9.0%22", "in /etc/provisioner/target.ign line 2"),
        ('"name": "provisioner-install.service"', '"name": "provisioner-install"', "no name of a systemd unit"),
        ("\\n\\n[Install]", "\\n\\n[Instal]", "without a section [Install]"),
        ('"storage": {', '"storge": {}, "storage": {', "no section 'storge'"),
        ('"storage": {', '"storage": {}, "storage": {', "stands twice"),
        ('"systemd": {', '"systemd": {,', "JSON: "),
    ],
)
def test_s33_mistakes_are_found_with_their_line(before: str, after: str, message: str) -> None:
    first, line = mistake("fcos", before, after, message)
    assert first.level == "error"
    assert abs(first.line - line) <= 3


def test_deep_and_odd_json_is_refused_and_not_followed() -> None:
    assert wrong("[" * 100_000) == ["JSON: nested too deeply"]
    assert wrong("[]") == ["an Ignition config is a JSON object"]
    assert wrong('{"ignition": NaN}') == ["JSON: NaN is no JSON"]
    inner = json.dumps({"ignition": {"version": "3.3.0"}})
    for _ in range(6):
        file = {"path": "/x.ign", "contents": {"source": f"data:,{quote(inner, safe='')}"}}
        inner = json.dumps({"ignition": {"version": "3.3.0"}, "storage": {"files": [file]}})
    assert any("nested too deeply" in each for each in wrong(inner))
