"""Where in structured input an error is: a JSON pointer (RFC 6901) for programs, words for people."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from provisioner.errors import ProvisionerError

_FIELDS = """
body cidr description dhcp dns domain gateway interfaces inventory kernel_options local_boot boot_url mac machines
media_url name parameters profile protected ranges ready retired serial subnet tags uuid
"""
_POINTER = re.compile(r"/(" + "|".join(_FIELDS.split()) + r")((?:/[A-Za-z0-9_.-]+)*)")
_SINGULAR = {"interfaces": "interface", "ranges": "range", "tags": "tag", "machines": "machine"}


@contextmanager
def at(pointer: str) -> Iterator[None]:
    """Errors raised within are about this field: a pointer that is inside it stays, another one is put after it.

    Any other place is replaced.
    """
    try:
        yield
    except ProvisionerError as error:
        if not f"{error.where}/".startswith(f"{pointer}/"):
            error.where = pointer + error.where if _POINTER.fullmatch(error.where) else pointer
        raise


def spoken(where: str) -> str:
    """A place as people read it: ``interface 2 ip`` for ``/interfaces/1/ip``; anything but a pointer as it is."""
    found = _POINTER.fullmatch(where)
    if found is None:
        return where
    first, *rest = where[1:].split("/")
    words = [first]
    for part in rest:
        if part.isdigit():
            words[-1] = _SINGULAR.get(words[-1], words[-1])
            words.append(str(int(part) + 1))
        else:
            words.append(part)
    return " ".join(words)
