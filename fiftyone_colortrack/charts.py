"""Charts of an analysis: Plotly figures for the App and for HTML, and the same as PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from fiftyone_colortrack.api.analysis import Breakdown, Score

COLORS = ("#ff6d04", "#7a8ba6")  # of the evaluation, and of that which it is compared with
SPREAD_COLOR = "#999999"  # seen on dark, on light, and on bars
BAND_OPACITY = 0.15
MAX_BARS = 40
PNG_INCHES, PNG_DPI = (9, 4.5), 110

Figure = dict[str, Any]
"""A Plotly figure as plain data: `data`, a list of traces, and `layout`."""


def figure(breakdown: Breakdown, metric: str) -> Figure:
    """Bars for names, lines with a band of spread for quantities.

    A trace of scores has the name of its evaluation, and its point i is score i; bands have no name.

    Args:
        breakdown: the scores
        metric: what they measure, for the axis
    """
    data = []
    for color, (key, scores) in zip(COLORS, breakdown.scores.items(), strict=False):
        if breakdown.name == "videos":
            data.append(_bars(key, scores[:MAX_BARS], color))
        else:
            data += [_band(scores, color), _line(key, scores, color)]
    layout = {
        "title": {"text": heading(breakdown), "x": 0.02, "y": 0.97, "yanchor": "top", "font": {"size": 15}},
        "xaxis": {"title": {"text": breakdown.axis}},
        "yaxis": {"title": {"text": metric}, "range": [0, 1], "tickformat": ".0%"},
        "barmode": "group",
        "showlegend": True,
        "legend": {"orientation": "h", "x": 1, "xanchor": "right", "y": 1.02, "yanchor": "bottom"},
        "margin": {"t": 68, "l": 64, "r": 12, "b": 56},
    }
    return {"data": data, "layout": layout}


def heading(breakdown: Breakdown) -> str:
    """With what is left out, or how far the quantity ranks frames as their scores do."""
    count = max(map(len, breakdown.scores.values()), default=0)
    if breakdown.name == "videos" and count > MAX_BARS:
        return f"{breakdown.title} (the {MAX_BARS} worst of {count})"
    ranks = " and ".join(f"{value:.2f}" for value in breakdown.correlation.values())
    return f"{breakdown.title} (rank correlation {ranks})" if ranks else breakdown.title


def _bars(key: str, scores: Sequence[Score], color: str) -> dict[str, Any]:
    spreads = [score.spread if score.count > 1 else None for score in scores]
    spread = {"type": "data", "array": spreads, "color": SPREAD_COLOR, "thickness": 1, "width": 0}
    return {"type": "bar", **_points(key, scores, color), "error_y": spread}


def _line(key: str, scores: Sequence[Score], color: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "line": {"color": color},
        **_points(key, scores, color),
    }


def _points(key: str, scores: Sequence[Score], color: str) -> dict[str, Any]:
    return {
        "name": key,
        "x": [score.x for score in scores],
        "y": [score.mean for score in scores],
        "marker": {"color": color},
        "hovertext": [
            "<br>".join(filter(None, (score.note, f"{score.mean:.1%}", f"n = {score.count}")))
            for score in scores
        ],
        "hovertemplate": "%{hovertext}",
    }


def _band(scores: Sequence[Score], color: str) -> dict[str, Any]:
    """One standard deviation to either side of the mean, within 0 to 1."""
    x = [score.x for score in scores]
    low = [max(score.mean - score.spread, 0) for score in scores]
    high = [min(score.mean + score.spread, 1) for score in scores]
    rgb = ", ".join(str(int(color[i : i + 2], 16)) for i in (1, 3, 5))
    return {
        "type": "scatter",
        "mode": "none",
        "x": x + x[::-1],
        "y": high + low[::-1],
        "fill": "toself",
        "fillcolor": f"rgba({rgb}, {BAND_OPACITY})",
        "line": {"color": color},
        "hoverinfo": "skip",
        "showlegend": False,
    }


def save_png(figure: Figure, path: Path) -> None:
    """Draw a figure of `figure` with matplotlib: Plotly would need a browser for that."""
    from matplotlib.figure import Figure as Canvas
    from matplotlib.ticker import PercentFormatter

    canvas = Canvas(figsize=PNG_INCHES, dpi=PNG_DPI, layout="constrained")
    axes, layout = canvas.subplots(), figure["layout"]
    bars = [trace for trace in figure["data"] if trace["type"] == "bar"]
    if bars:
        _draw_bars(axes, bars)
    for trace in figure["data"]:
        if "fill" in trace:
            axes.fill(trace["x"], trace["y"], color=trace["line"]["color"], alpha=BAND_OPACITY, linewidth=0)
        elif trace not in bars:
            axes.plot(trace["x"], trace["y"], "o-", color=trace["line"]["color"], label=trace["name"])
    axes.set_title(layout["title"]["text"], loc="left")
    axes.set(xlabel=layout["xaxis"]["title"]["text"], ylabel=layout["yaxis"]["title"]["text"], ylim=(0, 1))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, ncols=2, loc="lower right", bbox_to_anchor=(1, 1))
    canvas.savefig(path)


def _draw_bars(axes: Axes, traces: Sequence[dict[str, Any]]) -> None:
    names = list(dict.fromkeys(name for trace in traces for name in trace["x"]))
    width = 0.8 / len(traces)
    for i, trace in enumerate(traces):
        left = [names.index(name) - 0.4 + i * width for name in trace["x"]]
        style = {"color": trace["marker"]["color"], "label": trace["name"]}
        error = {"elinewidth": 1, "ecolor": SPREAD_COLOR}
        spread = np.array(trace["error_y"]["array"], float)
        axes.bar(left, trace["y"], width, align="edge", yerr=spread, error_kw=error, **style)
    crowded = len(names) > 8
    axes.set_xticks(
        range(len(names)), names, rotation=45 if crowded else 0, ha="right" if crowded else "center"
    )
