"""Users and tokens."""

from collections.abc import Mapping
from typing import Any

from flask import Response

from provisioner.core.policy import NOUNS, Role
from provisioner.errors import ProvisionerError
from provisioner.services import logins, passwords, people, tokens
from provisioner.web.ui import csvout, saving
from provisioner.web.ui.pages import Pages, Visit, path
from provisioner.web.ui.saving import Refused

pages = Pages()
_ROLES = [
    (Role.VIEWER.value, "viewer: looks at everything but users, tokens and webhooks"),
    (Role.OPERATOR.value, "operator: also registers, assigns and builds machines"),
    (Role.AUTHOR.value, "author: looks, and changes profiles and templates, which run as root on machines"),
    (Role.ADMIN.value, "admin: everything"),
]


@pages.get("/users", "users")
def users(visit: Visit) -> Response:
    """Everybody who may log in."""
    rows = people.listing(visit.site)
    if visit.arg("format") == "csv":
        return csvout.answer("users", ("name", "role", "disabled", "expires_at"), rows)
    return visit.render("people/users.html", rows=rows, sessions=logins.sessions(visit.site))


@pages.get("/users:add", "users", verb="write")
def adding_user(visit: Visit) -> Response:
    """The form for a new user."""
    return _user_form(visit, None, {"role": Role.OPERATOR.value})


@pages.post("/users:add", "users")
def add_user(visit: Visit) -> Response:
    """Add somebody; without a password one is made, and shown once."""
    typed = _typed(visit, "name", "role", "expires_at")
    made = "" if visit.field("password") else passwords.made()
    fields = {"role": typed["role"], "password": visit.field("password") or made}
    try:
        added = people.add(visit.site, visit.actor, typed["name"], fields | _expiry(typed))
    except ProvisionerError as error:
        return _user_form(visit, None, typed, error)
    if made:
        return visit.render("people/secret.html", what=f"The password of {added['name']}", secret=made, back="/users")
    return visit.redirect("/users", f"User {added['name']} is added.", href=path("users", added["name"]))


@pages.get("/users/<name>", "users")
def user(visit: Visit, name: str) -> Response:
    """One user: role, logins, tokens."""
    found = people.show(visit.site, name)
    return _user_form(visit, found, _in_form(found) | {"revision": found["revision"]})


@pages.post("/users/<name>/edit", "users")
def edit_user(visit: Visit, name: str) -> Response:
    """Change role, expiry or whether the user is disabled; whoever loses rights is logged out."""
    typed = _typed(visit, "role", "expires_at", "revision") | {"disabled": bool(visit.field("disabled"))}
    fields = {"role": typed["role"], "disabled": typed["disabled"]} | _expiry(typed)
    found = people.show(visit.site, name)
    refused = saving.attempt(
        visit,
        "user",
        found,
        typed,
        lambda: people.edit(visit.site, visit.actor, name, fields, expect=typed["revision"]),
        _in_form,
    )
    if refused is not None:
        return _user_form(visit, found, refused.typed, refused.error, refused)
    return visit.redirect(path("users", name), f"User {name} is changed.", href=f"/history?object=user/{name}")


@pages.post("/users/<name>/password", "users")
def reset_password(visit: Visit, name: str) -> Response:
    """Give a user another password, shown once; their logins end."""
    made = passwords.made()
    people.edit(visit.site, visit.actor, name, {"password": made}, keep_session=visit.principal.session)
    return visit.render("people/secret.html", what=f"The new password of {name}", secret=made, back=path("users", name))


@pages.post("/users/<name>/remove", "users")
def remove_user(visit: Visit, name: str) -> Response:
    """Remove a user with their logins and tokens."""
    people.remove(visit.site, visit.actor, name, expect=visit.field("revision") or None)
    return visit.redirect("/users", f"User {name} is removed.", href=f"/history?object=user/{name}")


def _user_form(
    visit: Visit,
    found: Mapping[str, Any] | None,
    typed: Mapping[str, Any],
    error: ProvisionerError | None = None,
    refused: Refused | None = None,
) -> Response:
    own: dict[str, Any] = {"sessions": [], "tokens": []}
    if found is not None:
        own["sessions"] = logins.sessions(visit.site, found["name"])
        own["tokens"] = tokens.listing(visit.site, found["name"]) if visit.may("tokens", "read") else []
    status = error.status if error else 200
    told = {"user": found, "typed": typed, "roles": _ROLES, "error": error, "refused_by": refused}
    return visit.render("people/user.html", status, **told, **own)


def _in_form(user: Mapping[str, Any]) -> dict[str, Any]:
    """What a form that nobody typed in sends."""
    return {
        "role": user["role"],
        "disabled": user["disabled"],
        "expires_at": (user["expires_at"] or "")[:10],
    }


@pages.get("/tokens", "tokens")
def all_tokens(visit: Visit) -> Response:
    """Every API token, without its text."""
    rows = tokens.listing(visit.site)
    if visit.arg("format") == "csv":
        columns = ("name", "user", "role", "scope", "state", "expires_at", "last_used_at", "last_used_from")
        return csvout.answer("tokens", columns, rows)
    return visit.render("people/tokens.html", rows=rows)


@pages.get("/tokens:add", "tokens", verb="write")
def adding_token(visit: Visit) -> Response:
    """The form for a new token."""
    return _token_form(visit, {"user": visit.principal.who, "role": Role.VIEWER.value, "days": "365", "scope": []})


@pages.post("/tokens:add", "tokens")
def add_token(visit: Visit) -> Response:
    """Make a token; its text is shown this once."""
    typed = _typed(visit, "name", "user", "role", "days") | {"scope": visit.fields("scope")}
    fields: dict[str, Any] = {"role": typed["role"], "scope": typed["scope"]}
    fields["days"] = int(typed["days"]) if typed["days"].isdigit() else typed["days"]
    try:
        made = tokens.add(visit.site, visit.actor, typed["user"] or None, typed["name"], fields)
    except ProvisionerError as error:
        return _token_form(visit, typed, error)
    return visit.render("people/secret.html", what=f"The token {made['name']}", secret=made["token"], back="/tokens")


@pages.get("/tokens/<name>", "tokens")
def token(visit: Visit, name: str) -> Response:
    """One token."""
    return visit.render("people/token.html", token=tokens.show(visit.site, name))


@pages.post("/tokens/<name>/revoke", "tokens")
def revoke_token(visit: Visit, name: str) -> Response:
    """Let it open nothing any more, for good."""
    tokens.revoke(visit.site, visit.actor, name, expect=visit.field("revision") or None)
    return visit.redirect("/tokens", f"Token {name} is revoked.", href=f"/history?object=token/{name}")


def _token_form(visit: Visit, typed: Mapping[str, Any], error: ProvisionerError | None = None) -> Response:
    names = [each["name"] for each in people.listing(visit.site)]
    status = error.status if error else 200
    return visit.render(
        "people/tokenform.html", status, typed=typed, users=names, roles=_ROLES, nouns=NOUNS, error=error
    )


def _typed(visit: Visit, *names: str) -> dict[str, Any]:
    return {name: visit.field(name).strip() for name in names} | {"reason": visit.field("reason")}


def _expiry(typed: Mapping[str, Any]) -> dict[str, Any]:
    """An empty field is never."""
    return {"expires_at": typed["expires_at"] or None}
