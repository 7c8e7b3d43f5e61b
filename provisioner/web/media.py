"""Media: kernels, initrds and images by SHA-256, and distro trees, sent by the kernel (sendfile)."""

import os
import time

from flask import Flask, Response, request
from werkzeug.wsgi import wrap_file

from provisioner import metrics
from provisioner.errors import NotFound
from provisioner.services import media, published, traffic
from provisioner.services.site import Site
from provisioner.web.common import new_app, source
from provisioner.web.server.streams import TOLD, Told

LONGEST_BODY = 1024
_NAME_CHARACTERS = 128


def create(site: Site) -> Flask:
    """The media application. GET and HEAD only, with Range and ETag; no listing, no dotfile."""
    app = new_app("provisioner.media", site, longest_body=LONGEST_BODY)
    meter = traffic.Meter(site, metrics.note_dropped)

    @app.get("/media/sha256/<sha256>/<name>")
    def stored(sha256: str, name: str) -> Response:
        descriptor = media.open_beneath(site.media_dir / "sha256", f"{sha256[:2]}/{sha256}")
        request.environ[TOLD] = _counted(meter, "media", name)
        return _send(descriptor, etag=sha256)

    @app.get("/media/<distro>/<path:path>")
    def tree(distro: str, path: str) -> Response:
        root = published.tree(site, distro)
        request.environ[TOLD] = _counted(meter, "tree")
        return _send(None if root is None else media.open_beneath(root, path))

    return app


def _counted(meter: traffic.Meter, way: str, name: str = "") -> Told:
    """What to do when a file has gone out: count it, and note a sealed one once in the timeline of the build."""
    begun, peer, name = time.monotonic(), source(), name[:_NAME_CHARACTERS]

    def told(sent: int, whole: bool) -> None:
        metrics.media_sent(way, "complete" if whole else "aborted", sent)
        seconds = time.monotonic() - begun
        event = None
        if name and whole:
            message = f"{name}, {sent} bytes by HTTP in {seconds:.1f} s"
            event = traffic.Told(traffic.MEDIA, message, once=name)
        elif name:
            event = traffic.Told(traffic.MEDIA, f"{name}: broke off after {sent} bytes by HTTP, {seconds:.1f} s")
        meter.put(peer, way, sent, event)

    return told


def _send(descriptor: int | None, etag: str | None = None) -> Response:
    if descriptor is None:
        raise NotFound("there is no such file", hint="")
    file = os.fdopen(descriptor, "rb")
    status = os.fstat(descriptor)
    response = Response(content_type="application/octet-stream")
    response.set_etag(etag or f"{status.st_ino:x}-{status.st_size:x}-{status.st_mtime_ns:x}")
    response.last_modified = int(status.st_mtime)  # type: ignore[assignment]
    response.headers["Accept-Ranges"] = "bytes"
    response.headers["Cache-Control"] = "no-cache"
    begin, end = 0, status.st_size
    if _unchanged(response):
        file.close()
        response.status_code = 304
        return response
    part = _part(status.st_size) if _range_applies(response) else None
    if part is not None:
        begin, end = part
        if begin >= end:
            file.close()
            refused = Response(status=416)
            refused.headers["Content-Range"] = f"bytes */{status.st_size}"
            return refused
        response.status_code = 206
        response.headers["Content-Range"] = f"bytes {begin}-{end - 1}/{status.st_size}"
    # gunicorn sends from the file's position, as many bytes as Content-Length says.
    file.seek(begin)
    response.content_length = end - begin
    response.direct_passthrough = True
    response.response = wrap_file(request.environ, file, 1 << 18)
    return response


def _part(size: int) -> tuple[int, int] | None:
    """First byte and end of the range asked for, empty if it lies beyond the file; None for the whole file.

    RFC 9110, 14.2: what is not a range of bytes is ignored, and several ranges need not be served.
    """
    asked = request.range
    if request.method != "GET" or asked is None or asked.units != "bytes" or len(asked.ranges) != 1:
        return None
    begin, end = asked.ranges[0]
    if begin < 0:
        begin = max(0, size + begin)
    return begin, size if end is None else min(end, size)


def _range_applies(response: Response) -> bool:
    """RFC 9110, 13.1.5: with If-Range, the range counts only for the same file."""
    condition = request.if_range
    if condition.etag is not None:
        return condition.etag == response.get_etag()[0]
    return condition.date is None or condition.date == response.last_modified


def _unchanged(response: Response) -> bool:
    etag = response.get_etag()[0]
    return etag is not None and request.if_none_match.contains(etag)
