"""Curtin's storage actions, with Subiquity's extensions: each refers to what was made before it."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from provisioner.render.validate.programs import Finding
from provisioner.render.validate.yamlmarks import Marked, Path

LAYOUTS = ("lvm", "direct", "zfs", "hybrid")
_DISK, _BLOCK = frozenset({"disk"}), frozenset({"disk", "partition", "raid", "lvm_partition", "dm_crypt", "bcache"})
# type -> key -> the types that it may refer to
_REFERENCES: Mapping[str, Mapping[str, frozenset[str]]] = {
    "disk": {},
    "partition": {"device": _DISK | {"raid", "bcache"}},
    "format": {"volume": _BLOCK},
    "mount": {"device": frozenset({"format"})},
    "raid": {"devices": _BLOCK, "spare_devices": _BLOCK},
    "lvm_volgroup": {"devices": _BLOCK},
    "lvm_partition": {"volgroup": frozenset({"lvm_volgroup"})},
    "dm_crypt": {"volume": _BLOCK},
    "bcache": {"backing_device": _BLOCK, "cache_device": _BLOCK},
    "dasd": {},
    "nvme_controller": {},
    "zpool": {"vdevs": _BLOCK},
    "zfs": {"pool": frozenset({"zpool"})},
}
_NEEDED: Mapping[str, tuple[str, ...]] = {
    "partition": ("device",),
    "format": ("volume", "fstype"),
    "mount": ("device",),
    "raid": ("name", "raidlevel", "devices"),
    "lvm_volgroup": ("name", "devices"),
    "lvm_partition": ("name", "volgroup"),
    "dm_crypt": ("volume",),
}
_SIZE = re.compile(r"-1|\d+(\.\d+)?\s*([KMGTP]i?B?|B|%)?", re.IGNORECASE)
_CLEAR = "in clear in the answer file: use keyfile, written by an early command from a secret"


def check(marked: Marked, at: Path) -> Iterator[Finding]:
    """What is wrong with the key ``storage`` at this path."""
    storage = marked.value
    for step in at:
        storage = storage[step]
    layout, config = storage.get("layout"), storage.get("config")
    if layout is not None:
        yield from _layout(marked, (*at, "layout"), layout)
        if config is not None:
            yield marked.warning((*at, "config"), "is not used, since there is a layout")
    elif isinstance(config, list):
        yield from _config(marked, (*at, "config"), config)
    elif config is not None:
        yield marked.error((*at, "config"), "is a list of actions")
    else:
        yield marked.warning(at, "has neither layout nor config: the installer takes the largest disk")


def _layout(marked: Marked, at: Path, layout: Any) -> Iterator[Finding]:
    if not isinstance(layout, Mapping):
        yield marked.error(at, "is a mapping with name")
        return
    if layout.get("name") not in LAYOUTS:
        yield marked.error((*at, "name"), f"{layout.get('name')!r} is not a layout: {', '.join(LAYOUTS)}")
    if "match" not in layout:
        yield marked.warning(at, "has no match: the installer takes the largest disk")
    elif not isinstance(layout["match"], Mapping | list):
        yield marked.error((*at, "match"), "is a mapping, or a list of them")
    if layout.get("password"):
        yield marked.warning((*at, "password"), f"a passphrase stands {_CLEAR}")


def _config(marked: Marked, at: Path, config: list[Any]) -> Iterator[Finding]:
    made: dict[str, str] = {}
    last: dict[str, Path] = {}  # what takes the rest of a device, by that device
    mounts: dict[str, Path] = {}
    for place, action in enumerate(config):
        here = (*at, place)
        if not isinstance(action, Mapping) or str(action.get("type")) not in _REFERENCES:
            kind = action.get("type") if isinstance(action, Mapping) else action
            yield marked.error(here, f"{kind!r} is not a type of action: {', '.join(_REFERENCES)}")
            continue
        yield from _action(marked, here, action, made)
        yield from _sized(marked, here, action, last)
        if action["type"] == "mount" and action.get("path"):
            if str(action["path"]) in mounts:
                yield marked.error((*here, "path"), f"{action['path']} is mounted twice")
            mounts[str(action["path"])] = here
        if isinstance(action.get("id"), str):
            made[action["id"]] = action["type"]
    if "/" not in mounts:
        yield marked.error(at, "mounts nothing at /")
    if not any(isinstance(action, Mapping) and _boots(action) for action in config):
        yield marked.error(at, "has no place for the boot loader: grub_device: true on a disk (BIOS) or an ESP (UEFI)")


def _action(marked: Marked, here: Path, action: Mapping[str, Any], made: Mapping[str, str]) -> Iterator[Finding]:
    kind, own = action["type"], action.get("id")
    if not isinstance(own, str) or not own:
        yield marked.error(here, f"a {kind} needs an id, a text")
    elif own in made:
        yield marked.error((*here, "id"), f"the id {own} is taken by a {made[own]} above")
    for key in _NEEDED.get(kind, ()):
        if key not in action:
            yield marked.error(here, f"a {kind} needs {key}")
    for key, types in _REFERENCES[kind].items():
        if key in action:
            yield from _made_of(marked, (*here, key), action[key], types, made)
    if kind == "dm_crypt":
        if not action.get("keyfile") and not action.get("key"):
            yield marked.error(here, "a dm_crypt needs keyfile or key")
        if action.get("key"):
            yield marked.warning((*here, "key"), f"a passphrase stands {_CLEAR}")


def _made_of(marked: Marked, at: Path, value: Any, types: frozenset[str], made: Mapping[str, str]) -> Iterator[Finding]:
    for name in map(str, value if isinstance(value, list) else [value]):
        if made.get(name) not in types:
            found = f"{name} is a {made[name]}" if name in made else f"nothing above has the id {name!r}"
            yield marked.error(at, f"{found}; it is made of {' or '.join(sorted(types))}")


def _sized(marked: Marked, here: Path, action: Mapping[str, Any], last: dict[str, Path]) -> Iterator[Finding]:
    if action["type"] not in {"partition", "lvm_partition"}:
        return
    size, device = action.get("size"), str(action.get("device") or action.get("volgroup"))
    if isinstance(size, bool) or size is None or not _SIZE.fullmatch(str(size).strip()):
        if size is not None or action["type"] == "partition":
            yield marked.error((*here, "size"), f"{size!r} is not a size: 512M, 20G, 50%, or -1 for the rest")
        return
    if device in last:
        yield marked.error(here, f"{device} has nothing left: an action above takes the rest of it")
    if size in {-1, "-1"}:
        last[device] = here


def _boots(action: Mapping[str, Any]) -> bool:
    return bool(action.get("grub_device")) or str(action.get("flag")) in {"bios_grub", "prep"}
