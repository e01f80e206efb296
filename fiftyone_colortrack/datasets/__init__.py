"""Datasets: DAVIS, JHMDB, BADJA, Kinetics and rendered scenes, as lists of files and as FiftyOne datasets.

The ``read_*`` functions never import FiftyOne, the ``load_*`` functions do when they are called.
"""

ENCODED = "colortrack-videos"
"""The folder, beside a dataset's own, with the videos that loaders encode."""
