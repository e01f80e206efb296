"""MkDocs hook: makes the references of operators and of the command line from the code.

A page that contains `<!-- reference: operators -->` or `<!-- reference: cli -->` gets the reference in that place.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

MARK = re.compile(r"<!-- reference: (\w+) -->")


def on_startup(**_: Any) -> None:
    """Use the code of this checkout, and no database (an event of MkDocs)."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    os.environ["FIFTYONE_DISABLE_SERVICES"] = "1"
    os.environ.pop("FIFTYONE_DATABASE_URI", None)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the marks of a page (an event of MkDocs)."""
    return MARK.sub(lambda match: {"operators": operators, "cli": cli}[match[1]](), markdown)


def operators() -> str:
    """The operators and the panel, with their parameters, in Markdown."""
    from fiftyone.operators import PanelConfig

    from fiftyone_colortrack.plugin import CLASSES
    from fiftyone_colortrack.plugin.params import PARAMETERS

    parts = []
    configs = [cls().config for cls in CLASSES]
    for config in sorted(configs, key=lambda c: not isinstance(c, PanelConfig) and c.name not in PARAMETERS):
        panel = isinstance(config, PanelConfig)
        text = config.help_markdown.strip() if panel else f"{config.description}."
        parts += [f"## {config.label}", f"`{config.name}`{' (panel)' if panel else ''}", text]
        rows = PARAMETERS.get(config.name, {})
        if config.name == "propagate_labels_in_video":
            parts.append("Takes the parameters of `propagate_labels`, except `view_target`.")
        elif rows:
            parts.append("\n".join(_table(rows)))
        elif not panel:
            parts.append("Other operators run it for you.")
    return "\n\n".join(parts)


def _table(rows: dict[str, tuple[str, str]]) -> list[str]:
    from fiftyone_colortrack.plugin.params import kind

    head = ["| Parameter | Type | Default | Meaning |", "|---|---|---|---|"]
    return head + [
        f"| `{name}` | {kind(name)} | {default} | {text} |" for name, (default, text) in rows.items()
    ]


def cli() -> str:
    """The commands and their options, in Markdown."""
    from fiftyone_colortrack.cli import app

    _, *commands = re.split(r"^(?=## )", app.generate_docs(heading_level=1), flags=re.MULTILINE)
    return re.sub(r", --empty-[\w-]+", "", "".join(commands))  # flags that the commands do not have
