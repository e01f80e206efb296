"""DAVIS and JHMDB as a remotely-sourced dataset of FiftyOne's zoo.

A repository can offer only one such dataset, so `source` chooses between them:

    foz.load_zoo_dataset(url, split="val")                            # DAVIS 2017
    foz.load_zoo_dataset(url, split="test", source="jhmdb", fold=1)   # JHMDB, the first of its three splits
"""

import logging
import os

try:
    from fiftyone_colortrack.datasets.davis import DavisFolder, load_davis
    from fiftyone_colortrack.datasets.download import download
    from fiftyone_colortrack.datasets.jhmdb import JhmdbFolder, load_jhmdb
    from fiftyone_colortrack.datasets.video_dataset import unused_name
    from fiftyone_colortrack.fields import color_by_object
except ImportError as error:
    raise ImportError("this zoo dataset needs its package; run: pip install fiftyone-colortrack") from error

logger = logging.getLogger(__name__)

# JHMDB has no validation split. DAVIS's test splits have no public masks.
SPLITS = {"davis-2016": ("train", "val"), "davis-2017": ("train", "val"), "jhmdb": ("train", "test")}


def download_and_prepare(dataset_dir, split=None, source="davis-2017", fold=1):
    """Download what is missing; returns the number of videos in the split, which FiftyOne asks for."""
    if split not in SPLITS[source]:
        return None, 0, None
    root = download(source, os.path.join(dataset_dir, source))
    folder = JhmdbFolder(root, f"split{fold}-{split}") if source == "jhmdb" else DavisFolder(root, split)
    return None, len(folder.names), None


def load_dataset(dataset, dataset_dir, split=None, source="davis-2017", fold=1):
    """Add the videos of a split to the dataset."""
    if split not in SPLITS[source]:
        logger.warning("%s has no split %r, only %s", source, split, " and ".join(SPLITS[source]))
        return
    root = download(source, os.path.join(dataset_dir, source))
    name = unused_name(f"{dataset.name}-{split}")
    if source == "jhmdb":
        loaded = load_jhmdb(root, name, split=f"split{fold}-{split}")
    else:
        loaded = load_davis(root, name, split=split)
    try:
        dataset.add_collection(loaded)
        dataset.info.update(loaded.info)
        dataset.skeletons = {**dataset.skeletons, **loaded.skeletons}
        color_by_object(dataset)
        dataset.save()
    finally:
        loaded.delete()
