"""A tab of a real browser, and all that it complains about."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import axe_playwright_python
from playwright.sync_api import Page, Response

_AXE = Path(axe_playwright_python.__file__).with_name("axe.min.js")
WIDE, PHONE = 1280, 390


@dataclass
class Eyes:
    """A tab of a browser, and all that was wrong in it."""

    page: Page
    base: str
    wrong: list[str] = field(default_factory=list)
    expected: set[int] = field(default_factory=set)
    """Statuses that this test asks for: a refusal is logged by the browser, too."""

    def __post_init__(self) -> None:
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.wrong.append(f"script: {error}"))
        self.page.on("dialog", self.dialogs)
        self.page.on("request", self._request)
        self.page.on("response", self._response)

    def dialogs(self, dialog: Any) -> None:
        """A dialog opened: by a stranger's script, for ours open none."""
        self.wrong.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _console(self, message: Any) -> None:
        if message.type in {"error", "warning"} and "Failed to load resource" not in message.text:
            self.wrong.append(f"{message.type}: {message.text}")

    def _request(self, request: Any) -> None:
        if not request.url.startswith((f"{self.base}/", "data:")):
            self.wrong.append(f"another host: {request.url}")

    def _response(self, response: Response) -> None:
        if response.status >= 400 and response.status not in self.expected:
            self.wrong.append(f"{response.status} {response.url}")

    def open(self, path: str) -> Page:
        """Go to a page of the service."""
        self.page.goto(self.base + path)
        return self.page

    def axe(self) -> list[str]:
        """What axe-core finds serious or critical (WCAG 2.2 A and AA and its best practices)."""
        session = self.page.context.new_cdp_session(self.page)
        # Not as a script of the page: its policy lets none in.
        session.send("Runtime.evaluate", {"expression": _AXE.read_text()})
        session.detach()
        found = self.page.evaluate(
            "async () => (await axe.run()).violations.map(v => ({impact: v.impact, id: v.id, nodes: v.nodes.slice(0, 5)"
            ".map(n => n.html.slice(0, 200) + ' ' + [...n.any, ...n.all].map(c => c.message).join('; '))}))"
        )
        return [json.dumps(each) for each in found if each["impact"] in {"serious", "critical"}]

    def sideways(self) -> int:
        """By how many pixels the page is wider than its window."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))

    def picture(self, name: str) -> None:
        """A picture of the page, in ``docs/screenshots/`` where SCREENSHOTS names that directory."""
        place = os.environ.get("SCREENSHOTS")
        if place:
            Path(place).mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=Path(place, f"{name}.png"))


Opened = Callable[..., Eyes]
