"""Make the animation at the top of the README: `python scripts/readme_animation.py assets/propagate.webp`."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from colortrack_benchmarks.demo import LABELS, cyclist, id_maps
from fiftyone_colortrack.pictures import caption, draw_masks, track_masks
from fiftyone_colortrack.video import VideoFile

WIDTH = 640  # pixels
QUALITY = 55  # of WebP
PAUSE = 900  # milliseconds


def main() -> None:
    path = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        video = VideoFile(cyclist(Path(folder)).filepath)
        ids = id_maps(json.loads(LABELS.read_text()), (video.height, video.width))[0]
        (first,) = video.read(range(1))
        labeled = draw_masks(first, ids)
        tracked = list(track_masks(video, ids, "fast"))
    steps = [
        (caption(_scaled(first), "A video"), PAUSE),
        (caption(_scaled(labeled), "You label one frame"), 2 * PAUSE),
        (_button(_scaled(labeled), "Propagate labels"), PAUSE),
        (_button(_scaled(labeled), "Propagate labels", pressed=True), PAUSE // 3),
    ]
    steps += [
        (caption(_scaled(picture), "All frames are labeled"), round(1000 / video.info.frame_rate))
        for picture in tracked
    ]
    steps.append((steps[-1][0], 2 * PAUSE))
    images = [Image.fromarray(picture) for picture, _ in steps]
    durations = [duration for _, duration in steps]
    images[0].save(
        path,
        save_all=True,
        append_images=images[1:],
        duration=durations,
        loop=0,
        quality=QUALITY,
        method=6,
    )
    print(f"{path}: {len(images)} pictures, {path.stat().st_size / 1e6:.1f} MB")


def _scaled(picture: np.ndarray) -> np.ndarray:
    height = round(picture.shape[0] * WIDTH / picture.shape[1])
    return cv2.resize(picture, (WIDTH, height), interpolation=cv2.INTER_AREA)


def _button(picture: np.ndarray, text: str, pressed: bool = False) -> np.ndarray:
    """A button in the middle of a picture."""
    image = Image.fromarray(picture // 3 * 2)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(26)
    x, y = image.width // 2, image.height // 2
    half = draw.textlength(text, font) / 2 + 24
    color = (200, 80, 10) if pressed else (255, 109, 4)  # FiftyOne's orange
    draw.rounded_rectangle((x - half, y - 28, x + half, y + 28), 8, color)
    draw.text((x, y), text, "white", font, "mm")
    return np.array(image)


if __name__ == "__main__":
    main()
