"""`init`: the state directory, keys, certificate, database, shipped content, and the first password."""

import os
import socket
from dataclasses import dataclass, replace
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from sqlalchemy import func, select

from provisioner.core.policy import Role
from provisioner.errors import ProvisionerError, StateDirectory
from provisioner.services import content, contentchanges, keys, loaders, objects, passwords
from provisioner.services.files import replacing, translated
from provisioner.services.site import Actor, Site, open_site
from provisioner.settings import Settings
from provisioner.store import schema
from provisioner.store.engine import open_engine, read, write
from provisioner.store.models import now
from provisioner.store.people import User

_CERTIFICATE_DAYS = 3650


@dataclass(frozen=True)
class Initialised:
    """What `init` made. ``admin_password`` is None when an administrator existed already."""

    site: Site
    admin_password: str | None
    fingerprint: str
    changes: int
    """Profiles and templates that were loaded or brought up to date."""
    without: ProvisionerError | None = None
    """Why the small loaders could not be made; boots go on without them."""


def init(settings: Settings, actor: Actor) -> Initialised:
    """Make an installation, or bring an existing one up to this program's schema and content; safe to repeat."""
    _directories(settings.state_dir)
    keys.create(settings.state_dir / "keys")
    fingerprint = _certificate(settings.state_dir / "tls")
    engine = open_engine(settings.database, lock_seconds=settings.lock_seconds)
    _private_file(engine.url.database if engine.dialect.name == "sqlite" else None)
    try:
        schema.upgrade(engine)
    finally:
        engine.dispose()
    site = open_site(settings)
    reason = ": ".join(filter(None, (contentchanges.SHIPPED, actor.reason)))
    changes = content.apply(site, replace(actor, reason=reason), content.shipped(), upgrade=True)
    return Initialised(site, _first_admin(site, actor), fingerprint, len(changes), _loaders(site))


def _directories(state_dir: Path) -> None:
    with translated(state_dir):
        if state_dir.exists() and not state_dir.is_dir():
            raise StateDirectory(f"{state_dir} is not a directory", hint="choose another with PROVISIONER_STATE_DIR")
        # Others may pass, not look: dnsmasq's own user reads its reservations in dhcp/.
        state_dir.mkdir(parents=True, exist_ok=True)
        state_dir.chmod(0o711)
        for name in ("keys", "tls", "attempts", "spool", "media", "dhcp"):
            (state_dir / name).mkdir(exist_ok=True)
            (state_dir / name).chmod(0o755 if name in {"media", "dhcp"} else 0o700)


def _private_file(path: str | None) -> None:
    """Make the database file before SQLite does, so that it is never open to others; its WAL takes the same mode."""
    if path:
        with translated(Path(path)):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))


def _loaders(site: Site) -> ProvisionerError | None:
    try:
        # All of them, since GRUB itself may have been brought up to date.
        loaders.make(site, anew=True)
    except ProvisionerError as error:
        return error
    return None


def _first_admin(site: Site, actor: Actor) -> str | None:
    with read(site.engine) as session:
        if session.scalar(select(func.count()).select_from(User)):
            return None
    password = passwords.made()
    admin = User(name="admin", role=Role.ADMIN.value, password_hash=passwords.hashed(password), disabled=False)
    with write(site.engine) as session:
        objects.save(session, actor, admin, None)
    return password


def _certificate(directory: Path) -> str:
    """A self-signed certificate for the admin plane, unless there is one. Returns its SHA-256 fingerprint."""
    path = directory / "cert.pem"
    if not path.exists():
        key = ec.generate_private_key(ec.SECP256R1())
        with replacing(directory / "key.pem") as file:
            file.write(
                key.private_bytes(
                    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
                )
            )
        with replacing(path) as file:
            file.write(_self_signed(key).public_bytes(serialization.Encoding.PEM))
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    return certificate.fingerprint(hashes.SHA256()).hex(":").upper()


def _self_signed(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    host = socket.getfqdn() or "provisioner"
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host[:64])])
    # A machine whose clock is a day behind must still find the certificate valid.
    begins = now() - timedelta(days=1)
    names = [x509.DNSName(host), x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + timedelta(days=_CERTIFICATE_DAYS))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
