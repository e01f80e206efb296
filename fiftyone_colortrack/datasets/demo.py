"""The demo's videos: a real one that a package of the index carries, labelled by hand, and rendered ones."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any, get_args

import fiftyone as fo
import numpy as np
from skimage.draw import polygon as fill

from fiftyone_colortrack.datasets.scenes import Difficulty, render_scene, scene_sample
from fiftyone_colortrack.datasets.video_dataset import Instances, build_dataset, video_sample
from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.video import VideoFile, write_video

LABELS = Path(__file__).with_name("bikes_labels.json")
NAME = "colortrack-demo"


def load_demo(video_dir: Path, name: str = NAME) -> fo.Dataset:
    """Make the demo's dataset: ground truth in `frames.ground_truth`, in all frames but of `cyclist`.

    Args:
        video_dir: where the videos go
        name: of the dataset; one that exists is replaced

    Raises:
        ColorTrackError: if the demo's files are not installed
    """
    with build_dataset(name, persistent=True, overwrite=True) as dataset:
        dataset.add_sample(cyclist(video_dir))
        for seed, difficulty in enumerate(get_args(Difficulty), 1):
            scene = render_scene(difficulty=difficulty, seed=seed)
            dataset.add_sample(scene_sample(video_dir / f"{difficulty}-scene.mp4", scene, tags=["rendered"]))
    return dataset


def cyclist(video_dir: Path) -> fo.Sample:
    """A shot of a man on a bicycle, who a van and a car hide for a while; labels in every 15th frame."""
    labels = json.loads(LABELS.read_text())
    source = VideoFile(_packaged(labels["distribution"], labels["video"]))
    shot = range(labels["first_frame"], labels["first_frame"] + labels["frame_count"])
    path = video_dir / "cyclist.mp4"
    info = write_video(path, source.read(shot), source.info.frame_rate)
    sample = video_sample(path, info, tags=["real"])
    instances = Instances({thing["index"]: thing["label"] for thing in labels["objects"]})
    for number, ids in id_maps(labels, (info.height, info.width)).items():
        sample.frames[number + 1] = fo.Frame(ground_truth=instances.detections(ids, info))
    return sample


def id_maps(labels: dict[str, Any], size: tuple[int, int]) -> dict[int, np.ndarray]:
    """Paint the polygons of a label file: frame -> object ids ``[H, W]``.

    Polygons of one object add up. A pixel belongs to a polygon that has its centre inside.
    """
    maps: dict[int, np.ndarray] = {}
    for thing in labels["objects"]:
        for frame, polygons in thing["frames"].items():
            ids = maps.setdefault(int(frame), np.zeros(size, np.uint8))
            for polygon in polygons:
                x, y = np.array(polygon).T - 0.5  # skimage counts from the centre of the first pixel
                ids[fill(y, x, size)] = thing["index"]
    return maps


def _packaged(distribution: str, name: str) -> Path:
    """A file of an installed package, without importing the package."""
    try:
        found = [path for path in files(distribution) or () if path.name == name]
    except PackageNotFoundError:
        found = []
    if not found:
        raise ColorTrackError(
            f"{name} of the package {distribution} is not installed; run: pip install {distribution}"
        )
    return Path(str(found[0].locate()))
