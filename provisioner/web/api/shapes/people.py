"""The shapes of users, tokens and sessions."""

from typing import Annotated, Literal

from pydantic import Field

from provisioner.web.api.shapes.common import Body, Name, NextPage, Query, Revision, View, Word

RoleName = Literal["viewer", "operator", "author", "admin"]
Password = Annotated[str, Field(min_length=12, max_length=1024, examples=["correct horse battery staple"])]
PasswordHash = Annotated[
    str,
    Field(
        min_length=1,
        max_length=255,
        description="instead of a password: a hash of one, made elsewhere (argon2, bcrypt, SHA crypt, yescrypt); "
        "it is replaced by argon2id at the first login",
        examples=["$6$q1w2e3r4$ZZHXqXWbBxzhPmiYKHZbMVMbFPxxBeOVTpGyFfTwLGmvHJgLCpSE2ZkhEtjBzWqHpfFZ.yQRYqYB8Yh0q4aCB1"],
    ),
]
Until = Annotated[str, Field(max_length=40, description="a date or a moment in UTC", examples=["2027-01-31"])]


class UserBody(Body):
    """A user to add."""

    name: Name = Field(examples=["ada"])
    role: RoleName = Field(examples=["operator"])
    password: Password = Field("", validate_default=False)
    password_hash: PasswordHash = Field("", validate_default=False)
    expires_at: Until | None = None


class UserChange(Body):
    """What of a user can be changed; what is left out stays."""

    role: RoleName = "viewer"
    disabled: bool = False
    password: Password = Field("", validate_default=False)
    password_hash: PasswordHash = Field("", validate_default=False)
    expires_at: Until | None = None


class UserView(View):
    """A user."""

    name: str
    role: RoleName
    disabled: bool
    expires_at: str | None
    revision: Revision


class UserPage(View):
    """Some users."""

    items: list[UserView]
    next: NextPage


class Login(Body):
    """Who logs in."""

    user: Annotated[str, Field(max_length=64, examples=["admin"])]
    password: Annotated[str, Field(max_length=1024, examples=["correct horse battery staple"])]


class SessionView(View):
    """A session: its token is shown this once."""

    token: str = Field(examples=["pvs_x_y"])
    expires_at: str
    user: str
    role: RoleName


class SessionItem(View):
    """Where somebody is logged in."""

    uid: str
    user: str
    source: str
    created_at: str
    last_seen_at: str
    expires_at: str


class SessionList(View):
    """Who is logged in."""

    items: list[SessionItem]


class SessionQuery(Query):
    """Whose sessions."""

    user: Name | None = Field(None, description="of this user", examples=["ada"])


class Me(View):
    """Whom the credential stands for."""

    user: str
    role: RoleName = Field(description="what it may do at this moment")
    scope: list[str]
    token: str = Field(description="the API token's name; empty for a session")


class OwnPassword(Body):
    """A new password for oneself."""

    old: Annotated[str, Field(max_length=1024, examples=["correct horse battery staple"])]
    new: Password


class TokenBody(Body):
    """An API token to add."""

    name: Name = Field(examples=["inventory"])
    role: RoleName | None = Field(None, description="its owner's unless given; never more", examples=["operator"])
    scope: list[Word] = Field(default=[], max_length=32, description="nouns; empty is all", examples=[["machines"]])
    expires_at: Until | None = Field(None, description="a year from now unless given; null: never")
    days: int = Field(365, ge=1, le=3650, description="instead of `expires_at`")
    user: Name | None = Field(None, description="its owner; yourself unless given")


class TokenChange(Body):
    """What of a token can be changed."""

    role: RoleName = "viewer"
    scope: list[Word] = Field(default=[], max_length=32)
    expires_at: Until | None = None
    days: int = Field(365, ge=1, le=3650, description="from now, instead of `expires_at`")


class TokenView(View):
    """An API token, without its secret."""

    name: str
    uid: str
    user: str
    role: RoleName
    scope: list[str]
    expires_at: str | None
    revoked_at: str | None
    last_used_at: str | None
    last_used_from: str | None
    state: Literal["active", "expired", "revoked", "suspended"] = Field(
        description="suspended: its owner is disabled or expired"
    )
    revision: Revision


class NewToken(TokenView):
    """An API token with its secret, shown this once."""

    token: str


class TokenPage(View):
    """Some tokens."""

    items: list[TokenView]
    next: NextPage
