"""How many shot changes are found, and how many are false.

    python benchmarks/shots.py ../shared/data/train256b/clips --davis ../shared/data/davis2016-dev

Clips of one shot each are joined in random order: each joint is a cut, and there are
no others. DAVIS sequences hold no cuts at all.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

import cv2
import numpy as np

from fiftyone_colortrack.shots import find_cuts
from fiftyone_colortrack.video import Frames, VideoFile, open_frames


class Joined(Frames):
    """Clips one after the other, the middle square of each."""

    height = width = 256

    def __init__(self, clips: list[VideoFile]) -> None:
        self.clips = clips

    def __len__(self) -> int:
        return sum(map(len, self.clips))

    def _read(self, indices: range, size: tuple[int, int]) -> Iterator[np.ndarray]:
        for clip in self.clips:
            for frame in clip.read(range(len(clip)), size[0]):
                side = min(frame.shape[:2])
                y, x = (frame.shape[0] - side) // 2, (frame.shape[1] - side) // 2
                yield cv2.resize(frame[y : y + side, x : x + side], size, interpolation=cv2.INTER_AREA)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("clips", type=Path, help="folder of clips without shot changes")
    parser.add_argument("--davis", type=Path, help="a DAVIS folder")
    parser.add_argument("--seed", type=int, default=0, help="of the order of the clips")
    arguments = parser.parse_args()

    files = sorted(arguments.clips.glob("*.mp4"))
    order = np.random.default_rng(arguments.seed).permutation(len(files))
    joined = Joined([VideoFile(files[i]) for i in order])
    joints = set(list(accumulate(map(len, joined.clips)))[:-1])
    cuts = set(find_cuts(joined))
    print(f"{len(files)} clips, {len(joined)} frames: {len(cuts & joints)} of {len(joints)} cuts found "
          f"({len(cuts & joints) / len(joints):.1%}), {len(cuts - joints)} false "
          f"({1000 * len(cuts - joints) / len(joined):.2f} per 1,000 frames)")  # fmt: skip
    if arguments.davis:
        sequences = [open_frames(folder) for folder in sorted(arguments.davis.glob("JPEGImages/480p/*"))]
        false = sum(len(find_cuts(sequence)) for sequence in sequences)
        print(f"{len(sequences)} DAVIS sequences, {sum(map(len, sequences))} frames: {false} false")


if __name__ == "__main__":
    main()
