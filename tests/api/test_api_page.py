"""docs/api.md, as a newcomer would type it."""

import os
import re
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from conftest import wait_for
from world import ACTOR

from provisioner.errors import ProvisionerError
from provisioner.services import builds, catalogue, subnets

pytestmark = pytest.mark.slow
PAGE = Path(__file__).parents[2] / "docs" / "api.md"


class Mirror(SimpleHTTPRequestHandler):
    """Serves a directory, quietly."""

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def mirror(tmp_path: Path) -> Any:
    """A distro's tree by HTTP."""
    for name in ("vmlinuz", "initrd.img"):
        file = tmp_path / "images" / "pxeboot" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(name.encode() * 1000)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Mirror, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_five_calls_from_a_token_to_a_running_build(served: Any, mirror: str) -> None:
    first = PAGE.read_text().split("\n## ")[1]
    script = "set -e\n" + "\n".join(re.findall(r"```sh\n(.*?)```", first, re.DOTALL))
    assert script.count("api ") == 5, "five calls"
    site = served.site
    subnets.remove(site, ACTOR, "lab")
    catalogue.remove_distro(site, ACTOR, "rocky-9.6")
    environment = os.environ | served.environment | {"SERVER": served.admin, "MIRROR": mirror}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    process = subprocess.Popen(
        ["bash", "-c", script], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )

    def armed() -> bool:
        if process.poll() is not None:
            return True
        try:
            return bool(builds.show(site, "web01")["state"] == "armed")
        except ProvisionerError:
            return False

    wait_for(armed, 60, "the build")
    if process.poll() is None:
        builds.cancel(site, ACTOR, "web01")
    out, _ = process.communicate(timeout=60)
    site.engine.dispose()
    assert process.returncode == 0, out
    assert '"ip": "10.0.2.10"' in out, out
    assert "event: armed" in out and "event: cancelled" in out and "event: end" in out, out
