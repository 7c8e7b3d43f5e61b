"""One table of all operations: what each takes, answers and refuses, and who may call it.

Routes, the check of rights, the OpenAPI document and the documentation page are all made from it, so that none can say
something else than the others.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel

from provisioner.core.policy import Principal
from provisioner.errors import (
    Conflict,
    DatabaseUnavailable,
    Forbidden,
    InvalidInput,
    NeedsMatch,
    NotFound,
    NotLoggedIn,
    ProvisionerError,
    Stale,
    StorageFull,
    TooLarge,
)
from provisioner.services.radius import Watch
from provisioner.services.site import Actor, Site

BODY_BYTES = 1 << 20
BATCH_BYTES = 48 << 20
"""What a batch of 10,000 machines with all their fields needs, and some."""
Errors = tuple[type[ProvisionerError], ...]
Handler = TypeVar("Handler", bound=Callable[..., Any])


@dataclass(frozen=True)
class Call:
    """One request, checked: who asks, the names in its path, its query and body."""

    site: Site
    principal: Principal
    actor: Actor
    source: str
    names: Mapping[str, str]
    query: Any
    body: Any
    expect: str | None
    """The revision that the change is for, from If-Match; None where the operation wants none, or for ``*``."""
    bearer: str = ""
    watch: Watch | None = None
    """Of a rehearsal: what it would have changed."""


@dataclass(frozen=True)
class Operation:
    """One method of one path, below ``/api/v1``.

    ``noun`` and ``verb`` are the right it needs; a ``noun`` of None needs a credential but no right, and ``public`` not
    even that. ``match`` wants If-Match (412, 428). ``answer`` None is no content.
    """

    method: str
    path: str
    handler: Callable[[Call], Any]
    summary: str
    description: str
    noun: str | None
    verb: str
    public: bool
    query: type[BaseModel] | None
    body: type[BaseModel] | None
    answer: Any
    status: int
    match: bool
    errors: Errors
    longest_body: int
    media_type: str
    streams: bool = False
    lasting: bool = False
    """It does what no rollback takes back: it fetches files, opens or ends attempts, calls others."""

    @property
    def rehearsable(self) -> bool:
        """Whether `X-Dry-Run` is taken: a change of the database alone, by somebody who has the right to it."""
        return self.verb == "write" and self.noun is not None and not self.lasting

    @property
    def tells_radius(self) -> bool:
        """Whether the answer to a rehearsal says what the change would do to machines."""
        if not self.rehearsable:
            return False
        return self.answer is None or "radius" in getattr(self.answer, "model_fields", {})

    @property
    def id(self) -> str:
        """The operation's name in the document: ``list_machines``."""
        return str(getattr(self.handler, "__name__", ""))

    @property
    def tag(self) -> str:
        """Under which heading it stands."""
        return self.path.split("/")[1].split(":", maxsplit=1)[0]

    def all_errors(self) -> list[type[ProvisionerError]]:
        """Every error it may answer with, its own and those that follow from its shape."""
        errors: list[type[ProvisionerError]] = (
            [InvalidInput] if self.query or self.body or self.names or self.verb == "write" else []
        )
        errors += [] if self.public else [NotLoggedIn]
        errors += [Forbidden] if self.noun else []
        errors += [NotFound] if self.names else []
        errors += [TooLarge] if self.body else []
        errors += [Stale, NeedsMatch] if self.match else []
        errors += [Conflict, StorageFull] if self.verb == "write" else []
        return [*dict.fromkeys([*errors, *self.errors, DatabaseUnavailable])]

    @property
    def names(self) -> list[str]:
        """The names in its path."""
        return [part.split("}")[0] for part in self.path.split("{")[1:]]


@dataclass
class Operations:
    """The operations of one noun, collected by decorators."""

    table: list[Operation] = field(default_factory=list)

    def add(  # noqa: PLR0913 - each is a column of the table
        self,
        method: str,
        path: str,
        *,
        noun: str | None,
        answer: Any = None,
        query: type[BaseModel] | None = None,
        body: type[BaseModel] | None = None,
        verb: str | None = None,
        status: int | None = None,
        match: bool = False,
        errors: Sequence[type[ProvisionerError]] = (),
        public: bool = False,
        longest_body: int = BODY_BYTES,
        media_type: str = "application/json",
        streams: bool = False,
        lasting: bool = False,
    ) -> Callable[[Handler], Handler]:
        """Register the decorated function; the first line of its docstring is the summary, the rest the description."""

        def register(handler: Handler) -> Handler:
            summary, _, description = (handler.__doc__ or "").partition("\n")
            self.table.append(
                Operation(
                    method=method,
                    path=path,
                    handler=handler,
                    summary=summary.strip().rstrip("."),
                    description=" ".join(description.split()),
                    noun=noun,
                    verb=verb or ("read" if method == "GET" else "write"),
                    public=public,
                    query=query,
                    body=body,
                    answer=answer,
                    status=status or (204 if answer is None else 200),
                    match=match,
                    errors=tuple(errors),
                    longest_body=longest_body,
                    media_type=media_type,
                    streams=streams,
                    lasting=lasting,
                )
            )
            return handler

        return register
