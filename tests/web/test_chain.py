"""A Rocky 9 machine played by curl from its own address, through a real ``provisioner serve``."""

import hashlib
import subprocess
import sys
from pathlib import Path

from world import INITRD, KERNEL, OTHER_IP, token_in


def test_rocky_machine_from_loader_to_configured(served, tmp_path: Path) -> None:
    """The whole chain: TFTP loader, script, kernel, kickstart, one secret, events, `built`, local boot, `configured`."""
    mac, ip = "52:54:00:aa:00:01", "127.0.2.21"
    served.cli("machine", "add", "rocky01", "--mac", mac, "--ip", ip, "--profile", "rocky9")
    served.cli("machine", "edit", "rocky01", "--secret", "root_password=-", stdin="correct horse\n")
    served.cli("build", "start", "rocky01")

    first = served.http("/boot/ipxe", source=ip).text
    assert f"chain --replace {served.boot}/boot/ipxe/${{netX/mac:hexhyp}}" in first
    script = served.http(f"/boot/ipxe/01-{mac.replace(':', '-').upper()}?platform=pcbios", source=ip).text
    kernel_url = next(word for word in script.split() if "/media/sha256/" in word and "vmlinuz" in word)
    assert hashlib.sha256(KERNEL).hexdigest() in kernel_url
    assert hashlib.sha256(INITRD).hexdigest() in script
    answer_path = f"/build/{token_in(script, 'answer')}/answer"

    kickstart = served.http(answer_path, source=ip)
    assert kickstart.status == 200
    assert kickstart.headers["cache-control"] == "no-store"
    file = tmp_path / "rocky01.ks"
    file.write_text(kickstart.text)
    subprocess.run([Path(sys.executable).parent / "ksvalidator", "-v", "RHEL9", file], check=True)
    assert served.http(answer_path, source=ip).text == kickstart.text
    assert "$6$" not in kickstart.text

    secret_path = f"/build/{token_in(kickstart.text, 'secret')}/secret/root_password"
    taken = served.http(secret_path, source=ip, method="POST", form={"nonce": "n1"})
    assert taken.status == 200
    assert taken.text.startswith("$6$")
    assert served.http(secret_path, source=ip, method="POST", form={"nonce": "n1"}).text == taken.text

    event_path = f"/build/{token_in(kickstart.text, 'event')}/event"
    for step in ("pre", "disk", "packages", "built", "built"):
        reply = served.http(event_path, source=ip, method="POST", form={"step": step, "message": f"step {step}"})
        assert reply.status == 200, reply.text
    assert served.http(answer_path, source=ip).status == 404

    local = served.http(f"/boot/ipxe/{mac}?platform=pcbios", source=ip).text
    assert "sanboot --no-describe --drive 0x80" in local
    assert served.cli_json("machine", "show", "rocky01")["state"] == "built"


def test_another_address_is_refused_and_flagged(served) -> None:
    """S20: the right token from the wrong address opens nothing, and somebody is told."""
    mac, ip = "52:54:00:aa:00:02", "127.0.2.22"
    served.cli("machine", "add", "rocky02", "--mac", mac, "--ip", ip, "--profile", "rocky9")
    served.cli("build", "start", "rocky02")
    script = served.http(f"/boot/ipxe/{mac}", source=ip).text
    path = f"/build/{token_in(script, 'answer')}/answer"
    refused = served.http(path, source=OTHER_IP)
    unknown = served.http("/build/" + "x" * 54 + "/answer", source=OTHER_IP)
    assert (refused.status, refused.text) == (404, unknown.text)
    assert OTHER_IP in served.cli_json("machine", "show", "rocky02")["flag"]
    assert served.http(path, source=ip).status == 200
