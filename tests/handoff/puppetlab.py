"""A real Puppet server in a root directory of its own, set up by the steps of docs/handoff.md."""

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conftest import Served, free_port, served_environment, wait_for
from cryptography import x509
from handoff.rootdir import Root, base
from handoff.setup_steps import steps
from played import curl

ROOT = Path(__file__).resolve().parents[2]
_LOCK = ROOT / "scripts" / "requirements.lock"
_HOOK = """\
pip={python}; lock={lock} # {digest}
site=$("$1/usr/bin/python3" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
"$pip" -m pip install -q --require-hashes -r "$lock" --target "$1/usr/local/lib/$site/dist-packages"
printf '#!/usr/bin/python3\\nfrom provisioner.cli import main\\n\\nmain()\\n' >"$1/usr/local/bin/provisioner"
chmod 755 "$1/usr/local/bin/provisioner"
"""
# What would restart the service on a machine that has systemd: the test starts it when all is set up.
_SYSTEMCTL = '#!/bin/sh\n[ "$*" = "restart puppetserver" ]\n'
# Small, and quick to start: for a CA that signs three certificates, compiling more would not pay.
_JAVA = 'JAVA_ARGS="-Xms512m -Xmx512m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC '
_JAVA += '-Djruby.logger.class=com.puppetlabs.jruby_utils.jruby.Slf4jLogger"'
SITE = """\
node default {
  file { '/etc/motd.puppet':
    content => "role ${trusted['extensions']['pp_role']} of ${trusted['extensions']['pp_image_name']}\\n",
  }
}
"""


def puppet_base() -> Path:
    """Debian's puppetserver and puppet-agent, and what Provisioner needs to run as a client there."""
    digest = hashlib.sha256(_LOCK.read_bytes()).hexdigest()
    hook = _HOOK.format(python=sys.executable, lock=_LOCK, digest=digest)
    return base("puppetserver", "puppet-agent", "python3", hooks=[hook])


@contextlib.contextmanager
def over_tls(template: Path, directory: Path) -> Iterator[tuple[Served, str]]:
    """A service whose admin plane is reached from elsewhere, and the fingerprint that `init` printed."""
    shutil.copytree(template, directory / "state")
    served = Served(served_environment(directory / "state"), directory / "state", log=directory / "serve.log")
    port = free_port()
    served.environment |= {
        "PROVISIONER_TLS": "on",
        "PROVISIONER_HTTP_BIND": f"0.0.0.0:{port}",
        "PROVISIONER_LOG_LEVEL": "debug",
    }
    printed = next(line for line in served.cli("init").stdout.splitlines() if line.startswith("certificate"))
    with served.log.open("ab") as log:
        served.process = subprocess.Popen(
            [sys.executable, "-m", "provisioner", "serve"], env=os.environ | served.environment, stdout=log, stderr=log
        )
    try:
        urls = [f"https://127.0.0.1:{port}", served.boot, served.media]
        wait_for(lambda: all(curl("-f", "-k", f"{url}/readyz").returncode == 0 for url in urls), what="readiness")
        yield served, printed.removeprefix("certificate").strip()
    finally:
        served.stop()


@dataclass
class PuppetServer:
    """A Puppet server with its CA, and Provisioner's installation that it asks."""

    root: Root
    served: Served
    fingerprint: str
    daemon: Any = None
    log: Path = Path("/dev/null")

    def set_up(self, log: Path) -> None:
        """By the documented steps, as an administrator does who copies files between the two."""
        self.log = log
        self._install()
        desk = self.served.state.parent / "desk"
        desk.mkdir()
        self.here("puppet: a token for the CA", desk)
        self.root.write("/root/autosign.token", (desk / "autosign.token").read_text(), 0o600)
        self.there("puppet: whom to ask")
        self.there("puppet: who may revoke")
        self.start()
        self.there("puppet: our certificate")
        shutil.copytree(self.root.path / "root/for-provisioner", desk / "for-provisioner")
        self.here("puppet: its place", desk)

    def _install(self) -> None:
        (packages,) = (self.root.path / "usr/local/lib").glob("python3.*/dist-packages")
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "provisioner", packages / "provisioner", ignore=ignored)
        self.root.run(["sh", "-c", "python3 -m compileall -q /usr/local/lib/python3.*/dist-packages/provisioner"])
        self.root.write("/usr/local/bin/systemctl", _SYSTEMCTL, 0o755)
        defaults = self.root.read("/etc/default/puppetserver").splitlines()
        kept = [_JAVA if line.startswith("JAVA_ARGS=") else line for line in defaults]
        self.root.write("/etc/default/puppetserver", "\n".join(kept) + "\n")
        # Debian's agent waits for the end of a connection after its request, which is Jetty's 30 s unless told.
        idle = "s/ssl-port: 8140/&\\n    idle-timeout-milliseconds: 3000/"
        self.root.run(["sed", "-i", idle, "/etc/puppet/puppetserver/conf.d/webserver.conf"])
        self.root.run(["puppet", "config", "set", "--section", "main", "certname", self.root.name])
        self.root.write("/etc/puppet/code/environments/production/manifests/site.pp", SITE)
        # Provisioner runs on this host, which knows no names of the wire.
        self.root.run(["puppetserver", "ca", "setup", "--subject-alt-names", f"DNS:puppet,IP:{self.root.address}"])

    def there(self, title: str) -> str:
        """Run a step on the Puppet server."""
        port = self.served.environment["PROVISIONER_HTTP_BIND"].rpartition(":")[2]
        text = steps(title).replace("provisioner.example.com:8443", f"{self.root.host}:{port}")
        text = text.replace("SHA-256 AA:BB:...", self.fingerprint)
        return self.root.run(["sh", "-euc", f"cd /root\n{text}"]).stdout

    def here(self, title: str, directory: Path) -> None:
        """Run a step on Provisioner's host."""
        text = steps(title).replace("/var/lib/provisioner", str(self.served.state))
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        subprocess.run(
            ["sh", "-euc", text], cwd=directory, env=os.environ | self.served.environment | {"PATH": path}, check=True
        )

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.daemon = self.root.spawn(["puppetserver", "foreground"], self.log)
        wait_for(
            lambda: self.daemon.poll() is not None or self._is_ready(),
            400,
            f"the Puppet server; see {self.log}",
        )
        assert self.daemon.poll() is None, self.log.read_text()[-4000:]

    def stop(self) -> None:
        """End it, whatever it does."""
        self.root.run(["pkill", "-KILL", "-f", "puppetserver.jar"], code=None)
        self.daemon.wait(60)

    def _is_ready(self) -> bool:
        # It listens for long before it answers; no program is started to see that it does not listen yet.
        if f":{8140:04X} 0" not in Path(f"/proc/{self.root.pid}/net/tcp6").read_text():
            return False
        status = ["curl", "-skf", "--retry", "300", "--retry-delay", "1", "--retry-all-errors"]
        done = self.root.run([*status, "https://localhost:8140/status/v1/simple"], code=None)
        return done.stdout.endswith("running")

    def handoff(self, **more: Any) -> dict[str, Any]:
        """What the profile says."""
        bundle = hashlib.sha256((self._ca / "ca_crt.pem").read_bytes()).hexdigest()
        return {"tool": "puppet", "server": self.root.address, "ca_fingerprint": bundle, "agent": False, **more}

    @property
    def _ca(self) -> Path:
        return self.root.path / "etc/puppet/puppetserver/ca"

    def certificate(self, certname: str) -> x509.Certificate | None:
        """The signed certificate of that name."""
        file = self._ca / "signed" / f"{certname}.pem"
        return x509.load_pem_x509_certificate(file.read_bytes()) if file.exists() else None

    def waiting(self) -> set[str]:
        """The names of requests that nobody signed."""
        return {each.stem for each in (self._ca / "requests").glob("*.pem")}

    def revoked(self) -> set[int]:
        """The serial numbers of revoked certificates."""
        text = (self._ca / "ca_crl.pem").read_bytes()
        blocks = [b"-----BEGIN X509 CRL-----" + each for each in text.split(b"-----BEGIN X509 CRL-----")[1:]]
        return {entry.serial_number for block in blocks for entry in x509.load_pem_x509_crl(block)}

    def send(self, certname: str, pem: str) -> int:
        """Send a request as an agent does; the status."""
        url = f"https://localhost:8140/puppet-ca/v1/certificate_request/{certname}"
        words = ["curl", "-sk", "-o", "/dev/null", "-w", "%{http_code}", "-X", "PUT", "-H", "Content-Type: text/plain"]
        done = self.root.run([*words, "--data-binary", "@-", url], stdin=pem)
        return int(done.stdout)
