"""Hashes of passwords that other systems made: which are taken, and what it costs to compare a password with one.

crypt(5) has the formats. Each can be verified at the first login, and is then replaced by argon2id.
"""

import re

from provisioner.errors import InvalidInput

_HINT = "leave the hash out and set a password: `provisioner user password NAME`"
_ARGON2 = re.compile(
    r"(\$argon2(?:id|i|d)\$v=19\$m=(\d{1,6}),t=(\d{1,2}),p=(\d{1,2})\$)[A-Za-z0-9+/]{11,86}\$[A-Za-z0-9+/]{22,86}"
)
_BCRYPT = re.compile(r"(\$2[aby]\$(\d\d)\$)[./0-9A-Za-z]{53}")
_SHA2 = re.compile(
    r"(\$6\$(?:rounds=(\d{4,7})\$)?)[./0-9A-Za-z]{1,16}\$[./0-9A-Za-z]{86}"
    r"|(\$5\$(?:rounds=(\d{4,7})\$)?)[./0-9A-Za-z]{1,16}\$[./0-9A-Za-z]{43}"
)
_YESCRYPT = re.compile(r"(\$y\$j([5-9A-C])T\$)[./0-9A-Za-z]{16,86}\$[./0-9A-Za-z]{43}")
# An import must not make each login take minutes, or a gigabyte.
_MOST_MEMORY, _MOST_PASSES, _MOST_LANES = 256 << 10, 16, 16
_BCRYPT_COSTS = range(8, 15)
_ROUNDS = range(5_000, 1_000_001)
_LONGEST = 255
_NOT_TAKEN = (
    (r"\$1\$|\$apr1\$|\$md5", "MD5 crypt is broken: a computer at home tries millions of passwords a second"),
    (r"[./0-9A-Za-z]{13}$|_[./0-9A-Za-z]{19}$", "DES crypt is broken: it looks at eight characters alone"),
    (r"\$3\$|[0-9a-fA-F]{32}$|\{(MD5|SMD5|SHA|SSHA)", "it is a plain digest, made to be fast, for guessers too"),
    (r"[0-9a-fA-F]{40}$|[0-9a-fA-F]{64}$|[0-9a-fA-F]{128}$", "it is a plain digest, made to be fast, for guessers too"),
    (r"[!*]|x$", "that is the mark of an account without a password"),
    (r"\$2[bayx]?\$0[4-7]\$", "bcrypt with so little work is quickly guessed"),
    (r"\$2x?\$", "this kind of bcrypt hash was made with a mistake"),
    (r"\$[56]\$rounds=[0-4]?\d{1,3}\$", "SHA crypt with so few rounds is quickly guessed"),
    (r"\$2[aby]\$|\$[56]\$|\$y\$|\$argon2", "it is not whole, or to verify it would take too much time or memory"),
)


def imported(value: object) -> str:
    """The hash, if a password can be verified against it, and it is worth keeping until the first login.

    Raises InvalidInput with the reason, never with the hash.
    """
    text = value.strip() if isinstance(value, str) else ""
    if len(text) <= _LONGEST and work(text) is not None:
        return text
    why = next((why for pattern, why in _NOT_TAKEN if re.match(pattern, text)), "")
    if not why:
        why = "it is none that is known here: argon2, bcrypt ($2b$), SHA crypt ($6$, $5$) and yescrypt ($y$) are"
    raise InvalidInput(f"this hash is not taken: {why}", where="password_hash", hint=_HINT)


def work(stored: str) -> str | None:
    """Kind and cost of a hash, as it begins: two with the same take the same time to verify. None for what is no hash
    that is taken.
    """
    found = _ARGON2.fullmatch(stored)
    if found:
        costs = zip(map(int, found.groups()[1:]), (_MOST_MEMORY, _MOST_PASSES, _MOST_LANES), strict=True)
        return found[1] if all(0 < cost <= most for cost, most in costs) else None
    found = _BCRYPT.fullmatch(stored)
    if found:
        return f"$2b${found[2]}$" if int(found[2]) in _BCRYPT_COSTS else None
    found = _SHA2.fullmatch(stored)
    if found:
        return (found[1] or found[3]) if int(found[2] or found[4] or _ROUNDS.start) in _ROUNDS else None
    found = _YESCRYPT.fullmatch(stored)
    return found[1] if found else None


def is_argon2(begins: str) -> bool:
    """Whether a kind, as :func:`work` has it, is argon2; the others are crypt(3)'s."""
    return begins.startswith("$argon2")
