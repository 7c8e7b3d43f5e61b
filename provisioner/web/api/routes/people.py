"""Users, sessions and API tokens."""

from typing import Any

from provisioner.errors import Conflict, Forbidden, NameTaken, NotFound, NotLoggedIn, TooMany, UnknownReference
from provisioner.services import listing, logins, people, tokens
from provisioner.web.api.operations import Call, Operations
from provisioner.web.api.shapes.common import PageQuery, Rename
from provisioner.web.api.shapes.people import (
    Login,
    Me,
    NewToken,
    OwnPassword,
    SessionList,
    SessionQuery,
    SessionView,
    TokenBody,
    TokenChange,
    TokenPage,
    TokenView,
    UserBody,
    UserChange,
    UserPage,
    UserView,
)

operations = Operations()


@operations.add(
    "POST",
    "/sessions",
    noun=None,
    public=True,
    body=Login,
    answer=SessionView,
    status=201,
    errors=(NotLoggedIn, TooMany),
)
def login(call: Call) -> Any:
    """Log in with a password: the answer's token goes into `Authorization: Bearer`.

    Failures slow down whoever fails; see `Retry-After`. Programs use API tokens instead.
    """
    made = logins.login(call.site, call.body.user, call.body.password, call.source)
    return made | {"location": "/sessions/current"}


@operations.add("GET", "/sessions", noun="users", query=SessionQuery, answer=SessionList, errors=(NotFound,))
def list_sessions(call: Call) -> Any:
    """Who is logged in, from where and since when."""
    return {"items": logins.sessions(call.site, call.query.user)}


@operations.add("DELETE", "/sessions/current", noun=None)
def logout(call: Call) -> None:
    """Log out: the session's token opens nothing any more."""
    logins.logout(call.site, call.bearer)


@operations.add("GET", "/me", noun=None, answer=Me)
def show_me(call: Call) -> Any:
    """Whom this credential stands for, and what it may do at this moment."""
    me = call.principal
    return {"user": me.who, "role": me.role.value, "scope": list(me.scope), "token": me.token}


@operations.add("POST", "/me:password", noun=None, body=OwnPassword, errors=(Forbidden, TooMany, Conflict))
def change_own_password(call: Call) -> None:
    """Change one's own password; all other sessions end."""
    people.change_password(call.site, call.actor, call.principal, call.body.old, call.body.new, call.source)


@operations.add("GET", "/users", noun="users", query=PageQuery, answer=UserPage)
def list_users(call: Call) -> Any:
    """List users."""
    return listing.page(call.site, "users", **call.query.given())


@operations.add("POST", "/users", noun="users", body=UserBody, answer=UserView, status=201, errors=(NameTaken,))
def add_user(call: Call) -> Any:
    """Add a user."""
    fields = call.body.given()
    return people.add(call.site, call.actor, fields.pop("name"), fields)


@operations.add("GET", "/users/{name}", noun="users", answer=UserView)
def show_user(call: Call) -> Any:
    """Show a user."""
    return people.show(call.site, call.names["name"])


@operations.add(
    "PATCH", "/users/{name}", noun="users", body=UserChange, answer=UserView, match=True, errors=(Conflict,)
)
def change_user(call: Call) -> Any:
    """Change a user. A loss of rights ends the user's sessions, and holds for the tokens from the next request on."""
    return people.edit(call.site, call.actor, call.names["name"], call.body.given(), expect=call.expect)


@operations.add("DELETE", "/users/{name}", noun="users", match=True, errors=(Conflict,))
def remove_user(call: Call) -> None:
    """Remove a user, with all sessions and tokens."""
    people.remove(call.site, call.actor, call.names["name"], expect=call.expect)


@operations.add(
    "POST", "/users/{name}:rename", noun="users", body=Rename, answer=UserView, match=True, errors=(NameTaken,)
)
def rename_user(call: Call) -> Any:
    """Give a user another name."""
    return people.rename(call.site, call.actor, call.names["name"], call.body.name, expect=call.expect)


@operations.add("GET", "/tokens", noun="tokens", query=PageQuery, answer=TokenPage)
def list_tokens(call: Call) -> Any:
    """List API tokens."""
    return listing.page(call.site, "tokens", **call.query.given())


@operations.add(
    "POST",
    "/tokens",
    noun="tokens",
    body=TokenBody,
    answer=NewToken,
    status=201,
    errors=(NameTaken, UnknownReference, Conflict),
)
def add_token(call: Call) -> Any:
    """Add an API token; its text is shown in this answer alone."""
    fields = call.body.given()
    owner = fields.pop("user", None) or call.principal.who
    if fields.get("role") is None:
        fields.pop("role", None)
    return tokens.add(call.site, call.actor, owner, fields.pop("name"), fields)


@operations.add("GET", "/tokens/{name}", noun="tokens", answer=TokenView)
def show_token(call: Call) -> Any:
    """Show an API token, without its text."""
    return tokens.show(call.site, call.names["name"])


@operations.add(
    "PATCH", "/tokens/{name}", noun="tokens", body=TokenChange, answer=TokenView, match=True, errors=(Conflict,)
)
def change_token(call: Call) -> Any:
    """Change an API token's role, scope or expiry."""
    return tokens.edit(call.site, call.actor, call.names["name"], call.body.given(), expect=call.expect)


@operations.add("POST", "/tokens/{name}:revoke", noun="tokens", answer=TokenView, match=True)
def revoke_token(call: Call) -> Any:
    """Let a token open nothing from the next request on, for good."""
    return tokens.revoke(call.site, call.actor, call.names["name"], expect=call.expect)


@operations.add(
    "POST", "/tokens/{name}:rename", noun="tokens", body=Rename, answer=TokenView, match=True, errors=(NameTaken,)
)
def rename_token(call: Call) -> Any:
    """Give a token another name."""
    return tokens.rename(call.site, call.actor, call.names["name"], call.body.name, expect=call.expect)


@operations.add("DELETE", "/tokens/{name}", noun="tokens", match=True)
def remove_token(call: Call) -> None:
    """Remove a token; the history keeps it."""
    tokens.remove(call.site, call.actor, call.names["name"], expect=call.expect)
