"""crypt(3) of this host's C library: hashes of passwords as `/etc/shadow` and other programs have them.

Python's own module for it ends with Python 3.13.
"""

import ctypes
import hmac
import secrets
from functools import cache

# libxcrypt's structure has 32 KiB, the one of old C libraries 128.
_STRUCTURE = 1 << 18
_NAMES = ("libcrypt.so.1", "libcrypt.so.2", "libc.musl-x86_64.so.1", "libc.musl-aarch64.so.1")
_ALPHABET = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SALTS = {"$2": 21, "$y": 22}


def verifies(stored: str, password: str) -> bool:
    """Whether it is the password of the hash."""
    # C's text ends at a NUL.
    made = _crypt(password.replace("\0", ""), stored)
    return made is not None and "\0" not in password and hmac.compare_digest(made.encode(), stored.encode())


def can(begins: str) -> bool:
    """Whether this host's library knows hashes that begin so (kind and cost)."""
    made = _crypt("", begins + _salt(begins))
    return made is not None and made.startswith(begins)


def spend(begins: str, password: str) -> None:
    """Do the work of comparing the password with such a hash, for nothing."""
    _crypt(password.replace("\0", ""), begins + _salt(begins))


def _salt(begins: str) -> str:
    count = _SALTS.get(begins[:2], 16)
    text = "".join(secrets.choice(_ALPHABET) for _ in range(count))
    # The last character of a salt of 128 bits has bits that must be zero.
    return {"$2": text + "u", "$y": text[:-1] + "."}.get(begins[:2], text)


@cache
def _library() -> ctypes.CDLL | None:
    for name in _NAMES:
        try:
            library = ctypes.CDLL(name)
            library.crypt_r.restype = ctypes.c_char_p
            library.crypt_r.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)
        except (OSError, AttributeError):
            continue
        return library
    return None


def _crypt(password: str, setting: str) -> str | None:
    library = _library()
    if library is None:
        return None
    structure = ctypes.create_string_buffer(_STRUCTURE)
    made = library.crypt_r(password.encode(), setting.encode(), structure)
    # A mistake is told by a text that is no hash (crypt(3), "RETURN VALUE").
    return None if made is None or made.startswith(b"*") else str(made.decode())
