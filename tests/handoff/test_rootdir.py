"""The machines that the handoffs' tests run on."""

import http.server
import os
import threading
from pathlib import Path

import pytest
from handoff.rootdir import base, wire

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),  # the first of a kind makes its root directory
    pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root"),
]


def test_machines_reach_each_other_and_this_host_and_are_gone_afterwards(tmp_path: Path) -> None:
    """By name and address; what one writes no other sees; daemons end with the machine."""
    lower = base()
    server = http.server.ThreadingHTTPServer(("0.0.0.0", 0), http.server.SimpleHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with wire() as lan:
        with lan.root("web01", lower) as one, lan.root("web02", lower) as two:
            one.run(["curl", "-fsS", "-o", "/dev/null", f"http://provisioner:{server.server_port}/"])
            assert one.run(["hostname"]).stdout == "web01\n"
            one.write("/etc/marker", "here")
            assert two.run(["cat", "/etc/marker"], code=1).stdout == ""
            assert not (lower / "etc/marker").exists()
            assert "web02" in one.run(["getent", "hosts", two.address]).stdout
            two.run(["sh", "-c", "sleep 4711 >/dev/null 2>&1 &"])
            assert two.run(["pgrep", "-fx", "sleep 4711"]).stdout
            daemon = two.spawn(["sleep", "4712"], tmp_path / "log")
            assert one.run(["pgrep", "-f", "sleep 471"], code=1).stdout == ""
            assert one.run(["env"], env={"ONLY": "this"}).stdout.count("\n") == 4
            pid = two.pid
        assert not Path(f"/proc/{pid}").exists()
        assert daemon.wait(10) != 0
        link = f"pvwire{lan.number}"
        assert Path(f"/sys/class/net/{link}").exists()
    server.shutdown()
    server.server_close()
