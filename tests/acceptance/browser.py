"""A real browser: Debian's chromium, driven through chromium-driver."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

from tests.support import missing

_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--window-size=1280,900",
)

_STATES = """
return [...document.querySelectorAll("#courses > li")]
  .filter((each) => !each.hidden)
  .map((each) => [each.querySelector("h3").textContent, each.querySelector(".state").textContent])
"""


@dataclass
class Page:
    """A browser's only tab."""

    driver: Any

    def open(self, url: str, width: int = 1280, scheme: str = "light") -> None:
        """Open a page as a device of this width shows it, which remembers all it asks for."""
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500},
        )
        self.driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia",
            {"features": [{"name": "prefers-color-scheme", "value": scheme}]},
        )
        # What the page before asks for and says until it is left is none of this one's.
        self.driver.get("about:blank")
        self.requests()
        self.complaints()
        self.driver.get(url)

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def states(self) -> dict[str, str]:
        """Return what is shown: the states by course, in their order."""
        return dict(self.run(_STATES))

    def text(self, selector: str) -> str:
        """Return what a reader sees of an element."""
        return str(self.run("return document.querySelector(arguments[0]).innerText", selector))

    def shows(self, selector: str) -> bool:
        return bool(
            self.run("return document.querySelector(arguments[0]).checkVisibility()", selector)
        )

    def filter(self, words: str) -> None:
        self.run(
            "const box = document.getElementById('words'); box.value = arguments[0];"
            "box.dispatchEvent(new Event('input'))",
            words,
        )

    def overflow(self) -> int:
        """Return by how many pixels the page is wider than its window."""
        return int(
            self.run(
                "return Math.max(...[...document.querySelectorAll('body, body *')]"
                "  .filter((e) => !e.closest('.unseen, svg, label'))"
                "  .map((e) => e.getBoundingClientRect().right),"
                "  document.documentElement.scrollWidth) - window.innerWidth"
            )
        )

    def complaints(self) -> list[str]:
        """Return what the browser has logged since it was asked last: errors and refusals."""
        return [each["message"] for each in self.driver.get_log("browser")]

    def requests(self) -> set[str]:
        """Return the addresses asked for since last time."""
        found = set()
        for each in self.driver.get_log("performance"):
            message = json.loads(each["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                found.add(message["params"]["request"]["url"])
        return {each for each in found if not each.startswith("data:")}

    def picture(self, name: str) -> None:
        """Save a picture of the page where PYSYNC_TEST_PICTURES says, for people to look at."""
        if folder := os.environ.get("PYSYNC_TEST_PICTURES"):
            self.driver.save_screenshot(str(Path(folder, f"{name}.png")))


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    programs = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    for name, path in programs.items():
        if path is None:
            missing(name, "chromium chromium-driver")
    options = Options()
    options.binary_location = str(programs["chromium"])
    for flag in _FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, Service(str(programs["chromedriver"])))
    yield Page(driver)
    driver.quit()
