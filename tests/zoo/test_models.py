from __future__ import annotations

import io
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fiftyone as fo
import fiftyone.zoo as foz
import numpy as np
import pytest

from fiftyone_colortrack.api.zoo_model import ColorTrackModel
from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.fields.shapes import paint
from fiftyone_colortrack.metrics import jaccard
from fiftyone_colortrack.model.weights import find_model
from fiftyone_colortrack.tracking.config import TrackerConfig

ROOT = Path(__file__).resolve().parents[2]
CONFIG = TrackerConfig(input_size=64)


class Handler(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


class Reader:
    """In place of FiftyOne's reader, which needs ffmpeg; the model does not use it."""

    def __init__(self, path: str, frames: object = None) -> None:
        self.path = path

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        pass


@pytest.fixture
def source(database: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a server on this machine with this repository's zoo."""
    monkeypatch.setattr(fo.config, "model_zoo_dir", str(tmp_path / "models"))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in sorted((ROOT / "zoo").rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                archive.write(path, path.relative_to(ROOT))
    (tmp_path / "repository.zip").write_bytes(buffer.getvalue())
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/repository.zip"
    server.shutdown()
    server.server_close()


@pytest.fixture
def seeded(dataset: fo.Dataset, squares: tuple[np.ndarray, np.ndarray], squares_file: Path) -> fo.Dataset:
    """The video of squares, with the mask of the first one in frame 1."""
    sample = fo.Sample(filepath=str(squares_file))
    red = fo.Detection(
        label="red", index=7, bounding_box=[8 / 96, 8 / 64, 16 / 96, 16 / 64], mask=np.ones((16, 16), bool)
    )
    sample.frames[1] = fo.Frame(seed=fo.Detections(detections=[red]))
    dataset.add_sample(sample)
    return dataset


def test_the_zoo_loads_the_tracker(source: str, tmp_path: Path) -> None:
    foz.register_zoo_model_source(source)
    assert "colortrack-fast" in foz.list_zoo_models()
    model = foz.load_zoo_model("colortrack-fast", device="cpu", cache=False)
    assert isinstance(model, ColorTrackModel)
    assert model.media_type == "video"
    (weights,) = (tmp_path / "models").rglob("*.safetensors")
    assert weights.read_bytes() == Path(find_model("fast").path).read_bytes()


def test_apply_model_tracks_from_the_prompts(
    seeded: fo.Dataset, squares: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eta.core.video.FFmpegVideoReader", Reader)
    model = ColorTrackModel("lab", config=CONFIG)
    seeded.apply_model(model, label_field="tracks", prompt_field="frames.seed", skip_failures=False)
    sample = seeded.first()
    assert sorted(sample.frames) == list(range(1, 9))
    for number in range(1, 9):
        (tracked,) = sample.frames[number].tracks.detections
        assert (tracked.label, tracked.index) == ("red", 7)
        assert tracked.keyframe == (number == 1)
        assert 0 <= tracked.confidence <= 1
        mask = paint([tracked], [1], (64, 96)) == 1
        assert jaccard(mask, squares[1][number - 1] == 1) > (0.99 if number == 1 else 0.7)
    assert sample.frames[5].tracks.detections[0].instance == sample.frames[1].tracks.detections[0].instance


def test_prompts_are_asked_for(seeded: fo.Dataset) -> None:
    model = ColorTrackModel("lab", config=CONFIG)
    with pytest.raises(ColorTrackError, match="prompt_field"):
        model.predict(None, seeded.first())
    model.needs_fields = {"prompt_field": "frames.seed"}
    sample = seeded.first()
    sample.frames[1].seed = None
    with pytest.raises(ColorTrackError, match="nothing to track"):
        model.predict(None, sample)
