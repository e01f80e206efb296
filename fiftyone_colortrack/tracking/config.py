"""The settings of the tracker, and their limits. Without torch: forms and the command line read them, too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from fiftyone_colortrack.errors import ColorTrackError

Direction = Literal["forward", "backward", "both"]
DIRECTIONS: tuple[Direction, ...] = get_args(Direction)
Detail = Literal["coarse", "standard", "fine"]
DETAILS: tuple[Detail, ...] = get_args(Detail)
BASELINES = ("identity", "flow", "raft")
"""What `Tracker` takes in place of a model, although it did not learn from colors."""
LIMITS: dict[str, tuple[float, float]] = {
    "memory": (1, 20),
    "labeled": (0, 20),
    "radius": (8, 1000),
    "handicap": (0, 100),
    "top_k": (1, 100),
    "temperature": (1e-4, 10),
    "input_size": (64, 4096),
    "min_confidence": (0, 1),
}
"""The smallest and largest value of each number, for settings, forms, and the command line."""


@dataclass(frozen=True)
class TrackerConfig:
    """How labels are copied from frame to frame.

    Each cell of a frame copies from the `top_k` cells that look most like it: in the last `memory` frames within
    `radius`, as label-free trackers do (Jabri et al. 2020, Caron et al. 2021), and anywhere in the labeled frames,
    where a `handicap` makes up for the distance. So objects are found again after they were hidden.

    Attributes:
        memory: how many of the last frames are searched, 1 to 20
        labeled: how many labeled frames, the nearest ones, stay in memory; 0 forgets them like any other frame
        radius: how far things move between frames, in pixels of the network's input; three quarters of it for
            points; None searches whole frames
        handicap: taken from the similarity of cells of labeled frames beyond the radius, in units of the temperature;
            None does not search there
        top_k: how many of the best matches are copied from; None copies from all
        temperature: of the softmax over the matches; None takes the model's own
        input_size: the short side that frames are scaled to, in pixels, or exactly (height, width); None takes the
            model's own. Small frames are scaled up to twice their size at most
        detail: `coarse` has cells of 8 pixels; `standard` opens the matches of cells at the borders of objects into
            cells of 4 pixels; `fine` runs the network at 4 pixels, which takes several times as long. Models that
            cannot do that are as with `standard`
        outlines: whether masks follow the edges between colors, see `Outlines`
        end_at_cuts: whether tracks end where the shot changes
        clean_masks: whether masks and boxes leave out specks
        min_confidence: labels with less confidence are left out, 0 to 1

    Raises:
        ColorTrackError: if a value is of a wrong type or outside its limits
    """

    memory: int = 7
    labeled: int = 2
    radius: float | None = 128
    handicap: float | None = 2.6
    top_k: int | None = 10
    temperature: float | None = None
    input_size: int | tuple[int, int] | None = None
    detail: Detail = "standard"
    outlines: bool = True
    end_at_cuts: bool = True
    clean_masks: bool = True
    min_confidence: float = 0.0

    def __post_init__(self) -> None:
        for name, (low, high) in LIMITS.items():
            value = getattr(self, name)
            numbers = value if isinstance(value, tuple) and name == "input_size" else (value,)
            if value is None and name in ("radius", "handicap", "top_k", "temperature", "input_size"):
                continue
            whole = name in ("memory", "labeled", "top_k", "input_size")
            kinds = int if whole else (int, float)
            if not all(
                isinstance(n, kinds) and not isinstance(n, bool) and low <= n <= high for n in numbers
            ) or (isinstance(value, tuple) and len(value) != 2):
                number = "a whole number" if whole else "a number"
                raise ColorTrackError(
                    f"TrackerConfig.{name} is {value!r}; it must be {number} from {low:g} to {high:g}"
                )
        if self.detail not in DETAILS:
            raise ColorTrackError(
                f"TrackerConfig.detail is {self.detail!r}; choose one of {', '.join(DETAILS)}"
            )
        for name in ("outlines", "end_at_cuts", "clean_masks"):
            if not isinstance(getattr(self, name), bool):
                raise ColorTrackError(
                    f"TrackerConfig.{name} is {getattr(self, name)!r}; it must be True or False"
                )

    @classmethod
    def from_value(cls, value: TrackerConfig | Mapping[str, Any] | None) -> TrackerConfig:
        """Settings as functions take them: as they are, by name, or None for the defaults.

        Raises:
            ColorTrackError: if a name or a value is wrong
        """
        if value is None:
            return cls()
        if isinstance(value, TrackerConfig):
            return value
        if not isinstance(value, Mapping):
            raise ColorTrackError(
                f"config is {value!r:.60}; it must be a TrackerConfig or a mapping of its fields"
            )
        known = [field.name for field in fields(cls)]
        if unknown := [str(name) for name in value if name not in known]:
            raise ColorTrackError(f"config has no {', '.join(unknown)}; its fields are {', '.join(known)}")
        return cls(**value)

    @classmethod
    def paper(cls, temperature: float = 0.5) -> TrackerConfig:
        """The protocol of Vondrick et al. 2018: 256 x 256 pixels, the last three frames, a softmax over all cells.

        The paper uses temperature 0.5 for masks and 1.0 for keypoints.
        """
        return cls(
            memory=3,
            labeled=0,
            radius=None,
            handicap=None,
            top_k=None,
            temperature=temperature,
            input_size=(256, 256),
            detail="coarse",
            outlines=False,
            clean_masks=False,
        )
