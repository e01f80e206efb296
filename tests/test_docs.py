"""The documentation names what there is, and its examples are valid."""

from __future__ import annotations

import re
import shlex
import textwrap
from pathlib import Path

import pytest
import typer
import yaml

from fiftyone_colortrack.cli import app

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a language, indented or not."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```", page.read_text(), re.DOTALL | re.MULTILINE)
    return [textwrap.dedent(code) for _, code in found]


def commands() -> list[str]:
    """Every line of the pages that runs `colortrack`."""
    return [
        line
        for page in PAGES
        for block in blocks(page, "")
        for line in block.splitlines()
        if line.startswith("colortrack ")
    ]


GUIDES = [page for page in PAGES if page.name != "architecture.md"]  # which has contracts, not code


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.name)
def test_python_examples_compile(page: Path):
    for code in blocks(page, "python"):
        compile(code, str(page), "exec")


@pytest.mark.parametrize("line", commands())
def test_commands_have_the_options_that_the_pages_use(line: str):
    command = typer.main.get_command(app)
    words = shlex.split(line.partition("#")[0])[1:]
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    command.make_context(command.name, words)  # raises on an option or argument that does not exist


def test_every_operator_is_described():
    table = (ROOT / "docs" / "operators.md").read_text()
    names = yaml.safe_load((ROOT / "fiftyone.yml").read_text())["operators"]
    assert [name for name in names if f"`{name}`" not in table] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path):
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text())
    assert [target for target in targets if not (page.parent / target).exists()] == []
