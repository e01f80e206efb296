"""HOTA, MOTA, and IDF1 against values worked out by hand."""

import math

import numpy as np
import pytest

from fiftyone_colortrack.metrics.mot import MOTScorer

pytest.importorskip("trackeval")
LEFT, RIGHT = np.array([0, 0, 10, 10]), np.array([50, 0, 60, 10])
TRUTH = [{1: LEFT, 2: RIGHT}] * 10


def test_perfect_tracks_score_one_whatever_their_numbers():
    scores = MOTScorer().add(TRUTH, [{8: LEFT, 5: RIGHT}] * 10)
    assert scores == pytest.approx({"HOTA": 1, "MOTA": 1, "IDF1": 1})


def test_tracks_that_swap_halfway():
    """All boxes are found (DetA 1), each track is right for 5 of its 10 boxes, and 2 identities switch."""
    swapped = [{1: LEFT, 2: RIGHT}] * 5 + [{2: LEFT, 1: RIGHT}] * 5
    scores = MOTScorer().add(TRUTH, swapped)
    assert scores["MOTA"] == pytest.approx(1 - 2 / 20)
    assert scores["IDF1"] == pytest.approx(0.5)
    assert scores["HOTA"] == pytest.approx(math.sqrt(5 / 15))  # 5 shared of 10 + 10 - 5 boxes


def test_a_box_at_iou_one_third_counts_only_below_that_threshold():
    shifted = LEFT + np.array([5, 0, 5, 0])  # 50 of 150 pixels are shared
    scores = MOTScorer().add([{1: LEFT}] * 4, [{1: shifted}] * 4)
    assert scores["MOTA"] == pytest.approx(-1)  # 4 misses and 4 false positives of 4 boxes
    assert scores["IDF1"] == 0
    assert scores["HOTA"] == pytest.approx(6 / 19)  # thresholds 0.05 to 0.30 of 19


def test_totals_pool_the_boxes_of_all_videos():
    scorer = MOTScorer()
    scorer.add(TRUTH, TRUTH)
    lost = scorer.add([{1: LEFT}] * 10, [{}] * 10)
    assert lost == {"HOTA": 0, "MOTA": 0, "IDF1": 0}
    totals = scorer.totals()
    assert totals["MOTA"] == pytest.approx(20 / 30)
    assert totals["IDF1"] == pytest.approx(2 * 20 / (30 + 20))
    assert totals["HOTA"] == pytest.approx(math.sqrt(20 / 30))


def test_without_a_true_box_scores_are_undefined():
    scorer = MOTScorer()
    assert all(math.isnan(score) for score in scorer.add([{}], [{1: LEFT}]).values())
    assert all(math.isnan(score) for score in scorer.totals().values())
