"""The demo: the main job on videos with ground truth, its scores beside a baseline's, and pictures of it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import fiftyone as fo
import numpy as np

from fiftyone_colortrack.api import evaluate_tracks, propagate
from fiftyone_colortrack.api.films import draw_tracks
from fiftyone_colortrack.datasets.davis import load_davis
from fiftyone_colortrack.datasets.demo import load_demo
from fiftyone_colortrack.fields.seeds import open_video
from fiftyone_colortrack.model.weights import list_models
from fiftyone_colortrack.pictures import contact_sheet
from fiftyone_colortrack.terminal import console, progress_bar, score_table
from fiftyone_colortrack.video import VideoWriter

TRUTH = "frames.ground_truth"
SHEET_ASPECT = 9.5  # width of a row of pictures, by its height


def run(
    out: Path,
    davis: Path | None = None,
    sequences: Sequence[str] | None = None,
    model: str | None = None,
    app: bool = True,
) -> fo.Dataset:
    """Track each video from its first labelled frame, score, draw, print, and open the App.

    Args:
        out: folder of the videos and pictures
        davis: a DAVIS folder to take the videos from, instead of the demo's own
        sequences: names in that folder, all by default
        model: of the tracker; `fast`, or `lab` where no trained weights are shipped
        app: whether to open the App, and wait until it is closed

    Returns:
        the dataset, with the tracks in `frames.tracks` and the baseline's in `frames.identity`
    """
    fo.config.show_progress_bars = False  # the demo has its own
    if davis:
        name = "colortrack-demo-davis"
        dataset = load_davis(
            davis, name, sequences=sequences, video_dir=out / "videos", persistent=True, overwrite=True
        )
    else:
        dataset = load_demo(out / "videos")
    model = model or ("fast" if any(info.name == "fast" for info in list_models()) else "lab")
    console.print(f"tracking {len(dataset)} videos from their first frame with {model} ...")
    rows = _track(dataset, "tracks", model) | _track(dataset, "identity", "identity")
    console.print(score_table("scores in percent", dict(sorted(rows.items()))))
    for path in draw(dataset, "tracks", out):
        console.print(f"wrote {path.resolve()}", soft_wrap=True)
    if app:
        _show(dataset)
    return dataset


def _track(dataset: fo.Dataset, field: str, model: str) -> dict[str, dict[str, float]]:
    """Propagate and evaluate; a row for each video."""
    with progress_bar() as update:
        report = propagate(
            dataset,
            TRUTH,
            f"frames.{field}",
            model=model,
            on_error="raise",
            progress=lambda step: update(step.done, step.total, f"{model}: {step.name}"),
        )
    evaluate_tracks(dataset, f"frames.{field}", TRUTH, field)
    measures = {"J": f"{field}_J", "F": f"{field}_F", "J&F": f"{field}_JF"}
    scores = zip(*dataset.values(list(measures.values())), strict=True)
    return {
        f"{_name(video.filepath)}, {model}": {
            "frames": video.frames,
            "frames/s": video.frames / video.seconds,
            **{measure: 100 * score for measure, score in zip(measures, of_video, strict=True)},
        }
        for video, of_video in zip(report.videos, scores, strict=True)
    }


def draw(dataset: fo.Dataset, field: str, out: Path) -> list[Path]:
    """Write a film of each video with its tracks drawn in, and one sheet of pictures of all videos.

    Args:
        dataset: of videos
        field: frame field with masks
        out: folder to write to

    Returns:
        the files
    """
    files, rows = [], {}
    for sample in dataset:
        files.append(out / f"{_name(sample.filepath)}.mp4")
        rows[files[-1].stem] = _draw_film(sample, field, files[-1])
    sheet = out / f"{field}.png"
    cv2.imwrite(str(sheet), contact_sheet(rows)[..., ::-1])
    return [sheet, *files]


def _draw_film(sample: fo.Sample, field: str, path: Path) -> list[np.ndarray]:
    """Write a video's film, and return those of its frames that go onto the sheet."""
    frames, canvas = open_video(sample)
    columns = max(2, round(SHEET_ASPECT * frames.height / frames.width))
    shown = set(np.linspace(0, len(frames) - 1, columns, dtype=int).tolist())
    pictures = []
    with VideoWriter(path, sample.metadata.frame_rate) as writer:
        for index, picture in enumerate(draw_tracks(sample, field, frames, canvas)):
            writer.write(picture)
            if index in shown:
                pictures.append(picture)
    return pictures


def _name(filepath: str) -> str:
    return Path(filepath).stem


def _show(dataset: fo.Dataset) -> None:
    settings = os.environ.get("FIFTYONE_CONFIG_PATH")
    if settings:  # FiftyOne would note in the user's own folder that it has greeted
        fo.constants.WELCOME_PATH = str(Path(settings).with_name("welcome.json"))
    fo.launch_app(dataset).wait()
