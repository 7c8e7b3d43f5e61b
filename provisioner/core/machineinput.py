"""One machine as plain data from outside (an import, an inventory, the API), brought into normal form.

Keys left out stay left out, so that they change nothing; every error names its place as a JSON pointer.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from provisioner.core import fields
from provisioner.core.addresses import normal_ip, normal_mac
from provisioner.core.facts import SERIAL_CHARACTERS, serial_text, uuid_text
from provisioner.core.localboot import check_way
from provisioner.core.names import few, machine_name
from provisioner.core.parameters import check_kernel_options, merged_parameters
from provisioner.core.pointers import at
from provisioner.errors import InvalidInput, MalformedContent

NEXT = "next"
"""As an address: the next free one of its subnet."""
_TEXT = 128
_NAME = 64


def read(raw: Any) -> dict[str, Any]:
    """The machine in normal form. Raises an InvalidInput whose ``where`` is the pointer of the bad field."""
    if not isinstance(raw, Mapping):
        raise MalformedContent("a machine is not a mapping", hint='write it as {"name": ..., "interfaces": [...]}')
    unknown = [str(key) for key in raw if key not in READERS]
    if unknown:
        raise MalformedContent(
            f"a machine has no {few([each[:40] for each in unknown])}",
            where=pointer(unknown[0][:40]),
            hint=f"it has {', '.join(READERS)}",
        )
    wanted = {}
    for key, value in raw.items():
        with at(pointer(key)):
            wanted[key] = READERS[key](value, pointer(key))
    return {key: value for key, value in wanted.items() if value is not None or key not in _NOTHING_IS_LEFT_OUT}


def pointer(*parts: object) -> str:
    """A JSON pointer (RFC 6901) to these keys and positions."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def _parameters(value: Any, where: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise MalformedContent(f"{str(value)[:80]!r} is not a mapping", hint="write parameters as {name: value}")
    fields.refuse_deep(value, where)
    merged_parameters({}, value)  # each name and value is looked at
    fields.refuse_large(value, where)
    # As the store will give them back: a tuple would be a list then.
    plain: dict[str, Any] = json.loads(json.dumps(value))
    return plain


def _kernel_options(value: Any, where: str) -> list[str]:
    return check_kernel_options(fields.several(value or [], where, fields.MOST_OPTIONS), where)


def _interfaces(value: Any, where: str) -> list[dict[str, Any]]:
    nics = fields.several(value, where, fields.MOST_INTERFACES)
    if not nics:
        raise InvalidInput("a machine needs a MAC address", hint="give at least one interface, or leave the key out")
    wanted = [_interface(nic, pointer("interfaces", place)) for place, nic in enumerate(nics)]
    for what, key in (("MAC address", "mac"), ("address", "ip")):
        seen: set[str] = set()
        for place, nic in enumerate(wanted):
            each = nic.get(key)
            if each in seen:
                raise InvalidInput(
                    f"two interfaces have the same {what} {each}",
                    where=pointer("interfaces", place, key),
                    hint="give each its own",
                )
            if each is not None and each != NEXT:
                seen.add(each)
    return wanted


def _interface(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, Mapping) or set(value) - set(_NIC_READERS):
        raise MalformedContent(
            f"{str(value)[:80]!r} is not an interface", where=where, hint=f"it has {', '.join(_NIC_READERS)}"
        )
    nic = {}
    for key, each in value.items():
        with at(f"{where}/{key}"):
            nic[key] = _NIC_READERS[key](fields.text(each, f"{where}/{key}", _TEXT).strip())
    return nic


def _address(text: str) -> str | None:
    if text.lower() == NEXT:
        return NEXT
    return normal_ip(text) if text else None


def _way(value: Any, where: str) -> str | None:
    wanted = fields.text(value, where, 32)
    return check_way(wanted, where) if wanted else None


_NIC_READERS: Mapping[str, Callable[[str], str | None]] = {
    "mac": lambda text: normal_mac(text) if text else None,
    "ip": _address,
    "name": lambda text: fields.text(text, "", _NAME) or None,
    "subnet": lambda text: text or None,
}
_NOTHING_IS_LEFT_OUT = ("name", "protected", "retired")
READERS: Mapping[str, Callable[[Any, str], Any]] = {
    "name": lambda value, where: machine_name(fields.text(value, where)) if value is not None else None,
    "interfaces": _interfaces,
    "profile": lambda value, where: fields.text(value, where, 64).strip() or None,
    "description": fields.text,
    "parameters": _parameters,
    "kernel_options": _kernel_options,
    "tags": lambda value, where: fields.tags(value or [], where),
    "serial": lambda value, where: serial_text(fields.text(value, where, SERIAL_CHARACTERS)),
    "uuid": lambda value, where: uuid_text(fields.text(value, where, _TEXT)),
    "inventory": fields.inventory,
    "local_boot": _way,
    "protected": lambda value, where: None if value is None else fields.flag(value, where),
    "retired": lambda value, where: None if value is None else fields.flag(value, where),
}
"""What may be said of a machine."""
