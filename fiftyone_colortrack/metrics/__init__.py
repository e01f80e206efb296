"""How good tracks are: J and F of DAVIS, PCK of JHMDB, color error. Numpy only, no FiftyOne."""

from fiftyone_colortrack.metrics.color_error import ColorError, color_error
from fiftyone_colortrack.metrics.davis import Measure, ObjectScore, boundary_f, jaccard, score_sequence
from fiftyone_colortrack.metrics.pck import PCKScore, pck, point_errors
