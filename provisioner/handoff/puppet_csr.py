"""Certificate requests of Puppet agents: what one says, and whether it says just what a build was sealed with.

PKCS #10 (RFC 2986) with the attributes that `csr_attributes.yaml` and the agent itself put in:
https://www.puppet.com/docs/puppet/8/ssl_attributes_extensions.html
"""

import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

PP_ROLE = "1.3.6.1.4.1.34380.1.1.13"
PP_IMAGE_NAME = "1.3.6.1.4.1.34380.1.1.3"
_CHALLENGE = "1.2.840.113549.1.9.7"
_EXTENSION_REQUEST = "1.2.840.113549.1.9.14"
_AUTO_RENEW = "1.3.6.1.4.1.34380.1.3.2"
"""Puppet 8 says so of itself that it can renew its certificate before it ends."""
LONGEST_PEM = 32_768
_ONE_BLOCK = re.compile(
    rb"\s*-----BEGIN CERTIFICATE REQUEST-----\s[A-Za-z0-9+/=\s]+-----END CERTIFICATE REQUEST-----\s*"
)
_LEAST_RSA_BITS = 2048
_LEAST_EC_BITS = 256
_LONGEST_SHORT_FORM = 127


class Unacceptable(Exception):
    """The request is none that an agent of ours makes; the text says why, without any secret."""


@dataclass(frozen=True)
class Request:
    """A certificate request whose signature is good."""

    certname: str
    challenge: bytes
    extensions: Mapping[str, bytes]
    """The extensions that it asks for, by OID, as they are encoded."""
    fingerprint: str
    """SHA-256 of the public key (SubjectPublicKeyInfo, DER), in hex."""


def read(pem: bytes) -> Request:
    """What a request says. Raises Unacceptable for anything that a Puppet agent with our settings would not send."""
    try:
        return _read(pem)
    # The library decodes lazily: damage shows up as ValueError, TypeError or its own exceptions at first use.
    except (ValueError, TypeError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise Unacceptable(f"it cannot be read: {error}") from error
    except (UnsupportedAlgorithm, InvalidSignature) as error:
        raise Unacceptable(f"its algorithm is not known: {error}") from error


def _read(pem: bytes) -> Request:
    if len(pem) > LONGEST_PEM or not _ONE_BLOCK.fullmatch(pem):
        raise Unacceptable("it is not one certificate request in PEM")
    csr = x509.load_pem_x509_csr(pem)
    key = csr.public_key()
    if not (
        (isinstance(key, rsa.RSAPublicKey) and key.key_size >= _LEAST_RSA_BITS)
        or (isinstance(key, ec.EllipticCurvePublicKey) and key.key_size >= _LEAST_EC_BITS)
    ):
        raise Unacceptable("its key is too weak, or neither RSA nor EC")
    if not csr.is_signature_valid:
        raise Unacceptable("its signature is bad: whoever sent it does not hold the key")
    subject = list(csr.subject)
    if len(subject) != 1 or subject[0].oid != NameOID.COMMON_NAME:
        raise Unacceptable("its subject is more or less than a common name")
    digest = hashes.Hash(hashes.SHA256())
    digest.update(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    return Request(str(subject[0].value), _challenge(csr), _extensions(csr), digest.finalize().hex())


def _challenge(csr: x509.CertificateSigningRequest) -> bytes:
    found: dict[str, bytes] = {}
    for each in csr.attributes:
        oid = each.oid.dotted_string
        if oid in found or oid not in {_CHALLENGE, _EXTENSION_REQUEST, _AUTO_RENEW}:
            raise Unacceptable(f"it has an attribute that nobody asked for, {oid}")
        found[oid] = each.value
    if found.get(_AUTO_RENEW, b"true") != b"true":
        raise Unacceptable("it asks for a renewal of another kind")
    if _CHALLENGE not in found:
        raise Unacceptable("it has no challenge password")
    return found[_CHALLENGE]


def _extensions(csr: x509.CertificateSigningRequest) -> dict[str, bytes]:
    found = {}
    for each in csr.extensions:
        oid = each.oid.dotted_string
        if each.critical or not isinstance(each.value, x509.UnrecognizedExtension):
            raise Unacceptable(f"it asks for an extension that nobody may ask for, {oid}")
        found[oid] = each.value.value
    return found


def refusal(request: Request, certname: str, challenge: str, extensions: Mapping[str, str]) -> str:
    """Why this is not the request of the machine of this name, this challenge and these extensions; "" if it is."""
    if request.certname != certname:
        return f"it is for {request.certname[:80]!r}, not for {certname}"
    if set(request.extensions) != set(extensions):
        odd = sorted(set(request.extensions) ^ set(extensions))
        return f"it does not ask for exactly the extensions that were sealed: {', '.join(odd)[:200]}"
    for oid, text in extensions.items():
        if request.extensions[oid] != utf8_string(text):
            return f"the extension {oid} is not the one that was sealed"
    if not hmac.compare_digest(request.challenge, challenge.encode()):
        return "its challenge password is not the one of this build's handoff"
    return ""


def utf8_string(text: str) -> bytes:
    """A UTF8String in DER (X.690), as Puppet encodes the value of an extension; up to 127 bytes."""
    content = text.encode()
    if len(content) > _LONGEST_SHORT_FORM:
        raise ValueError(f"{text[:40]!r} is longer than {_LONGEST_SHORT_FORM} bytes")
    return bytes((0x0C, len(content))) + content
