"""A real ``provisioner serve`` on the lab's wire, with a state directory of its own, and the CLI beside it."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labkit.network import Network
from labkit.processes import LabError, spawn, stop, wait_for

REPOSITORY = Path(__file__).resolve().parents[2]
_READY = "import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=2)"


@dataclass
class Server:
    """Provisioner on ``network``; all of its state is below ``directory``."""

    network: Network
    directory: Path
    extra_settings: Mapping[str, str] = field(default_factory=dict)
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def state_dir(self) -> Path:
        """The server's state directory."""
        return self.directory / "state"

    @property
    def log(self) -> Path:
        """What the server wrote."""
        return self.directory / "serve.log"

    @property
    def boot_url(self) -> str:
        """What machines are told."""
        return f"http://{self.network.server_ip}:8080"

    def environment(self) -> dict[str, str]:
        """The environment of every provisioner process of this lab; no setting of the host's own leaks in."""
        ip = self.network.server_ip
        settings = {
            "CONFIG": str(self._config()),
            "STATE_DIR": str(self.state_dir),
            "BOOT_BIND": f"{ip}:8080",
            "BOOT_URL": self.boot_url,
            "MEDIA_BIND": f"{ip}:8081",
            "MEDIA_URL": f"http://{ip}:8081",
            "HTTP_BIND": f"{ip}:8443",
            "TFTP_BIND": f"{ip}:69",
            "TLS": "off",
            **self.extra_settings,
        }
        host = {name: value for name, value in os.environ.items() if not name.startswith("PROVISIONER_")}
        path = os.pathsep.join(filter(None, [str(REPOSITORY), host.get("PYTHONPATH", "")]))
        return {**host, "PYTHONPATH": path, **{f"PROVISIONER_{name}": value for name, value in settings.items()}}

    def command(self, *arguments: str | Path) -> list[str]:
        """The command line that runs a provisioner command on this network."""
        return self.network.inside(sys.executable, "-m", "provisioner", *arguments)

    def cli(self, *arguments: str | Path) -> str:
        """Run a provisioner command; its standard output. LabError with its messages if it fails."""
        result = subprocess.run(
            self.command(*arguments), env=self.environment(), capture_output=True, text=True, check=False
        )
        if result.returncode:
            shown = " ".join(map(str, arguments))
            raise LabError(f"`provisioner {shown}` ended with {result.returncode}:\n{result.stderr.strip()}")
        return result.stdout

    def cli_json(self, *arguments: str | Path) -> Any:
        """The parsed JSON that a provisioner command prints with ``--output json``."""
        return json.loads(self.cli(*arguments, "--output", "json"))

    def start(self, timeout: float = 60) -> None:
        """Start ``provisioner serve`` and wait until its boot plane is ready."""
        self._process = spawn(self.command("serve"), self.log, env=self.environment())
        wait_for(self._ready, timeout, f"`provisioner serve` to become ready (see {self.log})")

    def stop(self) -> None:
        """Stop serve and its children."""
        if self._process is not None:
            stop(self._process, patience=15)
            self._process = None

    def check(self) -> None:
        """LabError if serve has ended by itself."""
        if self._process is not None and self._process.poll() is not None:
            last = "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
            raise LabError(f"`provisioner serve` ended with {self._process.returncode}:\n{last}")

    def _config(self) -> Path:
        file = self.directory / "provisioner.yaml"
        if not file.exists():
            file.write_text("{}\n")
        return file

    def _ready(self) -> bool:
        self.check()
        probe = self.network.inside(sys.executable, "-c", _READY, f"{self.boot_url}/readyz")
        return subprocess.run(probe, capture_output=True, check=False).returncode == 0
