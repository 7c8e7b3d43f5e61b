"""Certificate requests as Puppet agents make them, and as those do who want to be one."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AttributeOID, NameOID

PP_ROLE, PP_IMAGE_NAME = "1.3.6.1.4.1.34380.1.1.13", "1.3.6.1.4.1.34380.1.1.3"
AUTO_RENEW = x509.ObjectIdentifier("1.3.6.1.4.1.34380.1.3.2")
CERTNAME, CHALLENGE = "web01.example.com", "Zr4u7x_pretend-challenge-of-this-build"
SEALED = {PP_ROLE: "web", PP_IMAGE_NAME: "rocky9"}


@cache
def key(number: int = 0, kind: str = "rsa") -> Any:
    """A private key; the same number is the same key."""
    if kind == "ec":
        return ec.generate_private_key(ec.SECP256R1())
    return rsa.generate_private_key(public_exponent=65537, key_size=1024 if kind == "weak" else 2048)


def request(
    certname: str = CERTNAME,
    challenge: str | None = CHALLENGE,
    extensions: Mapping[str, str] = SEALED,
    *,
    names: tuple[str, ...] = (),
    known: tuple[tuple[x509.ExtensionType, bool], ...] = (),
    attributes: Mapping[x509.ObjectIdentifier, bytes] | None = None,
    subject: x509.Name | None = None,
    signer: Any = None,
    critical: bool = False,
) -> str:
    """PEM; all else than the defaults is something that an agent with our settings would not send."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, certname)]) if subject is None else subject
    )
    for oid, text in extensions.items():
        value = b"\x0c" + bytes([len(text.encode())]) + text.encode()
        builder = builder.add_extension(x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value), critical)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), False)
    for extension, is_critical in known:
        builder = builder.add_extension(extension, is_critical)
    if challenge is not None:
        builder = builder.add_attribute(AttributeOID.CHALLENGE_PASSWORD, challenge.encode())
    for attribute, content in (attributes or {}).items():
        builder = builder.add_attribute(attribute, content)
    return builder.sign(signer or key(), hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def hostile() -> dict[str, str]:
    """Requests that are right but for one thing, by that thing."""
    common = x509.NameAttribute(NameOID.COMMON_NAME, CERTNAME)
    damaged = request().split("\n")
    damaged[-5] = damaged[-5][:10] + ("A" if damaged[-5][10] != "A" else "B") + damaged[-5][11:]
    return {
        "another challenge": request(challenge=CHALLENGE[:-1] + "x"),
        "a longer challenge": request(challenge=CHALLENGE + "x"),
        "an empty challenge": request(challenge=""),
        "no challenge": request(challenge=None),
        "another name": request("web02.example.com"),
        "a name that begins so": request(CERTNAME + ".evil"),
        "the name in capitals": request(CERTNAME.upper()),
        "an alternative name": request(names=("puppet.example.com",)),
        "its own alternative name": request(names=(CERTNAME,)),
        "another role": request(extensions=SEALED | {PP_ROLE: "db"}),
        "no role": request(extensions={PP_IMAGE_NAME: "rocky9"}),
        "no extensions": request(extensions={}),
        "one extension more": request(extensions=SEALED | {"1.3.6.1.4.1.34380.1.1.12": "production"}),
        "the right to authorise": request(extensions=SEALED | {"1.3.6.1.4.1.34380.1.3.1": "true"}),
        "the right of the CA's own tool": request(extensions=SEALED | {"1.3.6.1.4.1.34380.1.3.39": "true"}),
        "a critical extension": request(critical=True),
        "an authority": request(known=((x509.BasicConstraints(ca=True, path_length=None), True),)),
        "server usage": request(known=((x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.SERVER_AUTH]), False),)),
        "an attribute more": request(attributes={x509.ObjectIdentifier("1.2.3.4"): b"x"}),
        "another kind of renewal": request(attributes={AUTO_RENEW: b"false"}),
        "two common names": request(subject=x509.Name([common, x509.NameAttribute(NameOID.COMMON_NAME, "puppet")])),
        "an organisation too": request(subject=x509.Name([common, x509.NameAttribute(NameOID.ORGANIZATION_NAME, "x")])),
        "no subject": request(subject=x509.Name([])),
        "a weak key": request(signer=key(1, "weak")),
        "a bad signature": "\n".join(damaged),
        "two requests": request() + request("web02.example.com"),
        "text before it": "x\n" + request(),
        "nothing": "",
        "no PEM": "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
        "a certificate's header": request().replace("CERTIFICATE REQUEST", "CERTIFICATE"),
        "too long": request() + " " * 40_000,
    }
