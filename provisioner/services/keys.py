"""The keys of an installation: files outside the database, 0600, each for one purpose."""

import hashlib
import os
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from provisioner.errors import KeyUnusable
from provisioner.services.files import replacing

_KEY_BYTES = 32
_KEY_ID_BYTES = 4
_NONCE_BYTES = 12


class Keys:
    """The key files in the state directory.

    ``token.key`` proves tokens: without it nothing that machines ask can be answered, so we refuse to start.
    ``master.key`` opens stored secrets: without it boots go on and secrets are unusable.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.token_key = _load(directory / "token.key")

    def seal(self, text: str, row: str) -> bytes:
        """The text encrypted for this row alone (AES-256-GCM): id of the key, nonce, ciphertext."""
        key = _load(self.directory / "master.key")
        nonce = os.urandom(_NONCE_BYTES)
        return _key_id(key) + nonce + AESGCM(key).encrypt(nonce, text.encode(), row.encode())

    def open(self, ciphertext: bytes, row: str) -> str:
        """The text that was sealed for this row. Raises KeyUnusable for another key, another row or damage."""
        key = _load(self.directory / "master.key")
        if ciphertext[:_KEY_ID_BYTES] != _key_id(key):
            raise KeyUnusable("the secret was sealed with another master key")
        nonce, body = ciphertext[_KEY_ID_BYTES:][:_NONCE_BYTES], ciphertext[_KEY_ID_BYTES + _NONCE_BYTES :]
        try:
            return AESGCM(key).decrypt(nonce, body, row.encode()).decode()
        except InvalidTag:
            raise KeyUnusable(f"the secret of {row} was moved or damaged in the database") from None


def create(directory: Path) -> None:
    """Make the keys that are missing; a key that exists is never replaced."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in ("token.key", "master.key"):
        if not (directory / name).exists():
            with replacing(directory / name) as file:
                file.write(secrets.token_bytes(_KEY_BYTES).hex().encode() + b"\n")


def _load(path: Path) -> bytes:
    try:
        text = path.read_text().strip()
        key = bytes.fromhex(text)
    except PermissionError as error:
        hint = "run this as the user who owns it, for example with sudo; only that user may work with this installation"
        raise KeyUnusable(f"the key {path} belongs to another user", hint=hint) from error
    except (OSError, ValueError) as error:
        raise KeyUnusable(f"the key {path} cannot be used: {error}") from error
    if len(key) != _KEY_BYTES:
        raise KeyUnusable(f"the key {path} is not {_KEY_BYTES} bytes in hex")
    return key


def _key_id(key: bytes) -> bytes:
    return hashlib.sha256(b"key id:" + key).digest()[:_KEY_ID_BYTES]
