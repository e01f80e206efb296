import json
from pathlib import Path

import numpy as np
import pytest

from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.metrics.pck import ALPHAS, PCKScore, pck, point_errors

GOLDEN = Path(__file__).resolve().parents[2] / ".." / "shared" / "golden"


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="shared/golden is not beside the project")
def test_official_legacy_numbers() -> None:
    tracks = np.load(GOLDEN / "pck_tracks.npz")
    official = json.loads((GOLDEN / "pck_scores.json").read_text())["legacy"]
    gt = [tracks[f"clip{i}_gt_pos_img"].transpose(2, 1, 0) - 1 for i in range(3)]  # the files count from 1
    pred = [tracks[f"clip{i}_pred_xy_px"].transpose(2, 1, 0) for i in range(3)]
    score = pck(pred, gt, mode="legacy")
    for alpha, mean in zip(score.alphas, score.mean, strict=True):
        assert 100 * mean == pytest.approx(official[str(alpha)], abs=1e-6)
    assert np.less(pck(pred, gt, mode="strict").mean, score.mean).all()


def square(frames: int = 3) -> np.ndarray:
    """Four points on a square whose diagonal is 100 / 0.6 pixels, so that the reference length is 100."""
    side = 100 / 0.6 / 2**0.5
    return np.tile(np.array([[0, 0], [side, 0], [0, side], [side, side]]), (frames, 1, 1))


def test_thresholds_are_inclusive_shares_of_the_box() -> None:
    gt = square()
    pred = gt + np.array([[10, 0], [0, 10.1], [30, 40], [60, 0]])
    assert point_errors(pred, gt) == pytest.approx(np.tile([0.1, 0.101, 0.5, 0.6], (3, 1)))
    assert pck([pred], [gt], [0.11, 0.55]).mean == (0.5, 0.75)


def test_first_frame_is_skipped() -> None:
    pred = square()
    pred[0] += 1000
    assert pck([pred], [square()]).mean == (1,) * len(ALPHAS)


def test_lost_points() -> None:
    gt = square()
    pred = gt.copy()
    pred[:, 3] = np.nan
    assert np.isinf(point_errors(pred, gt)[:, 3]).all()
    assert pck([pred], [gt]).mean == (0.75,) * 5
    legacy = pck([pred], [gt], mode="legacy")
    assert legacy.mean == (1,) * 5
    assert np.isnan(legacy.per_point[:, 3]).all()
    # Losing the far corner also shrinks the legacy box.
    pred[:, 1:3] += 10
    assert (point_errors(pred, gt)[:, 1] == point_errors(pred, gt, "legacy")[:, 1]).all()
    pred[:, 1] = np.nan
    assert (point_errors(pred, gt)[:, 2] < point_errors(pred, gt, "legacy")[:, 2]).all()


def test_points_without_annotation_do_not_count() -> None:
    gt = square()
    gt[1:, 0] = np.nan
    pred = square()
    pred[2] = np.nan
    score = pck([pred], [gt])
    assert np.isnan(score.per_point[:, 0]).all()
    assert score.mean == (0.5,) * 5
    gt[:] = np.nan
    assert np.isnan(pck([pred], [gt]).mean).all()


def test_single_point_needs_a_reference() -> None:
    gt = np.zeros((2, 1, 2))
    pred = gt + np.array([[[3, 4]], [[0, 0]]])
    assert point_errors(pred, gt).tolist() == [[np.inf], [0]]
    assert point_errors(pred, gt, reference=np.array([10, 10])).tolist() == [[0.5], [0]]
    assert PCKScore.of([point_errors(pred, gt, reference=np.array([10, 10]))], [0.4, 0.5]).mean == (0.5, 1)


def test_clips_are_pooled() -> None:
    wrong = square(5) + 1000
    assert pck([square(2), wrong], [square(2), square(5)]).mean == pytest.approx((0.2,) * 5)


def test_bad_input() -> None:
    with pytest.raises(ColorTrackError, match="1 predicted and 2 true videos"):
        pck([square()], [square()] * 2)
    with pytest.raises(
        ColorTrackError, match=r"\[T, P, 2\] with the same shape, not \[2, 4, 2\] and \[3, 4, 2\]"
    ):
        pck([square(2)], [square(3)])
