"""What objects may be called."""

import re
from collections.abc import Sequence

from provisioner.core.addresses import looks_like_mac
from provisioner.errors import MalformedName

_HOST_LABEL = re.compile(r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")
_OBJECT = re.compile(r"^[a-z0-9][a-z0-9._-]{0,63}$")
_TAG = re.compile(r"^[a-z0-9][a-z0-9._:-]{0,63}$")
_PARAMETER = re.compile(r"^[a-z_][a-z0-9_]{0,63}$")
TEMPLATE_KINDS = ("kickstart", "preseed", "autoinstall", "autoyast", "esxi", "ignition", "ipxe", "grub", "script")
SNIPPETS = "snippets"
FEW = 5
"""So many names a message shows."""


def few(names: Sequence[str]) -> str:
    """The first ``FEW`` of the names, and whether there are more; who reads them reads at least one name further."""
    return ", ".join(names[:FEW]) + (" and more" if len(names) > FEW else "")


def machine_name(text: str) -> str:
    """A machine's name: a host name, perhaps with a domain, in lower case, that is not a MAC address."""
    name = text.strip().lower()
    if looks_like_mac(name):
        raise MalformedName(f"{text!r} is a MAC address, not a name", hint="give the machine a host name such as web01")
    if len(name) > 253 or not name or not all(_HOST_LABEL.fullmatch(label) for label in name.split(".")):
        raise MalformedName(
            f"{text[:80]!r} is not a host name",
            hint="use letters, digits and hyphens, at most 63 in a part; dots separate the domain",
        )
    return name


def object_name(text: str) -> str:
    """The name of a profile, subnet, distro or image."""
    if not _OBJECT.fullmatch(text):
        raise MalformedName(
            f"{text[:80]!r} is not a name", hint="use lower-case letters, digits, dots, hyphens; at most 64 characters"
        )
    return text


def template_name(text: str) -> str:
    """A template's name, ``KIND/NAME`` or ``snippets/NAME``, such as ``kickstart/el9.ks.j2``."""
    kind, slash, rest = text.partition("/")
    if not slash or not _OBJECT.fullmatch(rest) or kind not in (*TEMPLATE_KINDS, SNIPPETS):
        raise MalformedName(
            f"{text[:80]!r} is not a template's name",
            hint=f"write KIND/NAME, where KIND is one of {', '.join((*TEMPLATE_KINDS, SNIPPETS))}",
        )
    return text


def template_kind(name: str) -> str:
    """The kind of a template: the folder it is in; ``snippets`` for a snippet."""
    return name.partition("/")[0]


def parameter_name(text: str) -> str:
    """The name of a parameter, which templates write as ``parameters.NAME``."""
    if not _PARAMETER.fullmatch(text):
        raise MalformedName(
            f"{text[:80]!r} is not a parameter's name", hint="use lower-case letters, digits and underscores"
        )
    return text


def tag(text: str) -> str:
    """A tag of a machine, in lower case."""
    word = text.strip().lower()
    if not _TAG.fullmatch(word):
        raise MalformedName(
            f"{text[:80]!r} is not a tag",
            hint="use one word of letters, digits, dots, colons, hyphens and underscores; at most 64 characters",
        )
    return word
