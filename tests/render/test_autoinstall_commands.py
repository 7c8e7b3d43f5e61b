"""The commands inside Ubuntu's autoinstall, run by real shells against a real HTTP server."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.render.autoinstalls import (
    HASH,
    PARAMETERS,
    PASSPHRASE,
    LiveSystem,
    all_well,
    answer_of,
    data_of,
    made,
    script_of,
    template_of,
)
from tests.render.recorder import Asked, recorder

pytestmark = pytest.mark.slow

SHELLS = [("dash", "curl"), ("bash", "wget"), ("dash", "")]


@pytest.fixture(params=SHELLS, ids=lambda param: "-".join(param) or "python")
def live(request: pytest.FixtureRequest, tmp_path: Path) -> LiveSystem:
    """Subiquity runs commands by sh, which is dash; the live system has curl, or wget, or Python alone."""
    return LiveSystem(tmp_path, *request.param)


def test_s23_the_early_commands_report_unwrap_choose_and_write(live: LiveSystem) -> None:
    text = answer_of("ubuntu2404", parameters=PARAMETERS | {"encrypt": True})
    live.take(text)
    with recorder(all_well) as server:
        ran = live.run(script_of(text, "early-commands"), server)
    assert ran.status == 0, ran.output
    assert server.steps() == ["installer", "disk"]
    assert [each.path.rsplit("/", 1)[1] for each in server.asked if "/secret/" in each.path] == [
        "root_password",
        "disk_passphrase",
    ]
    assert (live.run_dir / "root").read_text() == f"root:{HASH}\n"
    assert (live.run_dir / "disk_passphrase").read_text() == PASSPHRASE
    assert {path.stat().st_mode & 0o777 for path in live.run_dir.iterdir()} == {0o600}
    written = live.autoinstall.read_text()
    assert "path: /dev/sdb\n" in written and "PROVISIONER_DISK" not in yaml.safe_dump(
        yaml.safe_load(written)["storage"]
    )
    assert live.autoinstall.stat().st_mode & 0o777 == 0o600
    for secret in (HASH, PASSPHRASE):
        assert secret not in written + ran.output + ran.fakes
    (event,) = [each for each in server.asked if each.path.endswith("/event") and each.form["step"] == "disk"]
    assert event.form["message"].startswith("installing to /dev/sdb, the smallest fixed disk")


def test_r01_without_an_acknowledged_disk_step_nothing_goes_on(live: LiveSystem) -> None:
    def refuses_disk(asked: Asked, before: int) -> tuple[int, bytes]:
        if asked.path.endswith("/event") and asked.form["step"] == "disk":
            return 503, b""
        return all_well(asked, before)

    text = answer_of("ubuntu2404")
    live.take(text)
    before = live.autoinstall.read_text()
    with recorder(refuses_disk) as server:
        ran = live.run(script_of(text, "early-commands"), server)
    assert ran.status == 1
    assert server.steps() == ["installer", *["disk"] * 8, "failed"]
    assert live.autoinstall.read_text() == before


@pytest.mark.parametrize("refused", ["root_password", "disk_passphrase"])
@pytest.mark.parametrize("answer", [(410, b""), (200, b""), (200, b"two\nlines")])
def test_s23_a_secret_that_is_not_to_be_had_stops_it(tmp_path: Path, refused: str, answer: tuple[int, bytes]) -> None:
    def refuses(asked: Asked, before: int) -> tuple[int, bytes]:
        return answer if asked.path.endswith(refused) else all_well(asked, before)

    live = LiveSystem(tmp_path)
    text = answer_of("ubuntu2404", parameters={"encrypt": True})
    live.take(text)
    with recorder(refuses) as server:
        ran = live.run(script_of(text, "early-commands"), server)
    assert ran.status == 1
    assert server.steps() == ["installer", "failed"]
    assert not (live.run_dir / refused.replace("root_password", "root")).exists()


def test_r01_a_file_without_a_place_for_the_disk_is_a_failure(tmp_path: Path) -> None:
    """Somebody's own storage would be installed to a disk that nobody chose."""
    live = LiveSystem(tmp_path)
    text = answer_of("ubuntu2404")
    live.autoinstall.write_text(yaml.safe_dump({"version": 1, "storage": {"layout": {"name": "lvm"}}}))
    with recorder(all_well) as server:
        ran = live.run(script_of(text, "early-commands"), server)
    assert ran.status == 1
    assert server.steps() == ["installer", "disk", "failed"]
    assert "no disk was touched" in server.asked[-1].form["message"]


def test_r01_built_is_repeated_until_it_is_acknowledged(live: LiveSystem) -> None:
    """And by then network, users, handoff and its unit are in the new system, and nothing that leads to secrets."""

    def busy(asked: Asked, before: int) -> tuple[int, bytes]:
        return (503, b"") if asked.path.endswith("/event") and before in {1, 2} else all_well(asked, before)

    _leave_traces(live)
    live.run_dir.mkdir()
    (live.run_dir / "root").write_text(f"root:{HASH}\n")
    with recorder(busy) as server:
        ran = live.run(script_of(answer_of("ubuntu2404", "bond-vlan", parameters=PARAMETERS), "late-commands"), server)
    assert ran.status == 0, ran.output
    assert server.steps() == ["installer", "built", "built", "built"]
    root = live.target
    assert [path.name for path in (root / "etc/netplan").iterdir()] == ["60-provisioner.yaml"]
    assert (root / "etc/netplan/60-provisioner.yaml").stat().st_mode & 0o777 == 0o600
    network = yaml.safe_load((root / "etc/netplan/60-provisioner.yaml").read_text())["network"]
    assert network["vlans"]["bond0.30"]["link"] == "bond0"
    configs = {path.name: path.read_text() for path in (root / "etc/cloud/cloud.cfg.d").iterdir()}
    assert configs == {"99-provisioner-network.cfg": "network: {config: disabled}\n"}
    handoff = root / "etc/provisioner/handoff.sh"
    assert handoff.read_text() == "#!/bin/sh\ntrue\n" and handoff.stat().st_mode & 0o777 == 0o700
    assert (root / "etc/systemd/system/multi-user.target.wants/provisioner-handoff.service").is_symlink()
    assert (root / "etc/systemd/system/sysinit.target.wants/provisioner-traces.service").is_symlink()
    assert not (root / "root/provisioner-target.sh").exists() and not live.run_dir.exists()
    _no_traces(live.logs)
    _no_traces(root)


TOKENS = "GET http://10.0.2.1:8080/build/seed-token_1/seed/user-data HTTP/1.1\n"


def _leave_traces(live: LiveSystem) -> None:
    """What Subiquity, curtin and cloud-init leave in the live and in the new system."""
    for logs in (live.logs, live.target / "var/log"):
        (logs / "installer/curtin-install").mkdir(parents=True)
        for name in ("subiquity-server-debug.log", "curtin-install/curtin-install.log", "autoinstall-user-data"):
            (logs / "installer" / name).write_text(TOKENS)
        (logs / "installer/subiquity-server-info.log").symlink_to("subiquity-server-debug.log")
        (logs / "cloud-init.log").write_text(TOKENS)
    places = ("root/curtin-install-cfg.yaml", "etc/cloud/cloud.cfg.d/90-installer-network.cfg")
    for place in (*places, "var/lib/cloud/seed/nocloud/user-data", "etc/netplan/50-cloud-init.yaml"):
        (live.target / place).parent.mkdir(parents=True, exist_ok=True)
        (live.target / place).write_text(TOKENS)


def _no_traces(place: Path) -> None:
    """Nothing below the directory has a token of the seed in it; what it logged otherwise stays."""
    files = [path for path in place.rglob("*") if path.is_file() and not path.is_symlink()]
    assert not [path for path in files if "seed-token_1" in path.read_text() or HASH in path.read_text()]
    assert any("/build/.../seed/user-data" in path.read_text() for path in files)
    assert not [path for path in files if path.name == "autoinstall-user-data"]


CRYPTTAB = """crypt0 UUID=0-root none luks
cryptswap UUID=1-swap none luks
cryptvar UUID=2-var none luks
"""


@pytest.mark.parametrize("raid1", [False, True], ids=["one disk", "mirror"])
def test_one_passphrase_opens_all_that_is_encrypted_beside_the_root(tmp_path: Path, raid1: bool) -> None:
    parameters = {"encrypt": True, "partitioning": "plain", "var_size": "20G", "swap_size": "4G", "raid1": raid1}
    late = script_of(answer_of("ubuntu2404", parameters=parameters), "late-commands")
    live = LiveSystem(tmp_path)
    _leave_traces(live)
    live.run_dir.mkdir()
    (live.run_dir / "root").write_text(f"root:{HASH}\n")
    (live.target / "etc/crypttab").write_text(CRYPTTAB)
    with recorder(all_well) as server:
        ran = live.run(late, server)
    assert ran.status == 0, ran.output
    keys = live.target / "etc/cryptsetup-keys.d"
    assert (live.target / "etc/crypttab").read_text().splitlines() == [
        "crypt0 UUID=0-root none luks",
        "cryptswap UUID=1-swap /etc/cryptsetup-keys.d/cryptswap.key luks",
        "cryptvar UUID=2-var /etc/cryptsetup-keys.d/cryptvar.key luks",
    ]
    texts = [(keys / f"crypt{each}.key").read_bytes() for each in ("var", "swap")]
    assert [len(each) for each in texts] == [64, 64] and texts[0] != texts[1]
    assert {path.stat().st_mode & 0o777 for path in keys.iterdir()} == {0o600} and keys.stat().st_mode & 0o777 == 0o700
    added = [line for line in ran.fakes.splitlines() if line.startswith("cryptsetup ")]
    opened = f"--batch-mode luksAddKey --key-file {live.run_dir}/disk_passphrase /dev/disk/by-uuid"
    assert added == [f"cryptsetup {opened}/{uuid} {keys}/{name}.key" for uuid, name in
                     (("2-var", "cryptvar"), ("1-swap", "cryptswap"))]  # fmt: skip
    last = ran.fakes.index("curtin in-target")
    assert "update-initramfs -u -k all" in ran.fakes[last:] and ran.fakes.rindex("luksAddKey") < last
    assert (live.target / "etc/initramfs-tools/conf.d/provisioner-resume").read_text() == "RESUME=none\n"
    assert not live.run_dir.exists()


@pytest.mark.parametrize(
    ("crypttab", "broken", "says"),
    [("crypt0 UUID=0 none luks\n", "", "cryptvar is not in"), (CRYPTTAB, "cryptsetup", "add a key to cryptvar")],
)
def test_a_volume_that_no_key_opens_is_a_failure(tmp_path: Path, crypttab: str, broken: str, says: str) -> None:
    parameters = {"encrypt": True, "partitioning": "plain", "var_size": "20G"}
    live = LiveSystem(tmp_path)
    (live.target / "etc/crypttab").write_text(crypttab)
    if broken:
        (live.tools / broken).write_text("#!/bin/sh\nexit 1\n")
    late = script_of(answer_of("ubuntu2404", parameters=parameters), "late-commands")
    live.run_dir.mkdir()
    (live.run_dir / "root").write_text(f"root:{HASH}\n")
    with recorder(all_well) as server:
        ran = live.run(late, server)
    assert ran.status != 0
    assert server.steps()[-1] == "failed"
    assert says in server.asked[-1].form["message"]


@pytest.mark.parametrize("layout", [{"encrypt": True, "var_size": "20G"}, {"partitioning": "plain", "var_size": "20G"}])
def test_other_layouts_have_no_keys_on_the_disk(layout: dict[str, Any]) -> None:
    assert "cryptsetup" not in script_of(answer_of("ubuntu2404", parameters=layout), "late-commands")


def test_what_the_installer_copies_after_the_late_commands_is_cleaned_at_the_first_boot(tmp_path: Path) -> None:
    """Subiquity copies its logs and its journal, with the kernel's command line, when our commands are over."""
    live = LiveSystem(tmp_path)
    with recorder(all_well) as server:
        data = data_of("ubuntu2404", handoff={"tool": "none"}) | {"secrets": []}
        ran = live.run(script_of(made(template_of("ubuntu2404"), data), "late-commands"), server)
    assert ran.status == 0, ran.output
    logs = live.target / "var/log"
    (logs / "installer").mkdir(parents=True)
    (logs / "installer/installer-journal.txt").write_text(TOKENS)
    (logs / "installer/autoinstall-user-data").write_text(TOKENS)
    script = live.target / "etc/provisioner/traces.sh"
    subprocess.run(["sh", str(script), str(logs)], check=True, timeout=60)
    _no_traces(logs)
    unit = (live.target / "etc/systemd/system/provisioner-traces.service").read_text()
    assert "\nExecStart=/etc/provisioner/traces.sh\n" in unit and "\nBefore=sysinit.target\n" in unit


def test_r13_a_failed_installation_sends_its_log(live: LiveSystem) -> None:
    logs = live.logs / "installer"
    (logs / "subiquity-server-debug.log").write_text("first\n" + "x" * 100_000 + "\n")
    (logs / "curtin-install.log").write_text(f"100% & a=b + c\n{TOKENS}curtin: no space left\n")
    live.run_dir.mkdir()
    (live.run_dir / "disk_passphrase").write_text(PASSPHRASE)
    with recorder(all_well) as server:
        ran = live.run(script_of(answer_of("ubuntu2404"), "error-commands"), server)
    assert ran.status == 0, ran.output
    (event,) = server.asked
    assert event.form["step"] == "failed"
    assert event.form["log"].endswith("/build/.../seed/user-data HTTP/1.1\ncurtin: no space left")
    assert "100% & a=b + c" in event.form["log"] and "first" not in event.form["log"]
    assert 60_000 < len(event.form["log"]) <= 65_536
    assert not live.run_dir.exists()


def test_the_serial_console_is_in_the_boot_menu_of_the_new_system(tmp_path: Path) -> None:
    """The options that the installer booted with do not reach the new system."""
    script = script_of(answer_of("ubuntu2404", parameters=PARAMETERS), "late-commands")
    inside = re.findall(r"(?ms)^cat >/etc/default/grub.d/90-provisioner.cfg <<'GRUB'\n(.*?)^GRUB$", script)[0]
    (tmp_path / "grub.cfg").write_text(inside)
    said = subprocess.run(
        ["sh", "-c", f'GRUB_CMDLINE_LINUX=net; . {tmp_path}/grub.cfg; echo "$GRUB_CMDLINE_LINUX|$GRUB_TERMINAL"'],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert said.stdout == "net console=tty0 console=ttyS0,115200n8|console serial\n"
    assert "90-provisioner.cfg" not in script_of(answer_of("ubuntu2404"), "late-commands")
