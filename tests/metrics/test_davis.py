import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.metrics.davis import Measure, boundary_f, jaccard, score_sequence

GOLDEN = Path(__file__).resolve().parents[2] / ".." / "shared" / "golden"
CASES = json.loads((GOLDEN / "davis_scores.json").read_text()) if GOLDEN.is_dir() else {}


@pytest.mark.skipif(not CASES, reason="shared/golden is not beside the project")
@pytest.mark.parametrize("case", CASES or [None])
def test_official_numbers(case: str) -> None:
    masks = np.load(GOLDEN / "davis_masks.npz")
    scores = score_sequence(masks[f"{case}__pred"], masks[f"{case}__gt"])
    expected = CASES[case]["per_object"]
    assert len(scores) == len(expected)
    for i, truth in enumerate(expected, start=1):
        for name in "JF":
            measure, official = getattr(scores[i], name), truth[name]
            assert measure.mean == pytest.approx(official["mean"], abs=1e-6)
            assert measure.recall == pytest.approx(official["recall"], abs=1e-6)
            assert measure.values == pytest.approx(official["per_frame"], abs=1e-6)
            if official["decay"] is not None:
                assert measure.decay == pytest.approx(official["decay"], abs=1e-6)


def test_decay_of_a_long_video_is_true() -> None:
    values = np.linspace(1, 0, 298)
    # The official bin edges, in integers wide enough: 0, 74, 148 (149 rounded half to even), 223, 297
    measure = Measure.of(values)
    assert measure.decay == pytest.approx(values[:75].mean() - values[223:].mean())
    assert 0.7 < measure.decay < 0.8


def reference_boundary_f(pred: np.ndarray, gt: np.ndarray) -> float:
    """The definition, literally: for each boundary pixel, is one of the other's near enough?"""

    def boundary(mask: np.ndarray) -> np.ndarray:
        height, width = mask.shape
        found = []
        for y in range(height):
            for x in range(width):
                others = [(y, min(x + 1, width - 1)), (min(y + 1, height - 1), x)]
                if y + 1 < height and x + 1 < width:
                    others.append((y + 1, x + 1))
                if any(mask[o] != mask[y, x] for o in others):
                    found.append((y, x))
        return np.array(found).reshape(-1, 2)

    radius = math.ceil(0.008 * math.hypot(*pred.shape))
    a, b = boundary(pred), boundary(gt)
    if len(a) == 0 or len(b) == 0:
        return float(len(a) == len(b))
    near = ((a[:, None] - b[None]) ** 2).sum(-1) <= radius**2
    precision, recall = near.any(1).mean(), near.any(0).mean()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10**6), st.tuples(st.integers(1, 40), st.integers(1, 40)), st.sampled_from([0.1, 0.4, 0.7])
)
def test_boundary_matches_its_definition(seed: int, size: tuple[int, int], share: float) -> None:
    rng = np.random.default_rng(seed)
    noise = cv2.GaussianBlur(rng.random((2, *size)).transpose(1, 2, 0).astype(np.float32), (5, 5), 0)
    noise = noise.reshape(*size, 2)
    pred, gt = (np.ascontiguousarray(noise[..., i] < np.quantile(noise, share)) for i in range(2))
    assert boundary_f(pred, gt) == pytest.approx(reference_boundary_f(pred, gt), abs=1e-12)
    assert boundary_f(pred, gt) == pytest.approx(boundary_f(gt, pred), abs=1e-12)


def test_empty_masks() -> None:
    empty, full = np.zeros((20, 30), bool), np.zeros((20, 30), bool)
    full[5:10, 5:10] = True
    assert jaccard(empty, empty) == boundary_f(empty, empty) == 1
    assert jaccard(empty, full) == boundary_f(empty, full) == boundary_f(full, empty) == 0


def test_first_and_last_frame_are_not_scored() -> None:
    gt = np.zeros((5, 20, 20), np.uint8)
    gt[:, 5:15, 5:15] = 7
    pred = gt.copy()
    pred[[0, 4]] = 0
    scores = score_sequence(pred, gt)
    assert list(scores) == [7]
    assert scores[7].J.mean == scores[7].F.mean == 1
    assert len(scores[7].J.values) == 3
    assert score_sequence(pred, gt, scored=[0, 2])[7].J.values.tolist() == [0, 1]
    assert math.isnan(score_sequence(pred[:2], gt[:2])[7].J.mean)


def test_void_pixels_are_ignored() -> None:
    gt = np.zeros((3, 30, 30), np.uint8)
    gt[:, 5:15, 5:15] = 1
    gt[:, 15:20, 5:15] = 255
    pred = np.zeros_like(gt)
    pred[:, 5:20, 5:15] = 1
    scores = score_sequence(pred, gt, void=gt == 255)
    assert list(scores) == [1]
    assert scores[1].J.mean == scores[1].F.mean == 1
    assert score_sequence(pred, np.where(gt == 255, 0, gt))[1].J.mean == pytest.approx(2 / 3)


def test_bad_input() -> None:
    ids = np.zeros((4, 10, 10), np.uint8)
    with pytest.raises(ColorTrackError, match="prediction has 3 frames, the ground truth 4"):
        score_sequence(ids[:3], ids)
    with pytest.raises(ColorTrackError, match="frame 1: the prediction is"):
        score_sequence(ids[:, :5], ids)
    with pytest.raises(ColorTrackError, match="bool and have the same size"):
        jaccard(ids[0], ids[0])
