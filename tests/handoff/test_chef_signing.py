"""Chef's request signing, against the published test vectors.

The vectors are data of mixlib-authentication's own tests (Chef Software, Apache-2.0):
https://github.com/chef/mixlib-authentication, spec/mixlib/authentication/mixlib_authentication_spec.rb. Its public key
is enough: PKCS #1 v1.5 is deterministic, so a text under which the published signature verifies is the text that gets
this signature from the private key, byte for byte.
"""

import base64
from datetime import UTC, datetime, timedelta, timezone

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_public_key,
)
from hypothesis import given
from hypothesis import strategies as st

from provisioner.errors import CredentialMissing
from provisioner.handoff.chef_signing import (
    Requester,
    canonical_path,
    content_hash,
    requester,
    signature_headers,
    signed_headers,
    text_to_sign,
)
from tests.handoff.chef_server import pem_of, verify

PUBLIC_KEY = b"""-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA0ueqo76MXuP6XqZBILFz
iH/9AI7C6PaN5W0dSvkr9yInyGHSz/IR1+4tqvP2qlfKVKI4CP6BFH251Ft9qMUB
uAsnlAVQ1z0exDtIFFOyQCdR7iXmjBIWMSS4buBwRQXwDK7id1OxtU23qVJv+xwE
V0IzaaSJmaGLIbvRBD+qatfUuQJBMU/04DdJIwvLtZBYdC2219m5dUBQaa4bimL+
YN9EcsDzD9h9UxQo5ReK7b3cNMzJBKJWLzFBcJuePMzAnLFktr/RufX4wpXe6XJx
oVPaHo72GorLkwnQ0HYMTY8rehT4mDi1FI969LHCFFaFHSAaRnwdXaQkJmSfcxzC
YQIDAQAB
-----END PUBLIC KEY-----
"""
USER, BODY, PATH, WHEN = "spec-user", b"Spec Body", "/organizations/clownco", "2009-01-01T12:00:00Z"
SHA1_OF_BODY = "DFteJZPVv6WKdQmMqZUQUumUyRs="
SHA256_OF_BODY = "hDlKNZhIhgso3Fs0S0pZwJ0xyBWtR1RBaeHs1DrzOho="
LINES = {
    "1.0": [
        "jVHrNniWzpbez/eGWjFnO6lINRIuKOg40ZTIQudcFe47Z9e/HvrszfVXlKG4",
        "NMzYZgyooSvU85qkIUmKuCqgG2AIlvYa2Q/2ctrMhoaHhLOCWWoqYNMaEqPc",
        "3tKHE+CfvP+WuPdWk4jv4wpIkAz6ZLxToxcGhXmZbXpk56YTmqgBW2cbbw4O",
        "IWPZDHSiPcw//AYNgW1CCDptt+UFuaFYbtqZegcBd2n/jzcWODA7zL4KWEUy",
        "9q4rlh/+1tBReg60QdsmDRsw/cdO1GZrKtuCwbuD4+nbRdVBKv72rqHX9cu0",
        "utju9jzczCyB+sSAQWrxSsXB/b8vV2qs0l4VD2ML+w==",
    ],
    "1.1": [
        "UfZD9dRz6rFu6LbP5Mo1oNHcWYxpNIcUfFCffJS1FQa0GtfU/vkt3/O5HuCM",
        "1wIFl/U0f5faH9EWpXWY5NwKR031Myxcabw4t4ZLO69CIh/3qx1XnjcZvt2w",
        "c2R9bx/43IWA/r8w8Q6decuu0f6ZlNheJeJhaYPI8piX/aH+uHBH8zTACZu8",
        "vMnl5MF3/OIlsZc8cemq6eKYstp8a8KYq9OmkB5IXIX6qVMJHA6fRvQEB/7j",
        "281Q7oI/O+lE8AmVyBbwruPb7Mp6s4839eYiOdjbDwFjYtbS3XgAjrHlaD7W",
        "FDlbAG7H8Dmvo+wBxmtNkszhzbBnEYtuwQqT8nM/8A==",
    ],
    "1.3": [
        "FZOmXAyOBAZQV/uw188iBljBJXOm+m8xQ/8KTGLkgGwZNcRFxk1m953XjE3W",
        "VGy1dFT76KeaNWmPCNtDmprfH2na5UZFtfLIKrPv7xm80V+lzEzTd9WBwsfP",
        "42dZ9N+V9I5SVfcL/lWrrlpdybfceJC5jOcP5tzfJXWUITwb6Z3Erg3DU3Uh",
        "H9h9E0qWlYGqmiNCVrBnpe6Si1gU/Jl+rXlRSNbLJ4GlArAPuL976iTYJTzE",
        "MmbLUIm3JRYi00Yb01IUCCKdI90vUq1HHNtlTEu93YZfQaJwRxXlGkCNwIJe",
        "fy49QzaCIEu1XiOx5Jn+4GmkrZch/RrK9VzQWXgs+w==",
    ],
}
KEY = rsa.generate_private_key(65537, 2048)


def public_key() -> RSAPublicKey:
    found = load_pem_public_key(PUBLIC_KEY)
    assert isinstance(found, RSAPublicKey)
    return found


def vector(version: str) -> dict[str, str]:
    """The headers of a published request."""
    algorithm = "sha256" if version == "1.3" else "sha1"
    return {
        "x-ops-sign": f"algorithm={algorithm};version={version};",
        "x-ops-userid": USER,
        "x-ops-timestamp": WHEN,
        "x-ops-content-hash": SHA256_OF_BODY if version == "1.3" else SHA1_OF_BODY,
        "x-ops-server-api-version": "1",
        **{f"x-ops-authorization-{number}": line for number, line in enumerate(LINES[version], 1)},
    }


def test_the_published_signature_of_protocol_1_3_is_the_one_of_our_text() -> None:
    text = text_to_sign("post", PATH, BODY, USER, WHEN)
    assert text.splitlines() == [
        "Method:POST",
        "Path:/organizations/clownco",
        f"X-Ops-Content-Hash:{SHA256_OF_BODY}",
        "X-Ops-Sign:version=1.3",
        "X-Ops-Timestamp:2009-01-01T12:00:00Z",
        "X-Ops-UserId:spec-user",
        "X-Ops-Server-API-Version:1",
    ]
    signature = base64.b64decode("".join(LINES["1.3"]))
    public_key().verify(signature, text.encode(), PKCS1v15(), SHA256())
    with pytest.raises(InvalidSignature):
        public_key().verify(signature, text.replace("POST", "PUT").encode(), PKCS1v15(), SHA256())
    assert content_hash(BODY) == SHA256_OF_BODY


def test_a_signature_stands_in_the_headers_of_the_published_ones() -> None:
    assert signature_headers(base64.b64decode("".join(LINES["1.3"]))) == {
        f"X-Ops-Authorization-{number}": line for number, line in enumerate(LINES["1.3"], 1)
    }


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.3"])
def test_the_stand_in_server_verifies_the_published_requests_and_nothing_else(version: str) -> None:
    """What our own requests are held to elsewhere is itself held to the vectors."""
    headers = vector(version)
    assert verify(public_key(), "POST", PATH, BODY, headers)
    assert verify(public_key(), "POST", f"/{PATH}//", BODY, headers)
    assert not verify(public_key(), "PUT", PATH, BODY, headers)
    assert not verify(public_key(), "POST", f"{PATH}/x", BODY, headers)
    assert not verify(public_key(), "POST", PATH, b"another", headers)
    assert not verify(public_key(), "POST", PATH, BODY, headers | {"x-ops-userid": "other"})
    assert not verify(public_key(), "POST", PATH, BODY, headers | {"x-ops-timestamp": "2009-01-01T12:00:01Z"})
    assert not verify(KEY.public_key(), "POST", PATH, BODY, headers)


@given(
    st.sampled_from(["GET", "POST", "PUT", "DELETE"]),
    st.lists(st.from_regex(r"[A-Za-z0-9._-]{1,30}", fullmatch=True), min_size=1, max_size=5),
    st.binary(max_size=300),
    st.from_regex(r"[a-z0-9_-]{1,80}", fullmatch=True),
)
def test_every_request_of_ours_verifies(method: str, parts: list[str], body: bytes, user: str) -> None:
    path = "/" + "/".join(parts)
    headers = signed_headers(Requester(user, KEY), method, path, body)
    sent = {name.lower(): value for name, value in headers.items()}
    assert verify(KEY.public_key(), method, path, body, sent)
    assert not verify(KEY.public_key(), method, f"{path}x", body, sent)
    assert not verify(KEY.public_key(), method, path, body + b"x", sent)
    assert max(len(value) for name, value in headers.items() if "Authorization" in name) <= 60


def test_the_time_is_utc_whatever_the_clock_says() -> None:
    at = datetime(2026, 1, 31, 13, 0, 0, 999_999, tzinfo=timezone(timedelta(hours=1)))
    assert signed_headers(Requester("u", KEY), "GET", "/", at=at)["X-Ops-Timestamp"] == "2026-01-31T12:00:00Z"
    now = datetime.strptime(
        signed_headers(Requester("u", KEY), "GET", "/")["X-Ops-Timestamp"], "%Y-%m-%dT%H:%M:%SZ"
    ).replace(tzinfo=UTC)
    assert abs(datetime.now(UTC) - now) < timedelta(minutes=5)


@pytest.mark.parametrize(
    ("path", "signed"), [("/", "/"), ("//", "/"), ("/a/b", "/a/b"), ("/a//b///", "/a/b"), ("/a/b/", "/a/b")]
)
def test_paths_are_signed_without_repeated_or_last_slashes(path: str, signed: str) -> None:
    assert canonical_path(path) == signed


@pytest.mark.parametrize("kind", ["nothing", "text", "public", "elliptic", "encrypted"])
def test_what_is_no_rsa_key_is_refused_with_a_remedy_and_without_the_key(kind: str) -> None:
    encrypted = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")).decode()
    curve = ec.generate_private_key(ec.SECP256R1())
    elliptic = curve.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    given_text = {
        "nothing": "",
        "text": "not a key",
        "public": PUBLIC_KEY.decode(),
        "elliptic": elliptic,
        "encrypted": encrypted,
    }[kind]
    with pytest.raises(CredentialMissing) as caught:
        requester("admin", given_text, "/credentials/chef-admin.pem")
    assert caught.value.where == "/credentials/chef-admin.pem"
    assert "RSA" in str(caught.value) and "add-user-key" in caught.value.hint
    for line in given_text.splitlines()[1:]:
        assert line not in str(caught.value)


def test_no_text_of_a_requester_tells_its_key() -> None:
    who = requester("admin", pem_of(KEY), "x")
    assert str(KEY.private_numbers().d) not in repr(who) and "RSAPrivateKey" not in repr(who)
