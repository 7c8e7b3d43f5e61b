"""Whether a Puppet CA will sign for our machines, and for nobody else: it is tried, and nothing is left there."""

import hashlib
from collections.abc import Iterator

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from provisioner.handoff.protocol import Finding, Host, Settings
from provisioner.handoff.puppet_ca import Authority

PREFIX = "provisioner-probe-"
"""How the name of a request begins that is only made to see whether the policy asks us; the mark follows."""


def findings(settings: Settings, host: Host) -> Iterator[Finding]:
    """What is wrong with this CA. Raises CredentialMissing, HandoffUnreachable, HandoffRefused."""
    authority = Authority.of(settings, host)
    yield from _fingerprint(settings, authority)
    if host.echo is None:
        authority.state(PREFIX)
        return
    mark = host.echo.mark()
    certname = f"{PREFIX}{mark}"
    authority.state(certname)  # raises if our certificate is not good enough, before anything is left there
    try:
        authority.submit(certname, _request(certname))
        signed = authority.state(certname) == "signed"
    finally:
        authority.revoke(certname)
        authority.delete(certname)
    where = f"the Puppet CA {settings['ca_server']}:{settings['port']}"
    if signed:
        yield Finding(
            "error",
            f"{where} signs requests that Provisioner did not allow",
            "anybody who reaches it becomes any machine, and is sent that machine's secrets",
            "set `autosign` in the server's puppet.conf to the policy executable; see docs/handoff.md",
        )
    elif not host.echo.heard(mark):
        yield Finding(
            "error",
            f"{where} does not ask Provisioner before it signs",
            "no machine gets its certificate: every handoff waits until its time is up",
            "set `autosign` in the server's puppet.conf to the policy executable, and try that as the server's user: "
            "`provisioner puppet-autosign --check`; see docs/handoff.md",
        )


def _fingerprint(settings: Settings, authority: Authority) -> Iterator[Finding]:
    served = hashlib.sha256(authority.bundle()).hexdigest()
    wanted = settings["ca_fingerprint"].lower()
    if not wanted:
        yield Finding(
            "warning",
            f"the handoff to the Puppet server {settings['server']} names no ca_fingerprint",
            "a machine believes the first CA that answers it: whoever stands in between gets its challenge",
            f"set `ca_fingerprint: {served}` in the profile's handoff, if `sha256sum` of ca_crt.pem there says so too",
        )
    elif wanted != served:
        yield Finding(
            "error",
            f"the Puppet CA {settings['ca_server']}:{settings['port']} has the fingerprint {served}, not {wanted}",
            "machines refuse this CA, and no handoff succeeds",
            "if its certificate was replaced, set ca_fingerprint to what `sha256sum` of ca_crt.pem says there",
        )


def _request(certname: str) -> bytes:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, certname)])
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(subject)
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.PEM)
    )
