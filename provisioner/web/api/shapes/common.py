"""What the shapes of all nouns share."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

MOST_ITEMS = 500


class Body(BaseModel):
    """What a caller sends: unknown keys are errors, and nothing is turned into another type."""

    model_config = ConfigDict(extra="forbid", strict=True)

    def given(self) -> dict[str, Any]:
        """Only the fields that were sent."""
        return self.model_dump(exclude_unset=True)


class Query(BaseModel):
    """Query parameters; unknown ones are errors."""

    model_config = ConfigDict(extra="forbid")

    def given(self) -> dict[str, Any]:
        """Every parameter, with its default where it was not sent."""
        return self.model_dump()


class View(BaseModel):
    """An object as the API shows it."""

    model_config = ConfigDict(extra="forbid")


class Problem(BaseModel):
    """An error (RFC 9457), with what to do about it."""

    model_config = ConfigDict(extra="allow")
    type: str = Field(examples=["about:blank"])
    title: str = Field(examples=["Bad Request"])
    status: int = Field(examples=[400])
    code: str = Field(description="for programs; stable", examples=["mac-malformed"])
    detail: str = Field(description="what happened, with the values", examples=["'52:54' is not a MAC address"])
    hint: str = Field(description="the next step", examples=["write six bytes in hex"])
    where: str = Field(description="the place, in words", examples=["mac"])
    pointer: str = Field(
        description="JSON pointer (RFC 6901) of the bad field in the body; empty if it is none of the body's",
        examples=["/interfaces/0/mac"],
    )


def _flag(value: Any) -> Any:
    if isinstance(value, bool) or value is None:
        return value
    if value not in {"true", "false"}:
        raise ValueError("write true or false")
    return value == "true"


def _digits(value: Any) -> Any:
    if isinstance(value, str) and not (value.isascii() and value.isdigit()):
        raise ValueError("write digits")
    return value


Flag = Annotated[bool | None, BeforeValidator(_flag)]
Count = Annotated[int, BeforeValidator(_digits)]
Name = Annotated[str, Field(min_length=1, max_length=253)]
Word = Annotated[str, Field(max_length=255)]
Text = Annotated[str, Field(max_length=4000)]
Revision = Annotated[str, Field(description="what an ETag is made of; changes with the object", examples=["12.3"])]
Moment = Annotated[str, Field(description="a moment in UTC", examples=["2026-11-23T12:00:00+00:00"])]
Parameters = Annotated[
    dict[str, Any],
    Field(
        description="variables that reach templates; in a change they are merged, and null removes one",
        examples=[{"timezone": "Europe/Berlin", "packages": ["nginx"]}],
    ),
]


class PageQuery(Query):
    """Which page of a list."""

    limit: Count = Field(50, ge=1, le=MOST_ITEMS, description="how many at most", examples=[50])
    cursor: str | None = Field(None, max_length=1000, description="the `next` of the page before")
    sort: str | None = Field(
        None, max_length=40, description="a field; with `-` before it, backwards", examples=["name"]
    )
    q: str | None = Field(None, max_length=200, description="a part of the name", examples=["web"])


class Rename(Body):
    """A new name."""

    name: Name = Field(examples=["web02"])


NextPage = Annotated[str | None, Field(description="the cursor of the next page; null on the last")]
Action = Literal["add", "edit", "remove"]
