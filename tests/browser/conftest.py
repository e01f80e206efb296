"""The real App in a real browser. COLORTRACK_SCREENSHOTS names a folder that keeps the tests' pictures."""

from __future__ import annotations

import io
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import fiftyone as fo
import fiftyone.constants as foc
import pytest
from PIL import Image

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SECONDS_TO_START = 300
MILLISECONDS_TO_WAIT = 240_000
"""For a machine with other work to do: nothing waits longer than it must."""


@pytest.fixture(scope="module")
def server(database: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the App, which knows no models but those of the package."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = [sys.executable, "main.py", "--address", "127.0.0.1", "--port", str(port)]
    log = subprocess.DEVNULL
    home = {"FIFTYONE_COLORTRACK_HOME": str(tmp_path_factory.mktemp("colortrack"))}
    with subprocess.Popen(
        command, cwd=foc.SERVER_DIR, env={**os.environ, **home}, stdout=log, stderr=log
    ) as process:
        try:
            _wait_for(port, process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def _wait_for(port: int, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.1)
    pytest.fail("the App's server does not start")


@pytest.fixture(scope="module")
def browser() -> Iterator:
    """Chromium, without a window; closed before other tests, which Playwright's event loop would disturb."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium (Debian: apt install chromium)")
    with playwright.sync_playwright() as browsers:
        # Rendering in software: neither a GPU nor a display is needed.
        graphics = ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
        browser = browsers.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *graphics])
        yield browser
        browser.close()


@pytest.fixture
def page(browser, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator:
    """A new visitor's page; what it shows at the end of the test is kept with the screenshots."""
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.set_default_timeout(MILLISECONDS_TO_WAIT)
    page.add_init_script("localStorage.setItem('fiftyone-enterprise-tooltip-seen', 'true')")
    yield page
    _save(page.screenshot(), tmp_path, f"end-{request.node.name}")
    page.close()


@pytest.fixture
def open_dataset(server: str, page) -> Callable[[fo.Dataset], None]:
    """Shows a dataset on the page."""
    return lambda dataset: page.goto(f"{server}/datasets/{dataset.name}")


@pytest.fixture
def screenshot(page, tmp_path: Path) -> Callable[..., None]:
    """Saves a picture of the page, or of a part of it, for people to look at."""

    def save(name: str, part: str = "body") -> None:
        _save(page.locator(part).screenshot(animations="disabled"), tmp_path, name)

    return save


def _save(picture: bytes, tmp_path: Path, name: str) -> None:
    """In 256 colors, as small as the documentation's; an octree also keeps colors that are rare."""
    folder = Path(os.environ.get("COLORTRACK_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    few = Image.open(io.BytesIO(picture)).convert("RGB").quantize(method=Image.Quantize.FASTOCTREE)
    few.save(folder / f"{name}.png", optimize=True)
