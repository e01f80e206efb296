"""How wrong predicted colors are, whatever the lightness: in the ab plane of CIE Lab."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from fiftyone_colortrack.errors import ColorTrackError


@dataclass(frozen=True)
class ColorError:
    """Color errors of one frame.

    Args:
        top1: the share of pixels whose nearest palette color is the true one, 0 to 1
        distance: the mean distance from the true color in the ab plane (one just visible is about 2)
    """

    top1: float
    distance: float


def color_error(pred: np.ndarray, gt: np.ndarray, palette: np.ndarray) -> ColorError:
    """Compare the colors of two frames.

    Args:
        pred: predicted frame, ``uint8`` RGB ``[H, W, 3]``
        gt: true frame, alike
        palette: ``[K, 2]`` cluster centers in CIE units (sRGB's a and b lie within -108 to 99)

    Raises:
        ColorTrackError: if sizes or types differ
    """
    if pred.shape != gt.shape or pred.dtype != np.uint8 or gt.dtype != np.uint8:
        raise ColorTrackError(
            "frames must be uint8 and have the same shape, "
            f"not {pred.dtype} {list(pred.shape)} and {gt.dtype} {list(gt.shape)}"
        )
    pred_ab, gt_ab = _ab(pred), _ab(gt)
    same = _nearest(pred_ab, palette) == _nearest(gt_ab, palette)
    return ColorError(float(same.mean()), float(np.linalg.norm(pred_ab - gt_ab, axis=1).mean()))


def _ab(frame: np.ndarray) -> np.ndarray:
    lab = cv2.cvtColor(frame.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)
    return lab[..., 1:].reshape(-1, 2)  # HW x 2


def _nearest(ab: np.ndarray, palette: np.ndarray) -> np.ndarray:
    centers = palette.astype(np.float32)
    return (ab @ centers.T - 0.5 * (centers**2).sum(1)).argmax(1)  # HW
