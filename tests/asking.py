"""The API in this process: a client for each role, and what every operation can be asked with."""

import json
from dataclasses import dataclass, field
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse
from world import ACTOR

from provisioner.services import people, tokens
from provisioner.services.site import Site
from provisioner.web import admin
from provisioner.web.api import operations
from provisioner.web.api.openapi import PREFIX
from provisioner.web.api.operations import Operation

ROLES = ("viewer", "operator", "author", "admin")
PASSWORD = "correct horse battery staple"
_NAMES = {
    "name": "web01",
    "mac": "52-54-00-12-34-56",
    "kind": "kickstart",
    "id": "1",
    "uid": "x",
    "secret": "root_password",
}


@dataclass
class Asked:
    """An answer."""

    response: TestResponse

    @property
    def status(self) -> int:
        """Its status."""
        return self.response.status_code

    @property
    def etag(self) -> str:
        """Its ETag."""
        return self.response.headers["ETag"]

    def json(self) -> Any:
        """Its body."""
        return json.loads(self.response.get_data())

    def text(self) -> str:
        """Its body as text."""
        return self.response.get_data(as_text=True)


@dataclass
class Api:
    """Asks the API of one installation as one of the roles, the admin unless told otherwise."""

    site: Site
    app: Flask = field(init=False)
    client: FlaskClient = field(init=False)
    bearers: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.app = admin.create(self.site)
        self.client = self.app.test_client()

    def bearer(self, role: str = "admin", scope: tuple[str, ...] = ()) -> str:
        """A token of a user with this role."""
        key = "-".join((role, *scope))
        if key not in self.bearers:
            user = f"{role}-user"
            if not any(each["name"] == user for each in people.listing(self.site)):
                people.add(self.site, ACTOR, user, {"role": role, "password": PASSWORD})
            made = tokens.add(self.site, ACTOR, user, f"token-{key}", {"role": role, "scope": list(scope)})
            self.bearers[key] = made["token"]
        return self.bearers[key]

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        role: str = "admin",
        scope: tuple[str, ...] = (),
        match: str | None = None,
        bearer: str | None = None,
        headers: dict[str, str] | None = None,
        raw: bytes | None = None,
    ) -> Asked:
        """One request below ``/api/v1``; ``bearer`` of an empty text sends no credential."""
        sent = dict(headers or {})
        token = self.bearer(role, scope) if bearer is None else bearer
        if token:
            sent["Authorization"] = f"Bearer {token}"
        if match is not None:
            sent["If-Match"] = match
        if raw is not None:
            sent.setdefault("Content-Type", "application/json")
        kwargs: dict[str, Any] = {"data": raw} if raw is not None else {} if body is None else {"json": body}
        return Asked(self.client.open(PREFIX + path, method=method, headers=sent, **kwargs))


def path_of(operation: Operation) -> str:
    """A path of the operation with some names in it."""
    path = operation.path
    for name in operation.names:
        path = path.replace(f"{{{name}}}", _NAMES.get(name, "x"))
    return path


def table() -> list[Operation]:
    """Every operation."""
    return operations()
