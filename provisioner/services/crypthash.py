"""Passwords of machines, kept as what `/etc/shadow` takes."""

import re

from passlib.hash import sha512_crypt

from provisioner.errors import InvalidInput

# crypt(5): SHA-512, SHA-256, bcrypt, yescrypt.
_CRYPT = re.compile(
    r"\$6\$(rounds=\d+\$)?[./0-9A-Za-z]{1,16}\$[./0-9A-Za-z]{86}"
    r"|\$5\$(rounds=\d+\$)?[./0-9A-Za-z]{1,16}\$[./0-9A-Za-z]{43}"
    r"|\$2[aby]\$\d\d\$[./0-9A-Za-z]{53}"
    r"|\$y\$[./0-9A-Za-z]+\$[./0-9A-Za-z]{1,86}\$[./0-9A-Za-z]{43}"
)


def hashed(secret: str, value: str) -> str:
    """The value as it is stored: ``root_password`` as a crypt hash, with a salt of its own. Raises InvalidInput."""
    if secret != "root_password":  # noqa: S105 - a name, not a password
        return value
    if value.startswith("$"):
        if not _CRYPT.fullmatch(value):
            raise InvalidInput(
                "this is no crypt hash, or one of a kind that is too weak",
                where=secret,
                hint="use SHA-512 crypt ($6$) or yescrypt ($y$), for example from `mkpasswd`; or give the password",
            )
        return value
    return str(sha512_crypt.hash(value))
