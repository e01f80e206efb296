"""The settings of the tracker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from fiftyone_colortrack.errors import ColorTrackError

Direction = Literal["forward", "backward", "both"]
DIRECTIONS: tuple[Direction, ...] = get_args(Direction)
BASELINES = ("identity", "flow", "raft")
"""What `Tracker` takes for a model, though it learned nothing from colours."""


@dataclass(frozen=True)
class TrackerConfig:
    """How labels are copied from frame to frame.

    The defaults are the protocol that the label-free trackers of the field share (first frame + last 7,
    disc of 12 cells, top-10; Jabri et al. 2020, Caron et al. 2021).

    Attributes:
        memory: how many of the last frames are looked at, 1 to 20
        labeled: how many labeled frames, the nearest ones, stay in memory; 0 forgets them like any frame
        radius: a cell looks at cells at most this far away (Euclidean, in cells); None looks everywhere
        top_k: only the best matches are copied from; None copies from all
        temperature: of the softmax over the matches; None takes the model's own
        input_size: the short side that frames are scaled to, in pixels, or exactly (height, width)
        outlines: masks follow the edges between colours, see `Outlines`; else they are interpolated
        end_at_cuts: tracks end where the shot changes
        clean_masks: masks and boxes leave out specks
        min_confidence: labels with less confidence are left out, 0 to 1
    """

    memory: int = 7
    labeled: int = 2
    radius: float | None = 12
    top_k: int | None = 10
    temperature: float | None = None
    input_size: int | tuple[int, int] = 480
    outlines: bool = True
    end_at_cuts: bool = True
    clean_masks: bool = True
    min_confidence: float = 0.0

    def __post_init__(self) -> None:
        sizes = (self.input_size,) if isinstance(self.input_size, int) else self.input_size
        checks = [
            ("memory", 1 <= self.memory <= 20, "from 1 to 20"),
            ("labeled", 0 <= self.labeled <= 20, "from 0 to 20"),
            ("radius", self.radius is None or self.radius >= 1, "at least 1, or None"),
            ("top_k", self.top_k is None or self.top_k >= 1, "at least 1, or None"),
            ("temperature", self.temperature is None or self.temperature > 0, "above 0, or None"),
            ("input_size", all(64 <= size <= 4096 for size in sizes), "from 64 to 4096 pixels"),
        ]
        for name, good, rule in checks:
            if not good:
                raise ColorTrackError(f"TrackerConfig.{name} is {getattr(self, name)}; it must be {rule}")

    @classmethod
    def paper(cls, temperature: float = 0.5) -> TrackerConfig:
        """The protocol of Vondrick et al. 2018: 256 x 256 pixels, last three frames, softmax over all cells.

        The paper uses temperature 0.5 for masks and 1.0 for key points.
        """
        return cls(
            memory=3,
            labeled=0,
            radius=None,
            top_k=None,
            temperature=temperature,
            input_size=(256, 256),
            outlines=False,
        )
