"""What may be a password. Long is what counts (NIST SP 800-63B-4, 3.1.1.2): no rules about kinds of characters."""

import unicodedata

from provisioner.errors import InvalidInput

LEAST, MOST = 12, 1024
_HINT = "a few random words are good; leave the option out to have one made"


def presented(value: object) -> str | None:
    """What somebody typed, in normal form, or None when it cannot be anybody's password: no text, empty, or too long.

    Composed (NFC, RFC 8265, 4.2.2): keyboards send the same letter in several ways. The length is looked at first.
    """
    if not isinstance(value, str) or not 0 < len(value) <= MOST:
        return None
    try:
        value.encode()
    except UnicodeEncodeError:  # a lone surrogate, which JSON can hold
        return None
    return unicodedata.normalize("NFC", value)


def chosen(value: object, user: str) -> str:
    """A password that somebody chose for this user, in normal form. Raises InvalidInput, without the password."""
    password = presented(value)
    if password is None or len(password) < LEAST:
        raise InvalidInput(f"a password has {LEAST} to {MOST} characters", where="password", hint=_HINT)
    if user.casefold() in {password.casefold(), password.casefold()[::-1]}:
        raise InvalidInput("the password is the user's name", where="password", hint=_HINT)
    if len(set(password)) == 1:
        raise InvalidInput("the password is one character over and over", where="password", hint=_HINT)
    return password
