"""RSA key pairs that are made for one machine alone."""

from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat


@dataclass(frozen=True)
class Pair:
    """PEM texts, without white space around them."""

    private: str
    public: str

    @property
    def both(self) -> str:
        """One text with both: what one secret carries."""
        return f"{self.private}\n{self.public}"


def pair(form: PublicFormat, bits: int = 2048) -> Pair:
    """A new key; the private one is ``RSA PRIVATE KEY`` (PKCS #1) without a passphrase."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    public = key.public_key().public_bytes(Encoding.PEM, form)
    return Pair(private.decode().strip(), public.decode().strip())
