"""DAVIS and JHMDB as a remotely-sourced dataset of FiftyOne's zoo.

One repository can offer one dataset there, so ``source`` chooses between them::

    foz.load_zoo_dataset(url, split="val")                            # DAVIS 2017
    foz.load_zoo_dataset(url, split="test", source="jhmdb", fold=1)   # JHMDB, first of its three splits
"""

import logging
import os

try:
    from fiftyone_colortrack.datasets.davis import DavisFolder, add_davis
    from fiftyone_colortrack.datasets.download import download
    from fiftyone_colortrack.datasets.jhmdb import JhmdbFolder, add_jhmdb
    from fiftyone_colortrack.fields import color_by_instance
except ImportError as error:
    raise ImportError("this zoo dataset needs its package: pip install fiftyone-colortrack") from error

logger = logging.getLogger(__name__)

# JHMDB has no validation split; of DAVIS, the test splits have no public masks.
SPLITS = {"davis-2016": ("train", "val"), "davis-2017": ("train", "val"), "jhmdb": ("train", "test")}


def download_and_prepare(dataset_dir, split=None, source="davis-2017", fold=1):
    """Downloads what is missing; returns the number of videos in the split, as FiftyOne asks for it."""
    root = download(source, os.path.join(dataset_dir, source))
    return None, len(_folder(root, split, source, fold).names) if split in SPLITS[source] else 0, None


def load_dataset(dataset, dataset_dir, split=None, source="davis-2017", fold=1):
    """Adds the videos of a split to the dataset."""
    if split not in SPLITS[source]:
        logger.warning("%s has no split %r, only %s", source, split, " and ".join(SPLITS[source]))
        return
    root = download(source, os.path.join(dataset_dir, source))
    color_by_instance(dataset)
    (add_jhmdb if source == "jhmdb" else add_davis)(dataset, _folder(root, split, source, fold))


def _folder(root, split, source, fold):
    return JhmdbFolder(root, f"split{fold}-{split}") if source == "jhmdb" else DavisFolder(root, split)
