"""Administered objects as plain data: what people see, what revisions keep, what builds seal."""

import hashlib
from datetime import datetime
from typing import Any

from provisioner.store.models import Administered, Distro, Image, Interface, Machine, Profile, Subnet, Template
from provisioner.store.people import ApiToken, User
from provisioner.store.webhooks import Webhook

MASK = "********"
_DISTRO = ("name", "os", "arch", "kernel_sha256", "kernel_name", "initrd_sha256", "initrd_name", "tree")


def snapshot(thing: Administered) -> dict[str, Any]:
    """The object with names instead of row numbers, and without secrets."""
    if isinstance(thing, Machine):
        return _machine(thing)
    if isinstance(thing, Profile):
        return _profile(thing)
    plain: dict[type[Administered], tuple[str, ...]] = {
        Subnet: ("name", "cidr", "gateway", "dns", "domain", "dhcp", "ranges", "boot_url", "media_url", "parameters"),
        Template: ("name", "text"),
        Image: ("name", "kind", "os", "arch", "format", "root", "sha256", "file_name", "size"),
        User: ("name", "role", "disabled"),
        ApiToken: ("name", "uid", "role", "scope"),
        Webhook: ("name", "url", "events", "enabled", "description"),
    }
    fields = _DISTRO if isinstance(thing, Distro) else plain[type(thing)]
    shown = {field: getattr(thing, field) for field in fields}
    if isinstance(thing, Distro | Image):
        shown["version"] = thing.os_version
    if isinstance(thing, Distro):
        shown["files"] = thing.files or {}
    if isinstance(thing, Template) and thing.draft is not None:
        shown |= {"draft": thing.draft, "problems": thing.problems or []}
    if isinstance(thing, User):
        # Not the hash, but that there is another one: who sets a password leaves a revision.
        shown |= {"expires_at": _moment(thing.expires_at), "password": f"{MASK} {_fingerprint(thing.password_hash)}"}
    if isinstance(thing, ApiToken):
        shown |= {"user": thing.user.name, "expires_at": _moment(thing.expires_at)}
        shown |= {"revoked_at": _moment(thing.revoked_at)}
    if isinstance(thing, Webhook):
        shown["secret"] = None if thing.ciphertext is None else f"{MASK} {_fingerprint(thing.ciphertext.hex())}"
    return shown


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="seconds")


def _fingerprint(text: str) -> str:
    """Eight digits that differ when the text does, and tell nothing of it: it is itself a hash, or sealed."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _machine(machine: Machine) -> dict[str, Any]:
    return {
        "name": machine.name,
        "retired": machine.state == "retired",
        "protected": machine.protected,
        "description": machine.description,
        "profile": machine.profile.name if machine.profile else None,
        "interfaces": [interface(each) for each in machine.interfaces],
        "parameters": machine.parameters,
        "kernel_options": machine.kernel_options,
        "local_boot": machine.local_boot,
        "tags": [each.tag for each in machine.tags],
        "serial": machine.serial,
        "uuid": machine.uuid,
        "inventory": machine.inventory,
        # Only while it is so: the state of a machine is not administered, but that one is left by an edit.
        **({"state": machine.state} if machine.state == "discovered" else {}),
        "secrets": {secret.name: f"{MASK} set {secret.set_at:%Y-%m-%d %H:%M:%S.%f}" for secret in machine.secrets},
    }


def interface(each: Interface) -> dict[str, Any]:
    """An interface as plain data."""
    return {
        "name": each.name,
        "mac": each.mac,
        "ip": each.ip,
        "subnet": each.subnet.name if each.subnet else None,
    }


def _profile(profile: Profile) -> dict[str, Any]:
    return {
        "name": profile.name,
        "parent": profile.parent.name if profile.parent else None,
        "description": profile.description,
        "distro": profile.distro,
        "image": profile.image,
        "template": profile.template,
        "kernel_options": profile.kernel_options,
        "parameters": profile.parameters,
        "handoff": profile.handoff,
        "local_boot": profile.local_boot,
        "tested_with": profile.tested_with or "",
    }
