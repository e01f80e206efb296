"""The demo's videos: a real one out of a package of the index, with labels drawn by hand, and rendered ones."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError, files
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import fiftyone as fo
import numpy as np

from fiftyone_colortrack.datasets.scenes import render_scene
from fiftyone_colortrack.datasets.video_dataset import Instances, build_dataset, encode_once, video_sample
from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.video import ArrayFrames, VideoFile

LABELS = Path(__file__).parents[2] / "assets" / "bikes_labels.json"
