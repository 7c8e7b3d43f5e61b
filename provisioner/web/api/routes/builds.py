"""Builds, their events, and the history."""

from typing import Any

from provisioner.errors import (
    BuildNotPossible,
    ContentError,
    IllegalTransition,
    InputsChanged,
    MediaMissing,
    NotAcknowledged,
    NotFound,
    Protected,
    TooMany,
)
from provisioner.services import arming, builds, listing, records, resealing
from provisioner.services.resolve import BuildRequest
from provisioner.web.api import stream
from provisioner.web.api.operations import Call, Operations
from provisioner.web.api.shapes.builds import (
    Armed,
    BuildBody,
    BuildItem,
    BuildPage,
    BuildQuery,
    BuildView,
    DiffQuery,
    DiffView,
    EventPage,
    EventQuery,
    FirstRun,
    HistoryPage,
    HistoryQuery,
    LogView,
    RevisionItem,
    SealedView,
    Verified,
)
from provisioner.web.api.shapes.common import PageQuery

operations = Operations()
_ARMING = (Protected, IllegalTransition, BuildNotPossible, InputsChanged, ContentError, NotAcknowledged)


@operations.add("GET", "/builds", noun="builds", query=BuildQuery, answer=BuildPage, errors=(NotFound,))
def list_builds(call: Call) -> Any:
    """List builds, the newest first."""
    return listing.page(call.site, "builds", **call.query.given())


@operations.add("GET", "/machines/{name}/builds", noun="builds", query=PageQuery, answer=BuildPage)
def list_builds_of_machine(call: Call) -> Any:
    """List the builds of a machine, the newest first."""
    return listing.page(call.site, "builds", machine=call.names["name"], **call.query.given())


@operations.add(
    "POST",
    "/machines/{name}/builds",
    noun="builds",
    lasting=True,
    body=BuildBody,
    answer=Armed,
    status=201,
    errors=_ARMING,
)
def start_build(call: Call) -> Any:
    """Arm a build: resolve, render, validate, seal. The machine's next network boot wipes and installs it."""
    builds.refuse_hasty(call.site, call.actor)
    request = BuildRequest(call.body.parameters, call.body.kernel_options)
    return _armed(arming.start(call.site, call.actor, call.names["name"], request))


@operations.add("GET", "/builds/{id}", noun="builds", answer=BuildView)
def show_build(call: Call) -> Any:
    """Show a build: state, timeline, and what it waits for."""
    return builds.show(call.site, _id(call))


@operations.add(
    "GET", "/builds/{id}/events", noun="builds", query=EventQuery, answer=EventPage, streams=True, errors=(TooMany,)
)
def list_build_events(call: Call) -> Any:
    """A build's events; as a stream, with `Accept: text/event-stream`, until it ends.

    The stream takes `Last-Event-ID`; it sends one event of the kind's name each, then `end`.
    """
    if stream.wanted():
        return stream.follow(call, _id(call))
    return builds.events(call.site, _id(call), call.query.after, call.query.limit)


@operations.add("GET", "/builds/{id}/log", noun="builds", answer=LogView)
def show_build_log(call: Call) -> Any:
    """A build's events with the logs that the installer sent."""
    return {"items": builds.log(call.site, _id(call))}


@operations.add("GET", "/builds/{id}/sealed", noun="builds", answer=SealedView)
def show_build_sealed(call: Call) -> Any:
    """What a build was sealed with: every input, and the files with tokens masked."""
    return builds.sealed(call.site, _id(call))


@operations.add("GET", "/builds/{id}/diff", noun="builds", query=DiffQuery, answer=DiffView)
def diff_builds(call: Call) -> Any:
    """What differs between the sealed files of two builds."""
    return {"diff": arming.diff(call.site, _id(call), call.query.other)}


@operations.add(
    "POST", "/builds/{id}:cancel", noun="builds", lasting=True, answer=BuildItem, errors=(IllegalTransition,)
)
def cancel_build(call: Call) -> Any:
    """Cancel a build: its tokens are dead, the machine's next boot goes to its local disk."""
    return builds.cancel(call.site, call.actor, _id(call))


@operations.add(
    "POST",
    "/builds/{id}:repeat",
    noun="builds",
    lasting=True,
    answer=Armed,
    status=201,
    errors=(*_ARMING, MediaMissing),
)
def repeat_build(call: Call) -> Any:
    """Arm a new build from the sealed files of this one, whatever changed since."""
    builds.refuse_hasty(call.site, call.actor)
    machine, number = builds.place(call.site, _id(call))
    return _armed(arming.repeat(call.site, call.actor, machine, number))


@operations.add("POST", "/builds/{id}:reseal", noun="builds", lasting=True, answer=Armed, status=201, errors=_ARMING)
def reseal_build(call: Call) -> Any:
    """Arm a build from what there is now in the place of this one, which is armed and not asked for yet.

    What was asked for that build alone stays; that build is cancelled.
    """
    builds.refuse_hasty(call.site, call.actor)
    return _armed(resealing.again(call.site, call.actor, _id(call)))


@operations.add(
    "POST", "/builds/{id}:continue", noun="builds", lasting=True, answer=BuildItem, errors=(IllegalTransition,)
)
def continue_build(call: Call) -> Any:
    """Let a halted build have one more attempt; the installer will wipe the disk again."""
    return builds.go_on(call.site, call.actor, _id(call))


@operations.add(
    "POST", "/builds/{id}:retry-handoff", noun="builds", lasting=True, answer=BuildItem, errors=(IllegalTransition,)
)
def retry_build_handoff(call: Call) -> Any:
    """Hand the machine over once more, with new secrets for that step alone; nothing is installed.

    The machine fetches its new handoff script by itself, or at its next boot.
    """
    return builds.retry_handoff(call.site, call.actor, _id(call))


@operations.add(
    "POST",
    "/builds/{id}:configured",
    noun="handoffs",
    body=FirstRun,
    lasting=True,
    answer=BuildItem,
    errors=(IllegalTransition,),
)
def report_build_configured(call: Call) -> Any:
    """Say how the first run of its configuration management went, where the machine itself cannot reach us.

    For the tool's server, with a token of the scope `handoffs`.
    """
    return builds.report_handoff(call.site, call.actor, _id(call), **call.body.given())


@operations.add("GET", "/history", noun="history", query=HistoryQuery, answer=HistoryPage)
def list_history(call: Call) -> Any:
    """Who changed what, the newest first."""
    return records.page(call.site, **call.query.given())


@operations.add("GET", "/history/{id}", noun="history", answer=RevisionItem)
def show_revision(call: Call) -> Any:
    """Show one change."""
    return records.show(call.site, _id(call))


@operations.add("GET", "/history:verify", noun="history", answer=Verified)
def verify_history(call: Call) -> Any:
    """Check the chain of hashes: an edited, removed or moved row is found."""
    return {"problems": records.verify(call.site)}


def _id(call: Call) -> int:
    return int(call.names["id"])


def _armed(result: dict[str, Any]) -> dict[str, Any]:
    return result | {"location": f"/builds/{result['id']}"}
