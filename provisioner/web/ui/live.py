"""Word that something changed, as server-sent events: pages then fetch the parts that show it.

A part of a page that lives says ``hx-trigger="sse:changed, every 30s"`` and fetches itself; so it looks the
same at first and later, and goes on, slower, where no stream is to be had.
"""

import threading
import time
from collections.abc import Iterator

from flask import Response

from provisioner.errors import InvalidInput, ProvisionerError, TooMany
from provisioner.services import changes, tokens
from provisioner.web.ui.pages import Pages, Visit

pages = Pages()
MOST_STREAMS = 24
"""Each holds a thread of the admin plane for as long as it lasts; the API has as many of its own."""
_POLL_SECONDS = 1.0
_REST_SECONDS = 2.0
"""In a storm something changes all the time: each open page fetches its parts once in so many, and sees the last."""
_BEAT_SECONDS = 15.0
_free = threading.BoundedSemaphore(MOST_STREAMS)


@pages.get("/live", "machines")
def stream(visit: Visit) -> Response:
    """``changed`` whenever something changed, or something of the build that ``build`` names by its id."""
    text = visit.arg("build")
    if text and not (text.isascii() and text.isdigit() and len(text) < 19):
        raise InvalidInput(f"{text[:40]!r} is no build", where="build", hint="its id is a number")
    build = int(text) if text else None
    mark = changes.mark(visit.site, build)
    if not _free.acquire(blocking=False):
        raise TooMany(f"{MOST_STREAMS} pages are live already", hint="this one is renewed now and then", retry_after=30)
    response = Response(_lines(visit, build, mark), content_type="text/event-stream")
    response.headers["X-Accel-Buffering"] = "no"
    response.call_on_close(_free.release)
    return response


def _lines(visit: Visit, build: int | None, mark: str) -> Iterator[bytes]:
    yield b"retry: 3000\n\n"
    beat = time.monotonic()
    told = beat - _REST_SECONDS
    while True:
        time.sleep(_POLL_SECONDS)
        if time.monotonic() - told < _REST_SECONDS:
            continue
        try:
            tokens.authenticate(visit.site, visit.bearer, visit.source)
            found = changes.mark(visit.site, build)
        except ProvisionerError:
            return  # the page comes back and is told in full
        if found != mark:
            mark, told = found, time.monotonic()
            yield b"event: changed\ndata: .\n\n"
        if time.monotonic() - beat > _BEAT_SECONDS:
            beat = time.monotonic()
            yield b": still here\n\n"
