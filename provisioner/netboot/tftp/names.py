"""File names as clients send them: made plain, or refused."""

import re
import unicodedata

MAX_NAME = 512
_MAC = re.compile(r"(?:[0-9A-Fa-f]{2}:){5}(?:[0-9A-Fa-f]{2}|(?:[0-9A-Fa-f]{2}:){14}[0-9A-Fa-f]{2})")


def plain_name(raw: bytes) -> str | None:
    """The name without leading, doubled and trailing slashes and ``.`` components; None when it must be refused.

    Firmware asks for ``/grub/grub.cfg`` and shim for ``/boot//grubx64.efi``, so slashes are forgiven. Refused are
    everything above 512 bytes or not UTF-8, control and invisible characters, characters that normalise to others
    (a fullwidth dot is a dot to somebody), backslashes, components of two or more dots, and colons, but for a
    component that is a MAC address: GRUB asks for ``grub/by-mac/52:54:00:12:34:56``.
    """
    if len(raw) > MAX_NAME:
        return None
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        return None
    if "\\" in text or not text.isprintable() or unicodedata.normalize("NFKC", text) != text:
        return None
    parts = [part for part in text.split("/") if part not in {"", "."}]
    if not parts or not all(map(_harmless, parts)):
        return None
    return "/".join(parts)


def _harmless(part: str) -> bool:
    if not part.strip(". "):
        return False
    return ":" not in part or _MAC.fullmatch(part) is not None
