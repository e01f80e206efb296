"""Show an analysis as Plotly figures and tables in the App, or as one HTML page."""

from __future__ import annotations

import html
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fiftyone_colortrack.settings import atomic, check_allowed

if TYPE_CHECKING:
    from fiftyone_colortrack.api.analysis import Analysis, Breakdown

COLORS = ("#ff6d04", "#7a8ba6")  # of the evaluation, and of that which it is compared with
SPREAD: dict[str, Any] = {"type": "data", "color": "#999999", "thickness": 1, "width": 0}
"""The lines for the spread of scores: seen on dark, on light, and on bars."""
MAX_BARS = 40
LEGEND = {"orientation": "h", "x": 1, "xanchor": "right", "y": 1.02, "yanchor": "bottom"}

STYLE = """
body { font: 15px sans-serif; max-width: 1000px; margin: 2em auto }
td, th { padding: 2px 24px 2px 0; text-align: left }
"""
EXPLANATION = """
Bars average over videos, and lines over frames. Thin lines show one standard deviation to either side. For color
error and confidence, each point is a fifth of the frames.
""".strip()

Figure = dict[str, Any]
"""A Plotly figure as plain data: `data`, a list of traces, and `layout`."""
Table = list[list[str]]
"""Rows of cells; the first row is the head."""


def figure(breakdown: Breakdown, metric: str) -> Figure:
    """Bars for names, lines for quantities, with a thin line for the spread of each score.

    A trace has the name of its evaluation, and its point i is score i.

    Args:
        breakdown: the scores
        metric: what they measure, for the axis
    """
    is_bar, data = breakdown.name == "videos", []
    for color, (key, scores) in zip(COLORS, breakdown.scores.items(), strict=False):
        shown = scores[:MAX_BARS]
        spreads = [score.spread if score.count > 1 else None for score in shown]
        notes = [(html.escape(score.note), f"{score.mean:.1%}", f"n = {score.count}") for score in shown]
        kind: dict[str, Any] = {"type": "bar"} if is_bar else {"type": "scatter", "mode": "lines+markers"}
        data.append(
            {
                **kind,
                "name": key,
                "x": [html.escape(score.x) if isinstance(score.x, str) else score.x for score in shown],
                "y": [score.mean for score in shown],
                "error_y": {**SPREAD, "array": spreads},
                "marker": {"color": color},
                "hovertext": ["<br>".join(filter(None, note)) for note in notes],
                "hovertemplate": "%{hovertext}",
            }
        )
    lowest = min((score.mean for scores in breakdown.scores.values() for score in scores), default=0)
    title = {"text": heading(breakdown), "x": 0.02, "y": 0.97, "yanchor": "top", "font": {"size": 15}}
    layout = _layout(breakdown.axis, metric, [min(lowest, 0), 1], top=68, bottom=56)
    layout |= {"title": title, "barmode": "group"}
    return {"data": data, "layout": layout}


def confidence_figure(confidence: Mapping[str, Mapping[int, float]]) -> Figure:
    """The tracker's confidence over the frames: one line per object, with gaps where the object is absent.

    Args:
        confidence: the result of `object_confidence`
    """
    data = []
    for name, values in confidence.items():
        frames = list(range(min(values), max(values) + 1)) if values else []
        line = {"type": "scatter", "mode": "lines+markers", "marker": {"size": 4}, "connectgaps": False}
        points = {"x": frames, "y": [values.get(frame) for frame in frames]}
        hover = "frame %{x}: %{y:.0%}"
        data.append({**line, **points, "name": html.escape(name), "hovertemplate": hover})
    layout = _layout("frame", "confidence", [0, 1.02], top=24, bottom=48)
    return {"data": data, "layout": layout}


def _layout(x: str, y: str, shares: list[float], top: int, bottom: int) -> dict[str, Any]:
    """Axes with their titles, `shares` from one number to another up the side, a legend, and margins in pixels."""
    return {
        "xaxis": {"title": {"text": x}},
        "yaxis": {"title": {"text": y}, "range": shares, "tickformat": ".0%"},
        "showlegend": True,
        "legend": LEGEND,
        "margin": {"t": top, "l": 64, "r": 12, "b": bottom},
    }


def heading(breakdown: Breakdown) -> str:
    """The title of a breakdown, with the number of bars or the rank correlation."""
    count = max(map(len, breakdown.scores.values()), default=0)
    if breakdown.name == "videos" and count > MAX_BARS:
        return f"{breakdown.title} (the {MAX_BARS} worst of {count})"
    ranks = " and ".join(f"{value:.2f}" for value in breakdown.correlation.values())
    return f"{breakdown.title} (rank correlation {ranks})" if ranks else breakdown.title


def write_report(analysis: Analysis, path: str | os.PathLike[str]) -> Path:
    """Write an analysis to one HTML page with interactive charts, which needs no network.

    Args:
        analysis: the result of `analyze`
        path: file to write; an existing file is replaced

    Returns:
        the file

    Raises:
        ColorTrackError: if it cannot be written
    """
    path = check_allowed(path)
    page = _page(analysis)
    with atomic(path) as unfinished:
        unfinished.write_text(page, encoding="utf-8")
    return path


def group_notes(breakdown: Breakdown) -> str:
    """The meanings of the names of groups of videos, in one line; empty if there are none."""
    if breakdown.name != "videos":
        return ""
    notes = {score.x: score.note for scores in breakdown.scores.values() for score in scores if score.note}
    return ", ".join(f"{name}: {note}" for name, note in notes.items())


def point_rows(points: Mapping[str, Mapping[str, float | None]]) -> Table:
    """PCK of each keypoint, a column for each threshold; for one evaluation, see `Analysis.points`."""
    rows = [[name, *map(_percent, scores.values())] for name, scores in points.items()]
    return [["", *next(iter(points.values()))], *rows]


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"


def _page(analysis: Analysis) -> str:
    from plotly.io import to_html

    title = html.escape(f"{analysis.metric} on {analysis.dataset}")
    totals = [[key, analysis.fields[key], _percent(total)] for key, total in analysis.totals.items()]
    table = _html_table([["evaluation", "tracks", analysis.metric], *totals])
    parts = [f"<h1>{title}</h1>", table, f"<p>{EXPLANATION}</p>"]
    for i, breakdown in enumerate(analysis.breakdowns):
        chart = figure(breakdown, analysis.metric)
        layout = {**chart["layout"], "template": "plotly_white", "height": 420}
        parts.append(to_html({**chart, "layout": layout}, full_html=False, include_plotlyjs=i == 0))
        parts.append(f"<p>{html.escape(group_notes(breakdown))}</p>")
    for name, points in analysis.points.items():
        parts += [f"<h2>Keypoints: {html.escape(name)}</h2>", _html_table(point_rows(points))]
    parts += [f"<p>{html.escape(text)}</p>" for text in analysis.missing]
    head = f'<meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
    return "\n".join(["<!doctype html>", f"<html><head>{head}</head><body>", *parts, "</body></html>\n"])


def _html_table(rows: Table) -> str:
    head, *body = ["".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in rows]
    lines = [head.replace("td>", "th>"), *body]
    return f"<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"
