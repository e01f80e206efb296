"""Make the README's pictures from the demo's cyclist: `python scripts/readme_pictures.py assets`.

`propagate.webp` is an animation: one labeled frame, and the video that it becomes. `films.jpg` is a frame of
the side-by-side video.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from colortrack_benchmarks.demo import LABELS, cyclist, id_maps
from fiftyone_colortrack.model import load_model
from fiftyone_colortrack.pictures import caption, draw_masks, overview
from fiftyone_colortrack.tracking import Tracker
from fiftyone_colortrack.video import VideoFile

WIDTH = 640  # of the animation, in pixels
PAUSE = 900  # milliseconds
MOMENT = 44  # the cyclist is in view again


def main() -> None:
    folder = Path(sys.argv[1])
    model = load_model("fast")
    with tempfile.TemporaryDirectory() as temporary:
        video = VideoFile(cyclist(Path(temporary)).filepath)
        ids = id_maps(json.loads(LABELS.read_text()), (video.height, video.width))[0]
        (first,) = video.read(range(1))
        tracks = zip(video.read(range(len(video))), Tracker(video, ids, model=model), strict=True)
        tracked = [draw_masks(frame, np.asarray(found.labels)) for frame, found in tracks]
        grids = overview(video, tracked, model)
        grid = next(picture for index, picture in enumerate(grids) if index == MOMENT)
    Image.fromarray(grid).save(folder / "films.jpg", quality=88)
    animate(folder / "propagate.webp", first, draw_masks(first, ids), tracked, video.info.frame_rate)


def animate(
    path: Path, first: np.ndarray, labeled: np.ndarray, tracked: list[np.ndarray], frame_rate: float
) -> None:
    """Write the animation: the first frame, its labels, a click, and the tracked video."""
    steps = [
        (caption(_scaled(first), "A video"), PAUSE),
        (caption(_scaled(labeled), "You label one frame"), 2 * PAUSE),
        (_button(_scaled(labeled), "Propagate labels"), PAUSE),
        (_button(_scaled(labeled), "Propagate labels", pressed=True), PAUSE // 3),
        *((caption(_scaled(frame), "All frames are labeled"), round(1000 / frame_rate)) for frame in tracked),
    ]
    steps.append((steps[-1][0], 2 * PAUSE))
    images = [Image.fromarray(picture) for picture, _ in steps]
    durations = [duration for _, duration in steps]
    images[0].save(
        path, save_all=True, append_images=images[1:], duration=durations, loop=0, quality=65, method=6
    )


def _scaled(picture: np.ndarray) -> np.ndarray:
    height = round(picture.shape[0] * WIDTH / picture.shape[1])
    return cv2.resize(picture, (WIDTH, height), interpolation=cv2.INTER_AREA)


def _button(picture: np.ndarray, text: str, pressed: bool = False) -> np.ndarray:
    """A button in the middle of a darkened picture."""
    image = Image.fromarray(picture // 3 * 2)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(26)
    x, y = image.width // 2, image.height // 2
    half = draw.textlength(text, font=font) / 2 + 24
    color = (200, 80, 10) if pressed else (255, 109, 4)  # FiftyOne's orange
    draw.rounded_rectangle((x - half, y - 28, x + half, y + 28), 8, color)
    draw.text((x, y), text, "white", font, "mm")
    return np.array(image)


if __name__ == "__main__":
    main()
