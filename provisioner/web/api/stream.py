"""A build's events as server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

import json
import threading
import time
from collections.abc import Iterator

from flask import Response, request

from provisioner.errors import ProvisionerError, TooMany
from provisioner.services import builds, tokens
from provisioner.web.api.operations import Call

MOST_STREAMS = 24
"""Each holds a thread of the admin plane for as long as it lasts."""
_POLL_SECONDS = 1.0
_BEAT_SECONDS = 15.0
_free = threading.BoundedSemaphore(MOST_STREAMS)


def wanted() -> bool:
    """Whether the caller asks for a stream."""
    return request.accept_mimetypes.best_match(["application/json", "text/event-stream"]) == "text/event-stream"


def follow(call: Call, build_id: int) -> Response:
    """The events beyond ``Last-Event-ID`` or ``after``, and those that follow, until the build ends.

    The credential is looked at again all the while: who is disabled reads no further. Raises NotFound and TooMany.
    """
    told = request.headers.get("Last-Event-ID", "")
    after = int(told) if told.isascii() and told.isdigit() and len(told) < 19 else call.query.after
    builds.events(call.site, build_id, after, 1)
    if not _free.acquire(blocking=False):
        raise TooMany(f"{MOST_STREAMS} streams are open already", hint="ask for JSON instead", retry_after=30)
    response = Response(_lines(call, build_id, after), content_type="text/event-stream")
    response.headers["X-Accel-Buffering"] = "no"
    # Also when the caller goes away before the first line.
    response.call_on_close(_free.release)
    return response


def _lines(call: Call, build_id: int, after: int) -> Iterator[bytes]:
    yield b"retry: 3000\n\n"
    beat = time.monotonic()
    while True:
        try:
            page = builds.events(call.site, build_id, after)
            for event in page["items"]:
                after = event["id"]
                yield f"id: {after}\nevent: {event['kind']}\ndata: {json.dumps(event)}\n\n".encode()
            if page["ended"] and page["next"] is None:
                yield f"event: end\ndata: {json.dumps({'state': page['state']})}\n\n".encode()
                return
            tokens.authenticate(call.site, call.bearer, call.source)
        except ProvisionerError as error:
            # The stream has begun, so this is the only way left to say it; the caller comes back and is told in full.
            yield f"event: error\ndata: {json.dumps(error.as_dict())}\n\n".encode()
            return
        if time.monotonic() - beat > _BEAT_SECONDS:
            beat = time.monotonic()
            yield b": still here\n\n"
        time.sleep(_POLL_SECONDS)
