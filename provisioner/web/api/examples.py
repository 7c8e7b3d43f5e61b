"""An example of every shape: what a field says of itself, what is usual under its name, or the plainest of its type."""

from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

_MOMENT = "2026-11-23T12:00:00.000+00:00"
_DIGEST = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_USUAL: dict[str, Any] = {
    "name": "web01",
    "machine": "web01",
    "mac": "52:54:00:12:34:56",
    "ip": "10.0.2.11",
    "address": "10.0.2.11",
    "addresses": ["10.0.2.10"],
    "cidr": "10.0.2.0/24",
    "gateway": "10.0.2.1",
    "dns": ["10.0.2.1"],
    "start": "10.0.2.10",
    "end": "10.0.2.99",
    "subnet": "lab",
    "profile": "rocky9",
    "parent": "rocky9",
    "os": "rocky",
    "version": "9.6",
    "arch": "x86_64",
    "kernel_name": "vmlinuz",
    "initrd_name": "initrd.img",
    "kernel_sha256": _DIGEST,
    "initrd_sha256": _DIGEST,
    "sha256": _DIGEST,
    "file_name": "debian-12-base.raw.gz",
    "size": 412_000_000,
    "revision": "12.34",
    "serial": "CZ1234567",
    "uuid": "4c4c4544-0051-4410-8053-b4c04f4d3632",
    "inventory": "netbox/17",
    "tags": ["rack-12"],
    "kind": "kickstart",
    "state": "ready",
    "waits_for": "the machine to boot from the network",
    "user": "ada",
    "actor": "ada",
    "origin": "api (token inventory, 10.0.0.5)",
    "source": "10.0.2.11",
    "reason": "INC-1234",
    "request": "5f2b9c0e7d6a4b1f8e3c2d1a0b9f8e7d",
    "message": "profile rocky9",
    "uid": "6f1d2c3b4a596877",
    "password": "correct horse battery staple",
    "old": "correct horse battery staple",
    "new": "staple battery horse correct",
    "url": "https://chat.example.com/hook",
    "event": "build.failed",
    "diff": "",
    "text": "text --non-interactive\n",
    "files": {"answer": "text --non-interactive\n"},
    "changes": [{"pointer": "/profile", "before": None, "after": "rocky9"}],
    "pointer": "/profile",
    "at": _MOMENT,
    "expires_at": "2027-11-23T12:00:00+00:00",
    "last_used_from": "10.0.0.5",
    "seconds": 12.5,
    "bytes": 2048,
}
_INSTEAD = frozenset({"password_hash"})
"""What is given instead of another field."""


def of(model: type[BaseModel]) -> dict[str, Any]:
    """An example that the shape takes."""
    fields = {name: field for name, field in model.model_fields.items() if name not in _INSTEAD}
    return {field.alias or name: _field(name, field) for name, field in fields.items()}


def _field(name: str, field: FieldInfo) -> Any:
    told = field.examples or next((each.examples for each in field.metadata if getattr(each, "examples", None)), None)
    if told:
        return told[0]
    return _value(name, field.annotation)


def _value(name: str, kind: Any) -> Any:
    plain, metadata = (get_args(kind)[0], kind.__metadata__) if hasattr(kind, "__metadata__") else (kind, ())
    for each in metadata:
        if getattr(each, "examples", None):
            return each.examples[0]
    origin, arguments = get_origin(plain), get_args(plain)
    if isinstance(plain, type) and issubclass(plain, BaseModel):
        return of(plain)
    if origin is Literal:
        return _USUAL[name] if _USUAL.get(name) in arguments else arguments[0]
    if origin in {Union, UnionType}:
        choices = [each for each in arguments if each is not NoneType]
        return None if name in {"next", "key", "location", "radius"} else _value(name, choices[0]) or None
    if origin is list:
        inner = arguments[0]
        usual = _USUAL.get(name)
        return usual if isinstance(usual, list) else [_value(name, inner)] if _is_shape(inner) else []
    return _plain(name, plain)


def _is_shape(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _plain(name: str, kind: Any) -> Any:
    usual = _USUAL.get(name)
    base = get_origin(kind) or kind
    if usual is not None and isinstance(usual, base if isinstance(base, type) else object):
        return usual
    if base is str:
        return _MOMENT if name.endswith("_at") or name in {"first_seen", "last_seen", "until"} else ""
    return {bool: False, int: 1, float: 1.0, dict: {}}.get(base)
