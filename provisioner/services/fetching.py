"""What somebody named by URL, fetched: only http and https, few redirects, never from https to http."""

import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from provisioner.errors import InvalidInput, MediaMissing

_SILENT_SECONDS = 30
_SMALL_SECONDS, _LONGEST_SECONDS = 30, 6 * 3600
_MOST_REDIRECTS = 3
# Of a URL's odd forms urllib says ValueError, of a host's name UnicodeError, of a strange answer HTTPException.
_FAULTS = (OSError, http.client.HTTPException, UnicodeError, ValueError)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """A mirror may send us to another mirror, not to another protocol, nor away from TLS."""

    max_redirections = _MOST_REDIRECTS
    max_repeats = 2

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        if not newurl.startswith(("https://",) if req.full_url.startswith("https://") else ("http://", "https://")):
            fp.close()
            raise urllib.error.URLError(f"it leads on to {newurl[:200]}, which is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


_OPENER = urllib.request.build_opener(_Redirects)


class Body:
    """An answer's body: within a size and a time, and whatever goes wrong is MediaMissing."""

    def __init__(self, answer: http.client.HTTPResponse, url: str, where: str, most: int | None, seconds: int) -> None:
        self._answer, self._url, self._where = answer, url, where
        self._most, self._seconds, self._end = most, seconds, time.monotonic() + seconds
        self._taken = 0

    def read(self, size: int) -> bytes:
        """The next bytes, at most so many; none at its end. Raises MediaMissing."""
        try:
            chunk = self._answer.read1(size)
        except _FAULTS as error:
            raise _missing(self._url, self._where, error) from error
        self._taken += len(chunk)
        if self._most is not None and self._taken > self._most:
            raise _missing(self._url, self._where, f"longer than {self._most} bytes, so not what it is called")
        if time.monotonic() > self._end:
            raise _missing(self._url, self._where, f"not whole within {self._seconds} s")
        return chunk


@contextmanager
def opened(
    url: str, where: str, most: int | None = None, seconds: int | None = None
) -> Iterator[tuple[Body, int | None]]:
    """The body to read, and its length where the server says it; ``most`` bytes of it, if that is limited.

    Raises InvalidInput, MediaMissing.
    """
    if not url.startswith(("http://", "https://")):
        raise InvalidInput(
            f"{url!r} is neither a file nor an http URL", where=where, hint="download it, then give the file"
        )
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "provisioner"})  # noqa: S310 - scheme checked
        answer = _OPENER.open(request, timeout=_SILENT_SECONDS)
    except _FAULTS as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it is the answer too, and holds the connection
        raise _missing(url, where, error) from error
    with answer:
        total = _length(answer, url, where)
        yield Body(answer, url, where, most, _LONGEST_SECONDS if seconds is None else seconds), total


def _length(answer: http.client.HTTPResponse, url: str, where: str) -> int | None:
    said = answer.headers.get("Content-Length")
    try:
        return int(said) if said else None
    except ValueError as error:
        raise _missing(url, where, error) from error


def _missing(url: str, where: str, why: str | BaseException) -> MediaMissing:
    reason = str(getattr(why, "reason", why))[:500]
    return MediaMissing(f"{url}: {reason}", where=where, hint="check the URL, then try again")


def text(url: str, where: str, most: int) -> str | None:
    """A small text of a mirror; None if it has none of that name. Raises InvalidInput, MediaMissing."""
    read = bytearray()
    try:
        with opened(url, where, most, _SMALL_SECONDS) as (body, _):
            while chunk := body.read(most + 1):
                read += chunk
    except MediaMissing as error:
        cause = error.__cause__
        if isinstance(cause, urllib.error.HTTPError) and cause.code in {403, 404, 410}:
            return None
        raise
    return read.decode(errors="replace")
