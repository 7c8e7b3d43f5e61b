"""The shapes of builds and their events, and of the history."""

from typing import Annotated, Any, Literal

from pydantic import Field

from provisioner.web.api.shapes.common import Action, Body, Count, NextPage, PageQuery, Parameters, Query, View, Word

BuildState = Literal["armed", "booting", "installing", "built", "configured", "failed", "cancelled"]


class BuildBody(Body):
    """Values for this build alone."""

    parameters: Parameters = Field(default={})
    kernel_options: list[Word] = Field(default=[], max_length=64)


class Armed(View):
    """A build that was armed."""

    id: int
    machine: str
    number: int
    state: str
    warnings: list[str] = Field(description="what the validator found that does not stop it")
    location: str


class BuildItem(View):
    """A build."""

    id: int
    machine: str
    number: int = Field(description="counts the builds of the machine")
    state: BuildState
    profile: str
    armed_at: str | None
    built_at: str | None
    ended_at: str | None
    seconds: float
    attempts: int
    outcome: str
    flag: str
    waits_for: str = Field(description="in words; empty when it ended")


class EventView(View):
    """Something that happened in a build."""

    id: int
    at: str | None
    seconds: float = Field(description="since it was armed")
    attempt: int | None
    kind: str
    message: str
    source: str
    flagged: bool


class HandoffView(View):
    """What the machine of a build is at the server of its configuration management."""

    tool: str
    identity: str = Field(description="certname, minion id, node name; empty where the tool has none")
    state: Literal["prepared", "enrolled", "issued", "revoked"]
    round: int = Field(description="counts the handoffs of this build: each retry is another, with new secrets")
    issued_at: str | None
    revoked_at: str | None


class FirstRun(Body):
    """How the first run of a machine's configuration management went, as the tool's own server saw it."""

    ok: bool = Field(description="a good first run: the build becomes `configured`, else `failed`")
    message: str = Field("", max_length=4000)
    log: str = Field("", max_length=65536, description="the end of what the tool said")


class BuildView(BuildItem):
    """A build with its timeline."""

    handoff: HandoffView | None = Field(description="null where no tool is asked for")

    events: list[EventView]


class BuildPage(View):
    """Some builds, the newest first."""

    items: list[BuildItem]
    next: NextPage


class EventPage(View):
    """Some events, the oldest first."""

    items: list[EventView]
    next: NextPage
    state: BuildState
    ended: bool = Field(description="nothing more will come")


class BuildQuery(PageQuery):
    """Which builds."""

    q: str | None = Field(None, max_length=200, description="a part of the machine's name")
    machine: str | None = Field(None, max_length=253, description="of this machine", examples=["web01"])
    state: BuildState | None = Field(None, description="their state", examples=["installing"])


class EventQuery(Query):
    """Which events."""

    after: Count = Field(0, ge=0, le=2**62, description="the id of the last event you have")
    limit: Count = Field(500, ge=1, le=500, description="how many at most")


class DiffQuery(Query):
    """With which other build."""

    other: Count | None = Field(None, ge=1, le=2**62, description="its id; the machine's build before unless given")


class DiffView(View):
    """What differs between the sealed files of two builds."""

    diff: str = Field(description="a unified diff, tokens masked; empty when they are equal")


class LogItem(EventView):
    """An event with the log that came with it."""

    log: str


class LogView(View):
    """A build's events with their logs."""

    items: list[LogItem]


class SealedView(View):
    """What a build was sealed with."""

    inputs: dict[str, Any]
    files: dict[str, str] = Field(description="tokens masked")


class RevisionItem(View):
    """A change of an administered object."""

    id: int
    at: str
    actor: str
    origin: str
    request: str
    reason: str
    kind: str
    name: str
    action: Action
    changes: list[dict[str, Any]] = Field(description="pointer, before and after of each field; secrets masked")
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class HistoryPage(View):
    """Some changes, the newest first."""

    items: list[RevisionItem]
    next: NextPage


class HistoryQuery(Query):
    """Which changes."""

    limit: Count = Field(50, ge=1, le=500, description="how many at most")
    cursor: str | None = Field(None, max_length=1000, description="the `next` of the page before")
    object: str | None = Field(None, max_length=300, description="KIND/NAME, or a name", examples=["machine/web01"])
    kind: str | None = Field(None, max_length=40, description="what was changed", examples=["machine"])
    actor: str | None = Field(None, max_length=128, description="who changed it")
    since: str | None = Field(None, max_length=40, description="a date or moment in UTC", examples=["2026-11-01"])
    until: str | None = Field(None, max_length=40, description="a date or moment in UTC")


class Verified(View):
    """Whether the history is as it was written."""

    problems: Annotated[list[str], Field(description="in words; empty when nothing is wrong")]
