"""A Rocky 9 machine played by curl from its own address, through a real ``provisioner serve``."""

import hashlib
import subprocess
import sys
from pathlib import Path

from played import tftp_get
from world import INITRD, KERNEL, OTHER_IP, token_in


def test_rocky_machine_from_loader_to_configured(served, tmp_path: Path) -> None:
    """The whole chain: first script, script, kernel, kickstart, one secret, events, `built`, local boot."""
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


def test_the_loader_by_tftp_programs_and_kernel_by_ranges(served, tmp_path: Path) -> None:
    """T07: real TFTP programs get the loader byte by byte; the kernel is resumed by Range as iPXE never does."""
    loader = Path("/usr/lib/ipxe/undionly.kpxe").read_bytes()
    host, port = served.tftp
    subprocess.run(["curl", "-sS", "-o", tmp_path / "curl", f"tftp://{host}:{port}/undionly.kpxe"], check=True)
    atftp = ["atftp", "-g", "-r", "undionly.kpxe", "-l", str(tmp_path / "atftp"), host, str(port)]
    subprocess.run(atftp, check=True, capture_output=True)
    assert (tmp_path / "curl").read_bytes() == loader
    assert (tmp_path / "atftp").read_bytes() == loader
    assert b"/boot/ipxe/${netX/mac:hexhyp}" in (tftp_get(served.tftp, "autoexec.ipxe", "127.0.2.23") or b"")

    mac, ip = "52:54:00:aa:00:03", "127.0.2.23"
    served.cli("machine", "add", "rocky03", "--mac", mac, "--ip", ip, "--profile", "rocky9")
    served.cli("build", "start", "rocky03")
    script = served.http(f"/boot/ipxe/{mac}", source=ip).text
    kernel = next(word for word in script.split() if "vmlinuz" in word)
    head = served.http(kernel, source=ip, method="HEAD")
    assert (head.status, head.headers["content-length"], head.text) == (200, str(len(KERNEL)), "")
    parts = [served.http(kernel, source=ip, headers={"Range": f"bytes={part}"}).text for part in ("0-2999", "3000-")]
    assert "".join(parts).encode() == KERNEL
    name = kernel.partition("/media/")[2]
    assert tftp_get(served.tftp, f"media/{name}", ip) == KERNEL


def test_the_handoff_is_fetched_while_installing_and_reports_from_the_disk(served) -> None:
    """The script comes over the provisioning network, once; its report may come hours later."""
    mac, ip = "52:54:00:aa:00:04", "127.0.2.24"
    served.cli("profile", "add", "scripted", "--parent", "rocky9", "--handoff", "tool=script,command=/bin/true")
    served.cli("machine", "add", "rocky04", "--mac", mac, "--ip", ip, "--profile", "scripted")
    served.cli("build", "start", "rocky04")
    answer = token_in(served.http(f"/boot/ipxe/{mac}", source=ip).text, "answer")
    kickstart = served.http(f"/build/{answer}/answer", source=ip).text
    assert f"{served.boot}/build/{answer}/handoff" in kickstart
    script = served.http(f"/build/{answer}/handoff", source=ip).text
    subprocess.run(["sh", "-n"], input=script, text=True, check=True)
    assert "/bin/true" in script
    event, handoff = token_in(kickstart, "event"), token_in(script, "configured")
    early = served.http(f"/build/{handoff}/configured", source=ip, method="POST", form={"status": "failed"})
    assert early.status == 403
    assert served.http(f"/build/{event}/event", source=ip, method="POST", form={"step": "built"}).status == 200
    assert served.http(f"/build/{answer}/handoff", source=ip).status == 404
    form = {"status": "ok", "message": "done", "log": "line one\nline two"}
    for repeated in (False, True):
        # From the production network: the finished machine has another address there.
        reply = served.http(f"/build/{handoff}/configured", source="127.0.7.7", method="POST", form=form)
        assert reply.json() == {"state": "configured", "repeated": repeated}
    assert served.cli_json("machine", "show", "rocky04")["state"] == "configured"
    assert "| line two" in served.cli("build", "log", "rocky04").stdout
