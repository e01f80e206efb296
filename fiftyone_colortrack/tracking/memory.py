"""Which past frames the tracker looks at, and their soft labels."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


class Memory:
    """Features and soft labels of a fixed number of frames: labelled ones, which stay, and the last ones.

    Everything lies in two buffers that are written in place: the size does not grow with the video's length.
    """

    def __init__(self, labelled: Sequence[tuple[Tensor, Tensor]], recent: int, keep: bool = True) -> None:
        """
        Args:
            labelled: (features [h, w, C], soft labels [h, w, L]) of the labelled frames, at least one
            recent: how many of the frames that are added later are kept
            keep: the labelled frames stay; else the first of them leaves like any other frame
        """
        features, labels = labelled[0]
        self._labelled = len(labelled) if keep else 0
        self._recent = recent
        self._added = 0
        self._features = features.new_empty(self._labelled + recent, *features.shape)
        self._labels = labels.new_empty(self._labelled + recent, *labels.shape)
        if keep:
            for slot, (features, labels) in enumerate(labelled):
                self._features[slot] = features
                self._labels[slot] = labels
        else:
            self.add(features, labels)

    def add(self, features: Tensor, labels: Tensor) -> None:
        """Remember a frame ([h, w, C], [h, w, L]); the oldest one that was added leaves a full memory."""
        slot = self._labelled + self._added % self._recent
        self._features[slot] = features
        self._labels[slot] = labels
        self._added += 1

    @property
    def features(self) -> Tensor:
        """[T, h, w, C], a view."""
        return self._features[: self._size]

    @property
    def last(self) -> Tensor:
        """Features [h, w, C] of the frame that was added last, else of the first labelled one, a view."""
        return self._features[self._labelled + (self._added - 1) % self._recent if self._added else 0]

    @property
    def labels(self) -> Tensor:
        """[T * h * w, L], a view."""
        return self._labels[: self._size].flatten(0, 2)

    @property
    def _size(self) -> int:
        return self._labelled + min(self._added, self._recent)
