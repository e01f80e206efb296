"""Draw moments of the films of the demo's cyclist, the README's picture: `film_picture.py PICTURE.jpg`."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import cv2

from colortrack_benchmarks.demo import LABELS, cyclist, id_maps
from fiftyone_colortrack.films import tracks_film, views
from fiftyone_colortrack.model import load_model
from fiftyone_colortrack.pictures import contact_sheet
from fiftyone_colortrack.video import VideoFile

MOMENTS = (0, 14, 30, 46, 60)  # the start; before, while and after a van hides the cyclist; the end
HEIGHT = 112  # of a picture, in pixels
QUALITY = 88  # of the JPEG


def main() -> None:
    path = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        video = VideoFile(cyclist(Path(folder)).filepath)
        first = id_maps(json.loads(LABELS.read_text()), (video.height, video.width))[0]
        model = load_model("fast")
        films = views(video, tracks_film(video, first, model), model)
        moments = {
            title: [picture for index, picture in enumerate(film) if index in MOMENTS]
            for title, film in films.items()
        }
    sheet = contact_sheet(moments, HEIGHT)
    cv2.imwrite(str(path), sheet[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])


if __name__ == "__main__":
    main()
