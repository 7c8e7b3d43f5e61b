"""Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html) of a server, as they come."""

import contextlib
import http.client
from collections.abc import Iterator, Mapping

from provisioner.cli.client import failures
from provisioner.cli.client.server import Server
from provisioner.cli.client.transport import new_connection

SILENT_SECONDS = 60.0
"""The server says every quarter of a minute that it is still there."""
_LONGEST_LINE = 1 << 20
_REFUSAL = 64 << 10


def names(server: Server, headers: Mapping[str, bytes], path: str) -> Iterator[str]:
    """The name of each event; an empty one for a sign of life. Ends when the stream does, or breaks off.

    On a connection of its own, since it lasts. Raises what the server refuses it with, and Unreachable, Untrusted.
    """
    opened = new_connection(server)
    with contextlib.closing(opened):
        try:
            opened.timeout = SILENT_SECONDS
            opened.connect()
        except (OSError, http.client.HTTPException) as error:
            raise failures.no_connection(server, error) from error
        try:
            opened.putrequest("GET", server.prefix + path)
            for name, value in {**headers, "Accept": b"text/event-stream"}.items():
                opened.putheader(name, value)
            opened.endheaders()
            response = opened.getresponse()
            if response.headers.get_content_type() != "text/event-stream":
                # A refusal; or a server that knows no streams, and has told what there is.
                failures.answer(server, response, response.read(_REFUSAL))
                return
        except (OSError, http.client.HTTPException) as error:
            raise failures.no_answer(server, error, changes=False) from error
        with response, contextlib.suppress(OSError, http.client.HTTPException):
            yield from _names(response)


def _names(response: http.client.HTTPResponse) -> Iterator[str]:
    name = ""
    while line := response.readline(_LONGEST_LINE):
        text = line.decode(errors="replace").rstrip("\r\n")
        if text.startswith("event:"):
            name = text.removeprefix("event:").strip()
        elif text.startswith(":"):
            yield ""
        elif not text and name:
            yield name
            name = ""
