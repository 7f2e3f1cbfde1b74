"""A notebook of Jupyter's in the browser: a bar, an interrupted cell, a report."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from tests.browser.chromium import Browser
from tests.support.child import end_session
from tests.support.pages import ROOT

__all__ = ["look_at"]

CELLS = [
    "import threading, time\nimport safemp\n\nclass Page:\n    def __init__(self, number):\n"
    "        self.number, self.lock = number, threading.Lock()\n\n"
    "def parse(page):\n    time.sleep(0.02)\n    if page.number == 7:\n        raise ValueError('page 7 is torn')\n"
    "    return page.number\n\npages = [Page(n) for n in range(60)]",
    "results = safemp.map(parse, pages, progress='parsing', on_error='return')\nresults[7]",
    "with safemp.SafeExecutor(2) as executor:\n"
    "    list(executor.map(parse, pages, on_error='return'))\nexecutor.stats()",
    "import socket\nsafemp.inspect({'pages': pages[:2], 'connection': socket.socket()})",
    "safemp.map(time.sleep, [3600, 3600])",
    "print('after the interrupt:', safemp.map(abs, [-1, -2, -3]))",
]

_KERNEL = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}


def look_at(browser: Browser) -> list[str]:
    """Run the cells one after another, the last but one until it is interrupted; return what is wrong."""
    with tempfile.TemporaryDirectory() as folder:
        cells: list[dict[str, object]] = [
            {
                "cell_type": "code",
                "id": f"c{i}",
                "metadata": {},
                "execution_count": None,
                "outputs": [],
                "source": source,
            }
            for i, source in enumerate(CELLS)
        ]
        notebook = {"cells": cells, "metadata": {"kernelspec": _KERNEL}, "nbformat": 4, "nbformat_minor": 5}
        (Path(folder) / "safemp.ipynb").write_text(json.dumps(notebook))
        command = [sys.executable, "-m", "notebook", "--no-browser", "--allow-root", "--port=0", "--ip=127.0.0.1"]
        server = subprocess.Popen(
            [*command, "--IdentityProvider.token=", "--ServerApp.password=", f"--ServerApp.root_dir={folder}"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "JUPYTER_RUNTIME_DIR": folder, "IPYTHONDIR": folder},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            assert server.stderr is not None
            address = next(found[0] for line in server.stderr if (found := re.search(r"http://127.0.0.1:\d+/", line)))
            return _run(browser, f"{address}notebooks/safemp.ipynb")
        finally:
            end_session(server.pid)
            server.wait()
            assert server.stderr is not None
            server.stderr.close()


def _run(browser: Browser, url: str) -> list[str]:
    browser.look(1280, "light", height=2300)
    browser.open(url)
    driver = browser.driver
    if not _until(lambda: "Idle" in _status(browser) and _shown(browser, ".jp-CodeCell .cm-content"), 60):
        return ["the kernel of the notebook does not start"]
    _until(lambda: "Python 3" in driver.find_element(By.TAG_NAME, "body").text, 30)
    time.sleep(2)  # it says that it is idle before it listens
    body = driver.find_element(By.CSS_SELECTOR, ".jp-Notebook")
    next(
        each for each in driver.find_elements(By.CSS_SELECTOR, ".jp-CodeCell .cm-content") if each.is_displayed()
    ).click()
    found = True
    for number, _ in enumerate(CELLS[:-2], 1):
        driver.switch_to.active_element.send_keys(Keys.SHIFT, Keys.ENTER)
        found = found and _until(lambda: f"[{number}]:" in body.text, 60)  # noqa: B023 - it is asked at once
    driver.switch_to.active_element.send_keys(Keys.SHIFT, Keys.ENTER)
    found = found and _until(lambda: "Busy" in _status(browser), 20)
    time.sleep(1)  # the calls are at work
    stop = "[data-command='notebook:interrupt-kernel'], .jp-ToolbarButton button[title*='nterrupt']"
    driver.find_element(By.CSS_SELECTOR, stop).click()
    found = found and _until(lambda: "KeyboardInterrupt" in body.text, 30)
    driver.switch_to.active_element.send_keys(Keys.SHIFT, Keys.ENTER)
    wrong = [] if _until(lambda: "[1, 2, 3]" in body.text, 30) and found else ["the notebook did not come to its end"]
    browser.shoot("notebook")
    return wrong


def _status(browser: Browser) -> str:
    return str(
        browser.driver.execute_script(
            "const e = document.querySelector('.jp-Notebook-ExecutionIndicator'); return e ? e.dataset.status : ''"
        )
    ).capitalize()


def _shown(browser: Browser, selector: str) -> list[WebElement]:
    return [each for each in browser.driver.find_elements(By.CSS_SELECTOR, selector) if each.is_displayed()]


def _until(what: Callable[[], object], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not what():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True
