from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.films import (
    EmbeddingBasis,
    colorize,
    embedding_film,
    fit_embedding_basis,
    side_by_side,
)
from fiftyone_colortrack.model import load_model
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

    ground, red, blue = (
        blotches(96, 128, (0.3, 1, 0.3)),
        blotches(32, 32, (1, 0.2, 0)),
        blotches(32, 32, (0, 0.3, 1)),
    )
    frames = []
    for t in range(6):
        frame = ground.copy()
        frame[32:64, 40 - 5 * t : 72 - 5 * t] = red
        frame[16:48, 80 + 3 * t : 112 + 3 * t] = blue
        frames.append(frame)
    return np.stack(frames)


def test_colours_move_with_what_they_belong_to(video):
    colored = list(colorize(video, model="lab", config=CONFIG))
    assert [frame.frame for frame in colored] == list(range(6))
    assert np.array_equal(colored[0].image, video[0])
    assert colored[0].error.distance == 0
    last = colored[5]
    assert last.image.shape == video[5].shape
    assert last.error.distance < 0.75 * last.still_error.distance


def test_the_network_does_not_see_the_colours(video):
    shuffled = video.copy()
    shuffled[1:] = video[1:, ..., :1] // 3 + video[1:, ..., 1:2] // 3 + video[1:, ..., 2:] // 3
    grey_only = np.concatenate([video[:1], shuffled[1:]])
    again = list(colorize(grey_only, model="lab", config=CONFIG))[1].image
    saturation = again.max(-1).astype(int) - again.min(-1)
    assert saturation.mean() > 30  # the colours come from the first frame alone


def test_embeddings_in_false_colours(video):
    embedder = load_model("lab")
    film = list(embedding_film(video, embedder, config=CONFIG))
    assert len(film) == 6
    assert film[0].shape == video[0].shape
    assert film[0].dtype == np.uint8
    again = list(embedding_film(video, embedder, config=CONFIG))
    assert np.array_equal(film[3], again[3])
    one_basis = fit_embedding_basis([open_frames(video), open_frames(video[::-1])], embedder, CONFIG)
    assert next(embedding_film(video, embedder, one_basis, CONFIG)).std() > 10
    with pytest.raises(ColorTrackError, match="no video"):
        fit_embedding_basis([], embedder)


def test_a_basis_finds_the_directions_of_variation():
    generator = torch.Generator().manual_seed(0)
    scale = torch.tensor([5.0, 3, 2, 0.1, 0.1])
    basis = EmbeddingBasis.fit(torch.randn(2000, 5, generator=generator) * scale)
    torch.testing.assert_close(basis.axes[:3].abs(), torch.eye(3), atol=0.1, rtol=0)
    assert (basis.axes[:3].diagonal() > 0).all()


def test_a_basis_leaves_the_users_random_numbers_alone():
    embeddings = torch.randn(500, 6, generator=torch.Generator().manual_seed(0))
    state = torch.get_rng_state()
    one = EmbeddingBasis.fit(embeddings)
    assert torch.equal(torch.get_rng_state(), state)
    other = EmbeddingBasis.fit(embeddings.flip(0))  # sums in another order
    torch.testing.assert_close(other.axes, one.axes, atol=1e-4, rtol=0)


def test_films_in_a_row(video):
    row = list(side_by_side({"true": video, "again": iter(video)}))
    assert len(row) == 6
    assert row[0].shape == (96, 256, 3)
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        list(side_by_side({"true": video, "short": video[:2]}))
