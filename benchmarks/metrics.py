"""Times the DAVIS measures against a straightforward implementation of the official ones, on rendered masks.

    python benchmarks/metrics.py [--frames 20] [--objects 1 3 10]

Both see the same 480 x 854 frames with wobbling blobs; the scores must agree.
"""

from __future__ import annotations

import argparse
import time

import cv2
import numpy as np

from fiftyone_colortrack.metrics import score_sequence


def official_boundary(mask: np.ndarray) -> np.ndarray:
    """`_seg2bmap` of the official program, in whole-frame numpy operations."""
    mask = mask.astype(bool)
    east, south, south_east = np.zeros_like(mask), np.zeros_like(mask), np.zeros_like(mask)
    east[:, :-1] = mask[:, 1:]
    south[:-1] = mask[1:]
    south_east[:-1, :-1] = mask[1:, 1:]
    edge = mask ^ east | mask ^ south | mask ^ south_east
    edge[-1] = mask[-1] ^ east[-1]
    edge[:, -1] = mask[:, -1] ^ south[:, -1]
    edge[-1, -1] = False
    return edge


def official_f(pred: np.ndarray, gt: np.ndarray) -> float:
    """`f_measure` of the official program."""
    radius = int(np.ceil(0.008 * np.linalg.norm(pred.shape)))
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disk = (x**2 + y**2 <= radius**2).astype(np.uint8)
    pred_edge, gt_edge = official_boundary(pred), official_boundary(gt)
    pred_near = cv2.dilate(pred_edge.astype(np.uint8), disk)
    gt_near = cv2.dilate(gt_edge.astype(np.uint8), disk)
    n_pred, n_gt = np.sum(pred_edge), np.sum(gt_edge)
    if n_pred == 0 or n_gt == 0:
        return float(n_pred == n_gt)
    precision, recall = np.sum(pred_edge * gt_near) / n_pred, np.sum(gt_edge * pred_near) / n_gt
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def official_j(pred: np.ndarray, gt: np.ndarray) -> float:
    """`db_eval_iou` of the official program."""
    union = np.sum(pred | gt)
    return np.sum(pred & gt) / union if union else 1.0


def official_scores(pred: np.ndarray, gt: np.ndarray) -> np.ndarray:
    """Mean J and F of every object, ``[objects, 2]``."""
    scores = []
    for i in range(1, int(gt.max()) + 1):
        pairs = [(pred[t] == i, gt[t] == i) for t in range(1, len(gt) - 1)]
        scores.append([np.mean([measure(*pair) for pair in pairs]) for measure in (official_j, official_f)])
    return np.array(scores)


def wobbling_blobs(frames: int, objects: int, seed: int) -> np.ndarray:
    """Object ids ``[T, 480, 854]``, each object an ellipse of about a tenth of the frame's width."""
    rng = np.random.default_rng(seed)
    centers = np.random.default_rng(0).uniform([100, 100], [754, 380], (objects, 2))
    ids = np.zeros((frames, 480, 854), np.uint8)
    for t in range(frames):
        for i in range(objects):
            x, y = centers[i] + rng.normal(0, 6, 2)
            axes = (int(rng.integers(30, 60)), int(rng.integers(40, 90)))
            cv2.ellipse(ids[t], (int(x), int(y)), axes, rng.uniform(0, 180), 0, 360, i + 1, -1)
    return ids


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--objects", type=int, nargs="+", default=[1, 3, 10])
    options = parser.parse_args()
    print(f"{'objects':>8} {'official ms/frame':>18} {'ours ms/frame':>14} {'times faster':>13}")
    for objects in options.objects:
        gt, pred = (wobbling_blobs(options.frames, objects, seed) for seed in (1, 2))
        score_sequence(pred[:3], gt[:3])
        start = time.perf_counter()
        ours = score_sequence(pred, gt)
        middle = time.perf_counter()
        official = official_scores(pred, gt)
        end = time.perf_counter()
        np.testing.assert_allclose([[s.J.mean, s.F.mean] for s in ours.values()], official, atol=1e-12)
        theirs, mine = (1e3 * seconds / (options.frames - 2) for seconds in (end - middle, middle - start))
        print(f"{objects:8} {theirs:18.2f} {mine:14.2f} {theirs / mine:13.1f}")


if __name__ == "__main__":
    main()
