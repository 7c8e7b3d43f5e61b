"""An Ubuntu machine played by curl from its own address, through a real ``provisioner serve``."""

import hashlib
import re

import pytest
import yaml
from world import INITRD, KERNEL, token_in

pytestmark = pytest.mark.slow

ISO = b"".join(b"block %08d\n" % number for number in range(50_000))


@pytest.fixture
def ubuntu(served, tmp_path) -> str:
    """A distro with its ISO, removed afterwards."""
    for name, content in (("vmlinuz", KERNEL), ("initrd", INITRD), ("live-server.iso", ISO)):
        (tmp_path / name).write_bytes(content)
    files = ("--kernel", str(tmp_path / "vmlinuz"), "--initrd", str(tmp_path / "initrd"))
    said = served.cli(
        "distro", "add", "ubuntu-24.04", "--os", "ubuntu", "--version", "24.04", *files,
        "--iso", str(tmp_path / "live-server.iso"),
    )  # fmt: skip
    assert f"iso {hashlib.sha256(ISO).hexdigest()[:12]}" in said.stdout
    yield "ubuntu-24.04"
    served.cli("distro", "remove", "ubuntu-24.04", "--yes")


def test_r31_ubuntu_machine_from_loader_to_built(served, ubuntu: str) -> None:
    """The whole chain: script, ISO by Range, the four files of the seed, secrets, events, `built`, local boot."""
    mac, ip = "52:54:00:aa:01:01", "127.0.2.71"
    served.cli("machine", "add", "ubuntu01", "--mac", mac, "--ip", ip, "--profile", "ubuntu2404")
    served.cli("machine", "edit", "ubuntu01", "--secret", "root_password=-", stdin="correct horse\n")
    served.cli("build", "start", "ubuntu01")

    script = served.http(f"/boot/ipxe/{mac}?platform=efi", source=ip).text
    seed = re.search(r" ds=nocloud;s=(\S+/seed/) ", script)
    iso = re.search(r" url=(\S+)", script)
    assert seed is not None and iso is not None and " cloud-config-url=/dev/null " in script
    grub = served.http(f"/boot/grub/{mac}", source=ip).text
    assert re.search(r" 'ds=nocloud;s=\S+/seed/' ", grub)

    path = iso[1].removeprefix(served.media)
    assert path == f"/media/sha256/{hashlib.sha256(ISO).hexdigest()}/live-server.iso"
    part = served.http(iso[1], source=ip, headers={"Range": "bytes=1000-1999"})
    assert (part.status, part.text) == (206, ISO[1000:2000].decode())

    place = seed[1].removeprefix(served.boot)
    token = token_in(grub, "seed")  # GRUB's script is the same attempt's
    assert token in place
    files = {}
    for name in ("user-data", "meta-data", "vendor-data", "network-config"):
        answer = served.http(place + name, source=ip)
        assert answer.status == 200 and answer.headers["cache-control"] == "no-store"
        files[name] = yaml.safe_load(answer.text)
    assert files["user-data"]["autoinstall"]["user-data"]["hostname"] == "ubuntu01"
    assert files["meta-data"]["instance-id"] == "provisioner-ubuntu01-1"
    assert files["network-config"]["version"] == 2 and files["vendor-data"] == {}
    assert served.http(place, source=ip).status == 404  # cloud-init asks for names, it never lists
    assert served.http(place + "other", source=ip).status == 404

    text = served.http(place + "user-data", source=ip).text
    assert "$6$" not in text
    secret = f"/build/{token_in(text, 'secret')}/secret/root_password"
    taken = served.http(secret, source=ip, method="POST", form={"nonce": "n1"})
    assert taken.status == 200 and taken.text.startswith("$6$")
    event = f"/build/{token_in(text, 'event')}/event"
    for step in ("installer", "disk", "installer", "built"):
        assert served.http(event, source=ip, method="POST", form={"step": step, "message": step}).status == 200
    assert served.http(place + "user-data", source=ip).status == 404
    assert served.cli_json("machine", "show", "ubuntu01")["state"] == "built"
    served.cli("machine", "remove", "ubuntu01", "--yes")


def test_r31_the_iso_is_shown_changed_and_taken_away(served, ubuntu: str, tmp_path) -> None:
    """And a build without one is refused, with the command that mends it."""
    shown = served.cli_json("distro", "show", ubuntu)
    assert shown["files"] == {
        "iso": {"sha256": hashlib.sha256(ISO).hexdigest(), "name": "live-server.iso", "size": len(ISO)}
    }
    (tmp_path / "other.iso").write_bytes(ISO[::-1])
    said = served.cli("distro", "edit", ubuntu, "--iso", str(tmp_path / "other.iso")).stdout
    assert "other.iso" in said
    assert served.cli_json("distro", "show", ubuntu)["files"]["iso"]["name"] == "other.iso"
    served.cli("distro", "edit", ubuntu, "--version", "24.04.1")
    assert served.cli_json("distro", "show", ubuntu)["files"]["iso"]["name"] == "other.iso"
    served.cli("distro", "edit", ubuntu, "--iso", "")
    assert served.cli_json("distro", "show", ubuntu)["files"] == {}
    served.cli(
        "machine", "add", "ubuntu02", "--mac", "52:54:00:aa:01:02", "--ip", "127.0.2.72", "--profile", "ubuntu2404"
    )
    refused = served.cli("build", "start", "ubuntu02", code=4).stderr
    assert "has no ISO" in refused and "provisioner distro edit ubuntu-24.04 --iso" in refused
    served.cli("machine", "remove", "ubuntu02", "--yes")


def test_r31_an_iso_that_is_lost_is_noticed_before_a_machine_is(served, ubuntu: str) -> None:
    sha256 = served.cli_json("distro", "show", ubuntu)["files"]["iso"]["sha256"]
    site = served.site
    stored = site.media_dir / "sha256" / sha256[:2] / sha256
    site.engine.dispose()
    content = stored.read_bytes()
    served.cli(
        "machine", "add", "ubuntu03", "--mac", "52:54:00:aa:01:03", "--ip", "127.0.2.73", "--profile", "ubuntu2404"
    )
    stored.unlink()
    try:
        assert "the iso of distro ubuntu-24.04 is not in the media store" in served.cli("check", code=None).stdout
        assert "the iso of distro ubuntu-24.04" in served.cli("build", "start", "ubuntu03", code=1).stderr
    finally:
        stored.write_bytes(content)
        served.cli("machine", "remove", "ubuntu03", "--yes")
