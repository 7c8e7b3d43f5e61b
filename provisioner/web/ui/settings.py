"""The settings in force. They are changed in the file, the environment or by flags, never here."""

import re
from typing import Any

from flask import Response

from provisioner.settings import Settings
from provisioner.web.ui import csvout
from provisioner.web.ui.pages import Pages, Visit

pages = Pages()
_COLUMNS = ("name", "value", "is_default", "environment", "about")
_PASSWORD = re.compile(r"(?<=:)[^:@/]*(?=@)")


@pages.get("/settings", None)
def index(visit: Visit) -> Response:
    """Each setting with its value and what it is for."""
    visit.principal.require("history", "read")
    settings = visit.site.settings
    rows = [
        {
            "name": name,
            "value": _text(getattr(settings, name)),
            "is_default": getattr(settings, name) == field.get_default(call_default_factory=True),
            "about": field.description,
            "environment": f"PROVISIONER_{name.upper()}",
        }
        for name, field in Settings.model_fields.items()
    ]
    if visit.arg("format") == "csv":
        return csvout.answer("settings", _COLUMNS, rows)
    return visit.render("settings/list.html", rows=rows)


def _text(value: Any) -> str:
    """A value as text; a password in a URL is nobody's business."""
    if value is None or value == "":
        return ""
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    if hasattr(value, "model_dump_json"):
        return str(value.model_dump_json(indent=2))
    return _PASSWORD.sub("***", str(value)) if "://" in str(value) else str(value)
