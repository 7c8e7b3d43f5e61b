"""What stands around every page: layout, navigation, filters of the templates, and the headers."""

import difflib
import hashlib
import json
from datetime import UTC, datetime
from importlib import resources
from typing import TYPE_CHECKING, Any

from flask import Blueprint, Response, render_template, request
from flask_wtf.csrf import generate_csrf
from markupsafe import Markup, escape

from provisioner import __version__
from provisioner.core.content import dump_yaml
from provisioner.core.moments import duration
from provisioner.web.ui import highlight, notices

if TYPE_CHECKING:
    from provisioner.web.ui.pages import Visit

_STATIC = resources.files("provisioner.web.ui") / "static"
FILES = {
    "app.css": "text/css; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "htmx.min.js": "text/javascript; charset=utf-8",
    "sse.min.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
_CONTENT = {name: (_STATIC / name).read_bytes() for name in FILES}
STAMP = hashlib.sha256(b"".join(_CONTENT.values())).hexdigest()[:12]
"""Names the files as they are: their addresses change with them, so browsers may keep them for good."""
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {"Content-Security-Policy": _POLICY, "Referrer-Policy": "same-origin"}
THEMES = ("auto", "light", "dark")
# What is offered in the navigation: title, path, and the noun that one must be allowed to read.
NAVIGATION = (
    ("Overview", "/", None),
    ("Health", "/health", "machines"),
    ("Machines", "/machines", "machines"),
    ("Builds", "/builds", "builds"),
    ("Rack mode", "/rack", "discoveries"),
    ("Profiles", "/profiles", "profiles"),
    ("Templates", "/templates", "templates"),
    ("Distros", "/distros", "distros"),
    ("Images", "/images", "images"),
    ("Networks", "/networks", "subnets"),
    ("History", "/history", "history"),
    ("Users", "/users", "users"),
    ("Tokens", "/tokens", "tokens"),
    ("Webhooks", "/webhooks", "webhooks"),
    ("Settings", "/settings", None),
    ("Help", "/help", None),
)


def blueprint() -> Blueprint:
    """The templates with their filters, and the static files."""
    ui = Blueprint("ui", "provisioner.web.ui", template_folder="templates")
    ui.add_url_rule("/static/<stamp>/<name>", "static", _file)
    for function in (
        when,
        since,
        lasted,
        as_yaml,
        yaml_text,
        commands,
        differ,
        highlight.code,
        highlight.coloured,
        highlight.diff,
    ):
        ui.add_app_template_filter(function)
    return ui


def render(visit: "Visit", template: str, status: int, context: dict[str, Any]) -> Response:
    """A page with its headers."""
    theme = request.cookies.get("theme", "auto")
    around = {
        "visit": visit,
        "who": visit.principal,
        "may": visit.may,
        "navigation": [each for each in NAVIGATION if each[2] is None or visit.may(each[2], "read")],
        "notices": [] if visit.is_fragment else notices.heard(),
        "csrf_token": generate_csrf,
        "static": f"/static/{STAMP}",
        "theme": theme if theme in THEMES else "auto",
        "version": __version__,
        "here": request.path,
    }
    html = render_template(template, **around, **context)
    return Response(html, status, content_type="text/html; charset=utf-8", headers=HEADERS)


def _file(stamp: str, name: str) -> Response:
    if name not in FILES:
        return Response("no such file\n", 404, content_type="text/plain; charset=utf-8")
    lasting = "public, max-age=31536000, immutable" if stamp == STAMP else "no-cache"
    return Response(_CONTENT[name], content_type=FILES[name], headers={"Cache-Control": lasting})


def when(text: str | datetime | None) -> dict[str, str]:
    """A moment for the macro ``time``: as machines read it, and as it stands there until the script has the zone."""
    if text is None or text == "":
        return {"iso": "", "utc": ""}
    moment = text if isinstance(text, datetime) else datetime.fromisoformat(text)
    moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    return {"iso": moment.isoformat(timespec="seconds"), "utc": f"{moment:%Y-%m-%d %H:%M:%S} UTC"}


def since(text: str | datetime) -> float:
    """Seconds from a moment until now."""
    moment = text if isinstance(text, datetime) else datetime.fromisoformat(text)
    return (datetime.now(UTC) - (moment if moment.tzinfo else moment.replace(tzinfo=UTC))).total_seconds()


def lasted(seconds: float | None) -> str:
    """A duration in words: ``42 s``, ``3 min 5 s``, ``2 h 10 min``, ``3 d 4 h``; empty for None."""
    return "" if seconds is None else duration(seconds)


def as_yaml(value: Any) -> str:
    """A value as one writes it in YAML or JSON, on one line."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def yaml_text(value: Any) -> str:
    """A mapping or a list as YAML, on as many lines as it takes."""
    return dump_yaml(value)


def differ(texts: tuple[str, str]) -> str:
    """The unified diff from one text to the other."""
    old, new = (text.splitlines() for text in texts)
    return "\n".join(difflib.unified_diff(old, new, "before", "after", lineterm=""))


def commands(text: str) -> Markup:
    """A sentence of ours in which commands stand between backticks, with the commands set as code."""
    parts = str(text).split("`")
    if len(parts) % 2 == 0:  # one is left over: it is no pair of ours
        return escape(text)
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if place % 2 else escape(part) for place, part in enumerate(parts)
    )
