"""Headless Chromium for tests of pages: a tab that keeps what a page says and asks for."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
WHY = "playwright or Chromium is not installed"
try:
    from playwright.sync_api import Browser, Page, sync_playwright
except ModuleNotFoundError:
    pytest.skip(WHY, allow_module_level=True)
if CHROMIUM is None:
    pytest.skip(WHY, allow_module_level=True)

WIDE, PHONE = (1440, 900), (390, 844)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start the browser, and close it."""
    with sync_playwright() as play:
        # a container's root has no sandbox of Chromium's own
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Tab:
    """A page in a tab, with what it said and asked for."""

    def __init__(
        self, browser: Browser, file: Path, size: tuple[int, int] = WIDE, scheme: str = "light"
    ) -> None:
        width, height = size
        self.context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=scheme,  # type: ignore[arg-type]
        )
        self.page: Page = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(file.as_uri())

    def wait_until(self, condition: str) -> None:
        """Wait for an expression to be true, for 5 seconds at most.

        `wait_for_function` evaluates it in the page, whose policy forbids that.
        """
        for _ in range(100):
            if self.page.evaluate(condition):
                return
            self.page.wait_for_timeout(50)
        pytest.fail(f"not so after 5 s: {condition}")
