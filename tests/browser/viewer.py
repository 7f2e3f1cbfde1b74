"""A trace in a viewer of others: speedscope, whose files npm brings (``npm pack speedscope``)."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path

from selenium.webdriver.common.action_chains import ActionChains

from tests.browser.chromium import Browser, served

__all__ = ["look_at"]


def look_at(browser: Browser, release: Path, trace: Path) -> list[str]:
    """Open *trace* there; return what is wrong."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(release, folder, dirs_exist_ok=True)
        shutil.copy(trace, Path(folder) / "run.json")
        with served(Path(folder)) as address:
            browser.look(1280, "light", height=240)
            browser.open(f"{address}/index.html#profileURL={address}/run.json&title=run.json")
            deadline = time.monotonic() + 30
            while "work" not in (text := browser.driver.page_source) and time.monotonic() < deadline:
                time.sleep(0.2)
            ActionChains(browser.driver).send_keys("n").perform()  # the first worker, behind the caller
            time.sleep(1)  # it draws on a canvas, and does not say when
            browser.shoot("trace-speedscope")
    return [] if "error" not in text.lower() else ["speedscope does not take the trace"]
