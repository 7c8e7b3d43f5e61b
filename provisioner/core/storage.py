"""The disks of a new system: which to take, and how to divide them. Plain data in, plain data out."""

import re
from collections.abc import Mapping
from typing import Any

from provisioner.errors import InvalidInput

Data = Mapping[str, Any]
PARTITIONINGS = ("plain", "lvm")
DISK_KINDS = ("ssd", "hdd", "nvme")
TAKES = ("smallest", "largest")
MIB = 1 << 20
LEAST_DISK = 8 << 30
_LARGEST = 1 << 60
_UNITS = {"": 1, "K": 1 << 10, "M": MIB, "G": 1 << 30, "T": 1 << 40}
_SIZE = re.compile(r"([0-9]{1,19})\s*(?:([KMGT])(?:I?B)?|B)?")
_KEYS = frozenset({"path", "serial", "model", "kind", "at_least", "at_most", "take"})
# What may stand in a path below /dev, in a serial number or a model: no quotes, no wildcards.
_PATH = re.compile(r"/dev/[A-Za-z0-9._:/@+=,-]{1,200}")
_WORDS = re.compile(r"[A-Za-z0-9._:/@+=, -]{1,100}")
_SHORT = {f"{take}-{kind}": {"take": take, "kind": kind} for take in TAKES for kind in DISK_KINDS}
_WHERE = "parameters.disk"


def layout(parameters: Data) -> dict[str, Any]:
    """How to choose the disk, or the two disks, and what to make of them.

    ``parameters`` gives ``disk``, ``partitioning`` (``plain`` or ``lvm``), ``raid1`` (true: two disks as a mirror),
    ``encrypt`` (true: LUKS, with the secret ``disk_passphrase``), ``var_size`` (a separate /var of this size) and
    ``swap_size``; sizes are texts such as ``20G``, empty for none.

    The answer has ``disk`` (see `selector`), ``count`` of disks, ``partitioning``, ``raid1``, ``encrypt``, and
    ``var_mib`` and ``swap_mib`` (0 for none). Raises InvalidInput that names the parameter.
    """
    partitioning = parameters.get("partitioning", "lvm")
    if partitioning not in PARTITIONINGS:
        raise InvalidInput(
            f"{str(partitioning)[:40]!r} is not a way of partitioning",
            where="parameters.partitioning",
            hint=f"choose one of {', '.join(PARTITIONINGS)}",
        )
    flags = {key: _flag(parameters, key) for key in ("raid1", "encrypt")}
    disk = selector(parameters.get("disk", "auto"))
    if flags["raid1"] and ((disk["paths"] and len(disk["paths"]) != 2) or disk["serial"]):
        raise InvalidInput(
            "raid1 needs two disks", where=_WHERE, hint="disk: [/dev/disk/by-path/A, /dev/disk/by-path/B]"
        )
    if not flags["raid1"] and len(disk["paths"]) > 1:
        raise InvalidInput("two disks, but raid1 is not true", where=_WHERE, hint="name one, or set raid1: true")
    sizes = {f"{key}_mib": _mib(parameters, f"{key}_size") for key in ("var", "swap")}
    return {"disk": disk, "count": 2 if flags["raid1"] else 1, "partitioning": partitioning} | flags | sizes


def selector(value: Any) -> dict[str, Any]:
    """The rule by which a disk is taken, from what the parameter ``disk`` says.

    A text is ``auto`` (the smallest fixed disk of at least 8 GiB), ``smallest-ssd``, ``largest-hdd`` and the like, or
    a path below /dev; a list is two paths; a mapping has ``path``, ``serial``, ``model`` (part of it), ``kind``
    (``ssd``, ``hdd``, ``nvme``), ``at_least`` and ``at_most`` (sizes), and ``take`` (``smallest``, the default, or
    ``largest``, of those that fit).

    The answer has ``paths`` (a list, mostly empty), ``serial``, ``model``, ``kind`` (empty texts for any),
    ``at_least`` and ``at_most`` in bytes (``at_most`` 0 for no limit), ``take``, and ``said``, the rule in words.
    """
    if isinstance(value, list | tuple):
        paths = [_path(each) for each in value]
        if not paths or len(set(paths)) != len(paths):
            raise InvalidInput(
                "a list names two different disks",
                where=_WHERE,
                hint="disk: [/dev/disk/by-path/A, /dev/disk/by-path/B]",
            )
        return _rule({}, paths)
    if isinstance(value, str):
        if value.startswith("/"):
            return _rule({}, [_path(value)])
        if value != "auto" and value not in _SHORT:
            raise InvalidInput(
                f"{value[:80]!r} is not a way to choose a disk",
                where=_WHERE,
                hint=f"auto, {', '.join(_SHORT)}, a path such as /dev/disk/by-path/..., or a mapping",
            )
        return _rule(_SHORT.get(value, {}), [])
    if not isinstance(value, Mapping) or set(value) - _KEYS:
        raise InvalidInput(
            f"{str(value)[:80]!r} does not choose a disk", where=_WHERE, hint=f"keys: {', '.join(sorted(_KEYS))}"
        )
    if "path" in value and len(value) > 1:
        raise InvalidInput("a path names the disk already", where=_WHERE, hint="leave the other keys out, or the path")
    return _rule(value, [_path(value["path"])] if "path" in value else [])


def _rule(given: Data, paths: list[str]) -> dict[str, Any]:
    rule: dict[str, Any] = {
        "paths": paths,
        "serial": _words(given, "serial"),
        "model": _words(given, "model"),
        "kind": _choice(given, "kind", ("", *DISK_KINDS), ""),
        "at_least": size(given.get("at_least", LEAST_DISK), f"{_WHERE}.at_least"),
        "at_most": size(given.get("at_most", 0), f"{_WHERE}.at_most"),
        "take": _choice(given, "take", TAKES, TAKES[0]),
    }
    if rule["at_most"] and rule["at_most"] < rule["at_least"]:
        raise InvalidInput(
            f"no disk has at least {rule['at_least'] // MIB} MiB and at most {rule['at_most'] // MIB} MiB",
            where=_WHERE,
            hint="unless said, at_least is 8G: set both",
        )
    return rule | {"said": _said(rule)}


def _said(rule: Data) -> str:
    extra = "".join(f", {key} {rule[key]}" for key in ("serial", "model") if rule[key])
    if rule["paths"]:
        return " and ".join(rule["paths"]) + extra
    bounds = f" of at least {rule['at_least'] // MIB} MiB"
    if rule["at_most"]:
        bounds += f" and at most {rule['at_most'] // MIB} MiB"
    return f"the {rule['take']} fixed {rule['kind'].upper() if rule['kind'] else 'disk'}{bounds}{extra}"


def size(value: Any, where: str) -> int:
    """Bytes from a number of them or a text such as ``20G``. Raises InvalidInput."""
    if type(value) is int and 0 <= value < _LARGEST:
        return value
    found = _SIZE.fullmatch(value.strip().upper()) if isinstance(value, str) else None
    number = int(found[1]) * _UNITS[found[2] or ""] if found else _LARGEST
    if number >= _LARGEST:
        raise InvalidInput(f"{str(value)[:40]!r} is not a size", where=where, hint="write 20G, 512M or 1T")
    return number


def _mib(parameters: Data, key: str) -> int:
    number = size(parameters.get(key) or 0, f"parameters.{key}")
    if 0 < number < MIB:
        raise InvalidInput(
            f"{number} bytes are too few", where=f"parameters.{key}", hint="write 20G or 512M; '' is none"
        )
    return number // MIB


def _flag(parameters: Data, key: str) -> bool:
    value = parameters.get(key, False)
    if not isinstance(value, bool):
        raise InvalidInput(f"{key} is true or false", where=f"parameters.{key}")
    return value


def _path(value: Any) -> str:
    if not isinstance(value, str) or not _PATH.fullmatch(value) or "/../" in f"{value}/":
        raise InvalidInput(
            f"{str(value)[:80]!r} is not a path of a disk", where=_WHERE, hint="/dev/sda, /dev/disk/by-path/..."
        )
    return value


def _words(given: Data, key: str) -> str:
    # An empty text would fit every disk, and is what is left when somebody forgot to fill one in.
    value = given.get(key, "")
    if key in given and (not isinstance(value, str) or not _WORDS.fullmatch(value) or not value.strip()):
        hint = "write it in quotes" if not isinstance(value, str) else "leave it out, or write it as the disk says it"
        raise InvalidInput(f"{str(value)[:80]!r} cannot be a disk's {key}", where=f"{_WHERE}.{key}", hint=hint)
    return str(value)


def _choice(given: Data, key: str, choices: tuple[str, ...], default: str) -> str:
    value = given.get(key, default)
    if value not in choices or (key in given and not value):
        words = ", ".join(choice for choice in choices if choice)
        raise InvalidInput(f"{str(value)[:40]!r} is not a {key}", where=f"{_WHERE}.{key}", hint=f"one of {words}")
    return str(value)
