"""An analysis as files: a page with charts, and tables."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fiftyone_colortrack.charts import Figure, figure, heading, save_png

if TYPE_CHECKING:
    from fiftyone_colortrack.api.analysis import Analysis, Breakdown, Score

Table = list[list[str]]
"""Rows of cells; the first row is the head."""

STYLE = """
body { font: 15px sans-serif; max-width: 1000px; margin: 2em auto }
td, th { padding: 2px 24px 2px 0; text-align: left }
"""
EXPLANATION = """
Bars average videos, lines frames; thin lines and bands are one standard deviation to either side. Colour
error and confidence are cut into fifths of the frames.
""".strip()


def write_report(analysis: Analysis, folder: str | Path) -> list[Path]:
    """Write an analysis as files: `report.html`, whose charts answer to the mouse and need no network,
    `report.md` with its charts as PNG, and `report.json`.

    Args:
        analysis: see `analyze`
        folder: made if it is not there; files of the same names are replaced

    Returns:
        The files, `report.html` first
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    figures = {breakdown.name: figure(breakdown, analysis.metric) for breakdown in analysis.breakdowns}
    texts = {
        "report.html": _html(analysis, list(figures.values())),
        "report.md": _markdown(analysis),
        "report.json": json.dumps(_plain(analysis), indent=2) + "\n",
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    for name, chart in figures.items():
        save_png(chart, folder / f"{name}.png")
    return [folder / name for name in (*texts, *(f"{name}.png" for name in figures))]


def _total_rows(analysis: Analysis) -> Table:
    """The score of all videos, a row for each evaluation."""
    rows = [[key, analysis.fields[key], _percent(total)] for key, total in analysis.totals.items()]
    return [["evaluation", "tracks", analysis.metric], *rows]


def score_rows(breakdown: Breakdown) -> Table:
    """Mean, spread and number of every score, a column for each evaluation."""
    by_x = {key: {score.x: score for score in scores} for key, scores in breakdown.scores.items()}
    notes = {score.x: score.note for scores in breakdown.scores.values() for score in scores}
    if breakdown.name != "videos":
        notes = dict(sorted(notes.items()))
    rows = [
        [x if isinstance(x, str) else f"{x:.3g}", note, *(_cell(scores.get(x)) for scores in by_x.values())]
        for x, note in notes.items()
    ]
    return [[breakdown.axis, "", *by_x], *rows]


def group_notes(breakdown: Breakdown) -> str:
    """What the names of groups of videos stand for, in one line; empty where they speak for themselves."""
    if breakdown.name != "videos":
        return ""
    notes = {score.x: score.note for scores in breakdown.scores.values() for score in scores if score.note}
    return ", ".join(f"{name}: {note}" for name, note in notes.items())


def point_rows(points: Mapping[str, Mapping[str, float | None]]) -> Table:
    """PCK of each key point, a column for each threshold; of one evaluation, see `Analysis.points`."""
    rows = [[name, *map(_percent, scores.values())] for name, scores in points.items()]
    return [["", *next(iter(points.values()))], *rows]


def markdown_table(rows: Table) -> str:
    """A table in GitHub's Markdown."""
    head, *body = rows
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |" for line in lines)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"


def _cell(score: Score | None) -> str:
    if score is None:
        return ""
    spread = f" ± {score.spread:.1%}" if score.count > 1 else ""
    return f"{score.mean:.1%}{spread} (n = {score.count})"


def _markdown(analysis: Analysis) -> str:
    title = f"# {analysis.metric} on {analysis.dataset}"
    parts = [title, markdown_table(_total_rows(analysis)), EXPLANATION]
    for breakdown in analysis.breakdowns:
        text = heading(breakdown)
        parts += [f"## {text}", f"![{text}]({breakdown.name}.png)", markdown_table(score_rows(breakdown))]
    for name, points in analysis.points.items():
        parts += [f"## Key points: {name}", markdown_table(point_rows(points))]
    return "\n\n".join([*parts, *analysis.missing]) + "\n"


def _html(analysis: Analysis, figures: Sequence[Figure]) -> str:
    from plotly.io import to_html

    title = html.escape(f"{analysis.metric} on {analysis.dataset}")
    parts = [f"<h1>{title}</h1>", _html_table(_total_rows(analysis)), f"<p>{EXPLANATION}</p>"]
    for i, (breakdown, chart) in enumerate(zip(analysis.breakdowns, figures, strict=True)):
        layout = {**chart["layout"], "template": "plotly_white", "height": 420}
        parts.append(to_html({**chart, "layout": layout}, full_html=False, include_plotlyjs=i == 0))
        parts.append(f"<p>{html.escape(group_notes(breakdown))}</p>")
    for name, points in analysis.points.items():
        parts += [f"<h2>Key points: {html.escape(name)}</h2>", _html_table(point_rows(points))]
    parts += [f"<p>{html.escape(text)}</p>" for text in analysis.missing]
    head = f'<meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
    return "\n".join(["<!doctype html>", f"<html><head>{head}</head><body>", *parts, "</body></html>\n"])


def _html_table(rows: Table) -> str:
    head, *body = ["".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in rows]
    lines = [head.replace("td>", "th>"), *body]
    return f"<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def _plain(analysis: Analysis) -> dict[str, Any]:
    """For JSON; of the videos and frames only their number."""
    plain = asdict(analysis)
    for breakdown in plain["breakdowns"]:
        for score in (score for scores in breakdown["scores"].values() for score in scores):
            score["count"] = len(score.pop("members"))
    return plain
