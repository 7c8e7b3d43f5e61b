"""What a thread does with a request that is here: parse it, let the application answer, write the answer."""

import json
from http import HTTPStatus
from typing import Any

import structlog
from gunicorn import http
from gunicorn.http import errors, wsgi
from werkzeug.http import HTTP_STATUS_CODES

from provisioner.web.server.connection import Connection
from provisioner.web.server.gathering import Gathered
from provisioner.web.server.streams import TOLD, Source

log = structlog.get_logger()
_STATUS: dict[type[Exception], HTTPStatus] = {
    errors.LimitRequestLine: HTTPStatus.REQUEST_URI_TOO_LONG,
    errors.LimitRequestHeaders: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    errors.UnsupportedTransferCoding: HTTPStatus.NOT_IMPLEMENTED,
    errors.ExpectationFailed: HTTPStatus.EXPECTATION_FAILED,
}
_HINTS = {
    HTTPStatus.BAD_REQUEST: "send an HTTP/1.1 request as RFC 9112 has it",
    HTTPStatus.REQUEST_TIMEOUT: "send the whole request without pauses",
    HTTPStatus.REQUEST_URI_TOO_LONG: "send less in the URL",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: "send fewer and shorter header lines",
    HTTPStatus.SERVICE_UNAVAILABLE: "ask again in a few seconds",
}


_LOOK = "the server's log has the details"


def refusal(status: HTTPStatus, detail: str, hint: str = "") -> bytes:
    """A whole answer that refuses what is no request for any application, as problem+json (RFC 9457)."""
    phrase = HTTP_STATUS_CODES[status]  # those of HTTPStatus change with Python's version
    body = json.dumps(
        {
            "type": "about:blank",
            "title": phrase,
            "status": status.value,
            "code": phrase.lower().replace(" ", "-"),
            "detail": detail,
            "hint": hint or _HINTS.get(status, ""),
            "where": "",
            "pointer": "",
        }
    )
    later = "Retry-After: 5\r\n" if status is HTTPStatus.SERVICE_UNAVAILABLE else ""
    head = f"HTTP/1.1 {status.value} {phrase}\r\nContent-Type: application/problem+json\r\n{later}"
    return f"{head}Connection: close\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


def answer(worker: Any, conn: Connection, gathered: Gathered) -> bool:
    """Answer one request; whether the connection may have another. Raises OSError when the client is gone."""
    source = Source(gathered.data, None if gathered.whole else conn.sock)
    parser = http.get_parser(worker.cfg, source, conn.peer)
    try:
        request = next(parser)
    except (errors.ParseException, errors.NoMoreData, StopIteration) as error:
        return _refuse(conn, error)
    if conn.told_to_go_on:
        request._expected_100_continue = False  # noqa: SLF001 - gunicorn would say it once more
    written = _run(worker, conn, request, close=not worker.alive or not gathered.whole)
    if not written or not gathered.whole:
        return False
    # A parser that sees another end of the request than we did was perhaps led astray: what follows is not trusted.
    return bool(parser.finish_body()) and not parser.unreader.take_buffered() and not source.left


def _refuse(conn: Connection, error: Exception) -> bool:
    status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), HTTPStatus.BAD_REQUEST)
    log.debug("no HTTP request", peer=str(conn.peer), error=str(error)[:200])
    conn.outlet.sendall(refusal(status, "this is not a request that can be answered"))
    return False


def _run(worker: Any, conn: Connection, request: Any, *, close: bool) -> bool:
    response, environ = wsgi.create(request, conn.outlet, conn.peer, conn.server, worker.cfg)
    environ["wsgi.multithread"] = True
    if close:
        response.force_close()
    try:
        parts = worker.wsgi(environ, response.start_response)
        conn.outlet.told = environ.get(TOLD)
        _write(conn, response, parts)
    except errors.ParseException:
        # A header that the application made is none: its mistake, and nothing of the answer is out yet.
        log.exception("an answer failed")
        conn.outlet.sendall(refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "something went wrong here", _LOOK))
        return False
    return not response.should_close()


def _write(conn: Connection, response: Any, parts: Any) -> None:
    try:
        # A stream's lines go out one by one; an answer of known length may be left to the loop.
        conn.outlet.keeps = response.response_length is not None
        if isinstance(parts, wsgi.FileWrapper):
            response.write_file(parts)
        else:
            for part in parts:
                response.write(part)
        response.close()
    finally:
        conn.outlet.keeps = True
        if hasattr(parts, "close"):
            parts.close()
