"""The code in README, docs, and examples runs as printed.

Each page's blocks run in order, in a folder with sample data: Python in one namespace, `colortrack` in process,
other commands in a shell. Comments in a page control that:

    <!-- skip-test: why -->    the next block only has to be valid
    <!-- test-setup ... -->    Python that runs here, and that readers do not see
"""

from __future__ import annotations

import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import fiftyone as fo
import numpy as np
import pytest
import yaml
from PIL import Image

from fiftyone_colortrack.cli import app
from fiftyone_colortrack.video import VideoFile, write_video

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(
    r"<!-- (?P<comment>skip-test|test-setup)(?P<text>.*?)-->"
    r"|^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<code>.*?)^(?P=indent)```",
    re.DOTALL | re.MULTILINE,
)
SHELL = ("", "bash", "console", "sh", "shell")


class Block(NamedTuple):
    """Code of a page."""

    language: str
    code: str
    skipped: bool


def blocks(page: Path) -> Iterator[Block]:
    skipped = False
    for match in BLOCK.finditer(page.read_text()):
        if match["comment"] == "test-setup":
            yield Block("python", textwrap.dedent(match["text"]), False)
        elif match["comment"]:
            skipped = True
        else:
            yield Block(match["language"], textwrap.dedent(match["code"]), skipped)
            skipped = False


def colortrack(line: str, run: bool) -> None:
    """Run a command, or only parse it."""
    tokens = shlex.split(line, comments=True)[1:]
    options = {"print_error": False, "exit_on_error": False}
    if run:
        app(tokens, result_action="return_value", **options)
    else:
        app.parse_args(tokens, **options)


def commands(code: str) -> list[str]:
    """The lines of a shell block, without comments; a line that ends in a backslash goes on."""
    lines = code.replace("\\\n", " ").splitlines()
    return [line.removeprefix("$ ") for line in lines if line.strip() and not line.lstrip().startswith("#")]


@pytest.fixture
def folder(
    squares: tuple[np.ndarray, np.ndarray],
    davis_squares: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    database: None,
) -> Iterator[Path]:
    """The reader's working folder: DAVIS with two sequences, a folder VIDEOS, a video and its first mask."""
    folder = tmp_path / "reader"
    shutil.copytree(davis_squares, folder / "DAVIS")
    for kind in ("JPEGImages", "Annotations"):
        sequences = folder / "DAVIS" / kind / "480p"
        shutil.copytree(sequences / "squares", sequences / "bus")
        (sequences / "squares").rename(sequences / "bear")
    (folder / "DAVIS/ImageSets/2017/val.txt").write_text("bear\nbus\n")
    for path in ("cyclist.mp4", "VIDEOS/one.mp4", "VIDEOS/two.mp4"):
        write_video(folder / path, squares[0], 10)
    Image.fromarray(squares[1][0]).save(folder / "first-frame.png")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("FIFTYONE_COLORTRACK_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(fo, "launch_app", lambda *_, **__: Session())
    before = set(fo.list_datasets())
    yield folder
    for name in set(fo.list_datasets()) - before:
        fo.delete_dataset(name)


class Session:
    """The App, which no reader closes here."""

    def wait(self) -> None:
        pass


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code_runs_as_printed(page: Path, folder: Path) -> None:
    namespace: dict[str, Any] = {"__name__": page.stem}
    for language, code, skipped in blocks(page):
        if language == "python":
            compiled = compile(code, page.name, "exec")
            if not skipped:
                exec(compiled, namespace)
        elif language in SHELL:
            for line in commands(code):
                if line.startswith("colortrack "):
                    colortrack(line, run=not skipped)
                elif not skipped:
                    subprocess.run(line, shell=True, check=True)


def test_the_notebook_runs(folder: Path) -> None:
    notebook = json.loads((ROOT / "examples" / "first_use.ipynb").read_text())
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] for cell in cells)
    namespace: dict[str, Any] = {}
    for cell in cells:
        exec("".join(cell["source"]), namespace)


def test_the_example_tracks_a_video(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["cyclist.mp4", "first-frame.png", "tracked.mp4", "--model", "lab", "--input-size", "64"]
    monkeypatch.setattr(sys, "argv", ["track_video.py", *arguments])
    runpy.run_path(str(ROOT / "examples" / "track_video.py"), run_name="__main__")
    assert len(VideoFile(folder / "tracked.mp4")) == 8


USER_CODE = """
from fiftyone_colortrack import Tracker, colorize, evaluate_tracks, load_davis, propagate, suggest, train

dataset = load_davis("DAVIS", "my-videos", sequences=["bear"])
report = propagate(dataset, "frames.ground_truth", "frames.tracks", model="lab", overwrite=True)
frames: int = report.frames
evaluate_tracks(dataset, "frames.tracks", "frames.ground_truth", "eval")
suggest(dataset, "frames.tracks", count=2)
train("VIDEOS", name="mine", steps=1)
colorize(dataset, overwrit=True)
"""


@pytest.mark.soak
@pytest.mark.skipif(find_spec("mypy") is None, reason="needs mypy")
def test_type_checkers_see_the_signatures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "user.py").write_text(USER_CODE)
    monkeypatch.setenv("MYPYPATH", str(ROOT))
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "user.py"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    errors = [line for line in result.stdout.splitlines() if "error:" in line]
    assert len(errors) == 1, result.stdout
    assert "overwrit" in errors[0]


@pytest.fixture
def hooks(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script that makes the references from the code."""
    monkeypatch.syspath_prepend(ROOT / "scripts")
    return import_module("docs_hooks")


def test_every_operator_and_command_is_described(hooks: Any) -> None:
    pages = {name: (ROOT / "docs" / f"{name}.md").read_text() for name in ("operators", "cli")}
    made = {name: hooks.on_page_markdown(page) for name, page in pages.items()}
    names = yaml.safe_load((ROOT / "fiftyone.yml").read_text())
    assert [n for n in names["operators"] + names["panels"] if f"`{n}`" not in made["operators"]] == []
    commands = [name for name in app if not name.startswith("-")]
    assert [name for name in commands if f"## colortrack {name}\n" not in made["cli"]] == []
    pages |= {page.name: page.read_text() for page in PAGES} | made
    lines = [(name, line) for name, text in pages.items() for line in text.splitlines()]
    assert [line for line in lines if line[1].startswith("|") and re.search(r"\|[ \t]*\|", line[1])] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text())
    assert [target for target in targets if not (page.parent / target).exists()] == []
