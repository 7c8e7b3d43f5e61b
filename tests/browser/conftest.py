"""A real Chromium before a real service. Whatever a browser would complain about fails the test."""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import Served
from eyes import PHONE, WIDE, Eyes, Opened
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import BrowserContext, expect, sync_playwright

expect.set_options(timeout=30_000)  # a busy host takes its time; what is right is seen at once
USER, PASSWORD = "jane", "correct horse battery staple"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    """Debian's Chromium, for one module: its loop runs in this thread until it ends, and asyncio allows no other."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("Chromium is not installed")
    with sync_playwright() as playwright:
        # As root it has no sandbox of its own; all it sees is ours.
        running = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture(scope="module")
def login(chromium: Chromium, served: Served) -> Any:
    """What a browser keeps of somebody who logged in, by the form, as an administrator."""
    served.cli("user", "add", USER, "--role", "admin", "--password-file", "-", stdin=f"{PASSWORD}\n")
    context = chromium.new_context(base_url=served.admin)
    page = context.new_page()
    page.goto("/login")
    page.get_by_label("User").fill(USER)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url(f"{served.admin}/")
    kept = context.storage_state()
    context.close()
    return kept


@pytest.fixture
def opened(chromium: Chromium, served: Served, login: Any) -> Iterator[Opened]:
    """Opens tabs; ``opened(width=PHONE, dark=True)``. At the end nothing may have been wrong in any of them."""
    contexts: list[BrowserContext] = []
    tabs: list[Eyes] = []

    def make(*, width: int = WIDE, dark: bool = False, logged_in: bool = True) -> Eyes:
        context = chromium.new_context(
            base_url=served.admin,
            viewport={"width": width, "height": 844 if width == PHONE else 800},
            color_scheme="dark" if dark else "light",
            storage_state=login if logged_in else None,
            has_touch=width == PHONE,
        )
        context.set_default_timeout(30_000)
        contexts.append(context)
        tabs.append(Eyes(context.new_page(), served.admin))
        return tabs[-1]

    yield make
    for context in contexts:
        context.close()
    assert [wrong for tab in tabs for wrong in tab.wrong] == []
