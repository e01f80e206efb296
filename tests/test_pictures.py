from __future__ import annotations

import cv2
import numpy as np
import pytest

from colortrack_benchmarks.demo import contact_sheet
from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.model import load_model
from fiftyone_colortrack.pictures import (
    COLORS,
    EmbeddingBasis,
    caption,
    colorize_frames,
    draw_boxes,
    draw_masks,
    draw_points,
    embed_frames,
    fit_basis,
    overview,
)
from fiftyone_colortrack.tracking import TrackerConfig
from fiftyone_colortrack.video import open_frames

CONFIG = TrackerConfig(input_size=96)


@pytest.fixture(scope="module")
def video() -> np.ndarray:
    """A red and a blue blotchy square that move apart over blotchy green."""
    rng = np.random.default_rng(0)

    def blotches(height: int, width: int, color: tuple[float, float, float]) -> np.ndarray:
        coarse = rng.integers(30, 250, (height // 4, width // 4)).astype(np.uint8)
        return (cv2.resize(coarse, (width, height))[..., None] * np.array(color)).astype(np.uint8)

    ground = blotches(96, 128, (0.3, 1, 0.3))
    red, blue = blotches(32, 32, (1, 0.2, 0)), blotches(32, 32, (0, 0.3, 1))
    frames = []
    for t in range(6):
        frame = ground.copy()
        frame[32:64, 40 - 5 * t : 72 - 5 * t] = red
        frame[16:48, 80 + 3 * t : 112 + 3 * t] = blue
        frames.append(frame)
    return np.stack(frames)


def test_colors_move_with_their_objects(video: np.ndarray) -> None:
    colored = list(colorize_frames(video, model="lab", config=CONFIG))
    assert [frame.frame for frame in colored] == list(range(6))
    assert np.array_equal(colored[0].image, video[0])
    assert colored[0].error.distance == 0
    assert colored[0].measures == {}
    last = colored[5]
    assert last.image.shape == video[5].shape
    assert last.error.distance < 0.75 * last.still_error.distance


def test_the_network_does_not_see_colors(video: np.ndarray) -> None:
    gray = video.copy()
    gray[1:] = video[1:, ..., :1] // 3 + video[1:, ..., 1:2] // 3 + video[1:, ..., 2:] // 3
    second = list(colorize_frames(gray, model="lab", config=CONFIG))[1]
    saturation = second.image.max(-1).astype(int) - second.image.min(-1)
    assert saturation.mean() > 30  # these colors come from the first frame alone
    assert (second.seen.max(-1).astype(int) - second.seen.min(-1)).max() <= 1


def test_embeddings_in_false_colors(video: np.ndarray) -> None:
    embedder = load_model("lab")
    shown = list(embed_frames(video, embedder, config=CONFIG))
    assert len(shown) == 6
    assert shown[0].shape == video[0].shape
    assert shown[0].dtype == np.uint8
    assert np.array_equal(shown[3], list(embed_frames(video, embedder, config=CONFIG))[3])
    shared = fit_basis([open_frames(video), open_frames(video[::-1])], embedder, CONFIG)
    assert next(embed_frames(video, embedder, shared, CONFIG)).std() > 10
    with pytest.raises(ColorTrackError):
        fit_basis([], embedder)


def test_a_basis_finds_the_directions_of_variation() -> None:
    embeddings = np.random.default_rng(0).normal(size=(2000, 5)) * [5, 3, 2, 0.1, 0.1]
    basis = EmbeddingBasis.fit(embeddings)
    np.testing.assert_allclose(abs(basis.axes[:3]), np.eye(3), atol=0.1)
    assert (basis.axes[:3].diagonal() > 0).all()
    np.testing.assert_allclose(EmbeddingBasis.fit(embeddings[::-1]).axes, basis.axes, atol=1e-4)


def test_a_grid_of_everything(video: np.ndarray) -> None:
    embedder = load_model("lab")
    tracks = [np.full_like(frame, 200) for frame in video]
    pictures = list(overview(video, tracks, embedder, CONFIG))
    assert len(pictures) == 6
    assert pictures[0].shape == (2 * 96, 2 * 128, 3)
    assert np.array_equal(pictures[3][60:96, 128:], tracks[3][60:])  # below the caption
    assert np.array_equal(pictures[3][60:96, :128], video[3][60:])
    without = list(overview(video, None, embedder, CONFIG))
    gray = without[3][60:96, 128:].astype(int)
    assert (gray.max(-1) - gray.min(-1)).max() <= 1


def test_objects_are_drawn_in_their_colors() -> None:
    frame = np.zeros((64, 64, 3), np.uint8)
    ids = np.zeros((64, 64), int)
    ids[10:20, 10:20], ids[40:60, 40:60] = 1, 9
    masks = draw_masks(frame, ids)
    assert abs(masks[15, 15].astype(int) - 0.45 * COLORS[0]).max() <= 1
    assert abs(masks[50, 50].astype(int) - 0.45 * COLORS[1]).max() <= 1  # 9 is 2 again
    assert np.array_equal(masks[10, 15], COLORS[0])
    assert not masks[30, 30].any()
    boxes = draw_boxes(frame, {2: np.array([8.0, 8, 40, 40])})
    assert np.array_equal(boxes[20, 8], COLORS[1])
    assert not boxes[20, 20].any()
    assert not frame.any()


def test_limbs_join_the_points_that_are_there() -> None:
    frame = np.zeros((64, 64, 3), np.uint8)
    points = np.array([[8.0, 8], [56, 8], [56, 56], [np.nan, np.nan], [0, 0]])
    drawn = draw_points(frame, {1: points}, edges=[[0, 1, 2, 3], [2, 7]])
    assert np.array_equal(drawn[8, 30], COLORS[0])
    assert np.array_equal(drawn[30, 56], COLORS[0])
    assert not drawn[30, 30].any()
    assert drawn[0, 0].any()  # a point, not a missing one


def test_captions_and_sheets() -> None:
    picture = np.zeros((60, 80, 3), np.uint8)
    top, bottom = caption(picture, "Tracks"), caption(picture, "Tracks", bottom=True)
    assert top[:20].max() == bottom[40:].max() == 255
    assert not top[30:].any()
    assert not bottom[:30].any()
    sheet = contact_sheet({"first": [picture, picture], "second": [picture]}, height=60, margin=4)
    assert sheet.shape == (2 * 64 + 4, 2 * 84 + 4, 3)
    assert (sheet[70:128, 92:] == 255).all()
