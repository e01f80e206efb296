"""What people do on a page of the App, step by step."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image


def open_video(page, number: int = 0) -> None:
    page.locator("[data-cy=looker]").nth(number).click()
    page.locator("[data-cy=modal] [data-cy=looker]").wait_for()


def open_operator(page, label: str, search: str = "") -> None:
    """Choose an operator in the App's list of all operators."""
    page.locator("[data-cy=action-browse-operations]").first.click()
    page.keyboard.type(search or label)
    page.get_by_text(label, exact=True).last.click()


def choose_folder(page, folder: Path) -> None:
    page.get_by_title("Choose a directory").locator("button").click()
    path = page.get_by_role("dialog").last.locator("input").first
    path.fill(str(folder.parent))
    path.press("Enter")
    page.get_by_text(folder.name, exact=True).last.click()
    page.get_by_role("button", name="Choose", exact=True).click()


def ready(page) -> None:
    """Waits for a form, which is resolved again when its defaults are filled in."""
    page.get_by_text("Required property").first.wait_for(state="detached")
    page.get_by_role("button", name="Execute", disabled=False).wait_for()


def execute(page) -> None:
    page.get_by_role("button", name="Execute").click()


def done(page) -> None:
    page.get_by_role("button", name="Done").click()


def colors_on_screen(page, selector: str) -> dict[tuple[int, ...], int]:
    """The colors of a part of the page, and the number of its pixels that have them."""
    picture = Image.open(io.BytesIO(page.locator(selector).first.screenshot())).convert("RGB")
    colors, counts = np.unique(np.array(picture).reshape(-1, 3), axis=0, return_counts=True)
    return dict(zip(map(tuple, colors.tolist()), counts.tolist(), strict=True))


def wait_until(page, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        page.wait_for_timeout(200)
