"""Chromium under Selenium: two sizes, light and dark, and what a page must not do."""

from __future__ import annotations

import functools
import http.server
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

__all__ = ["LOOKS", "Browser", "browser", "served"]

LOOKS = [(width, scheme) for width in (1280, 390) for scheme in ("light", "dark")]
"""A desk and a phone, in pixels, and which colours their system prefers."""

_ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)

_ASK = """
const wide = document.documentElement.scrollWidth - window.innerWidth;
const broken = [...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src);
const asked = performance.getEntriesByType("resource").map(e => e.name);
return {wide, broken, asked};
"""


class Browser:
    """A window."""

    def __init__(self, driver: Any, folder: Path) -> None:
        self.driver = driver
        self._folder = folder

    def look(self, width: int, scheme: str, height: int = 900) -> None:
        """Take a size, and the colours that the system prefers."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        preferred = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": preferred})

    def open(self, url: str) -> None:
        """Open a page and wait until it is there."""
        self.driver.get(url)

    def faults(self, url: str) -> list[str]:
        """Tell what is wrong with the page: wider than the window, asks elsewhere, pictures or scripts that fail."""
        found = self.driver.execute_script(_ASK)
        wrong = [f"{found['wide']} pixels wider than the window"] if found["wide"] > 0 else []
        wrong += [f"no picture: {each}" for each in found["broken"]]
        here = url.partition("://")[2].partition("/")[0]
        wrong += [f"asks elsewhere: {each}" for each in found["asked"] if f"//{here}/" not in each]
        wrong += [each["message"] for each in self.driver.get_log("browser") if each["level"] == "SEVERE"]
        return [each for each in wrong if "favicon.ico" not in each]

    def shoot(self, name: str) -> None:
        """Write what is seen to a file."""
        self.driver.save_screenshot(str(self._folder / f"{name}.png"))


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """Start one whose pictures go to *folder*."""
    with tempfile.TemporaryDirectory() as profile:
        options = webdriver.ChromeOptions()
        for argument in (*_ARGUMENTS, f"--user-data-dir={profile}"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
        try:
            yield Browser(driver, folder)
        finally:
            driver.quit()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve *folder* on 127.0.0.1; its address."""
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
