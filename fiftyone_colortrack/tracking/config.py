"""The settings of the tracker and their limits. Without PyTorch, because forms and the command line read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

from fiftyone_colortrack.errors import ColorTrackError

Direction = Literal["forward", "backward", "both"]
DIRECTIONS: tuple[Direction, ...] = get_args(Direction)
Detail = Literal["coarse", "standard", "fine"]
DETAILS: tuple[Detail, ...] = get_args(Detail)
BASELINES = ("identity", "flow", "raft")
"""What `Tracker` accepts in place of a model."""
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

    Each cell of a frame copies labels from the `top_k` cells that look most like it: within `radius` in the last
    `memory` frames, as in other label-free trackers (Jabri et al. 2020, Caron et al. 2021), and anywhere in the
    labeled frames, with a `handicap` beyond the radius. This is how the tracker finds an object again after an
    occlusion. A model may come with its own values for settings that you leave at their defaults.

    Attributes:
        memory: number of recent frames to search for matches, 1 to 20
        labeled: number of labeled frames to keep in memory, the nearest ones; 0 treats them like other frames
        radius: farthest that anything moves from one frame to the next, 8 to 1,000 pixels of the scaled frame; points
            use three quarters of it. None searches whole frames
        handicap: what matches in labeled frames beyond the radius lose in similarity, 0 to 100 times the temperature.
            None ignores these matches
        top_k: number of best matches to copy labels from, 1 to 100. None copies from all
        temperature: temperature of the softmax over the matches, 0.0001 to 10. None uses the model's own
        input_size: short side that frames are scaled to, 64 to 4,096 pixels, or exactly (height, width). None uses
            the model's own. Frames are at most doubled in size
        detail: `coarse` uses cells of 8 pixels; `standard` refines the borders of objects to cells of 4 pixels;
            `fine` also runs the network at 4 pixels, which takes several times as long. Models that cannot do that
            use `standard`
        outlines: make masks follow the edges between colors, see `Outlines`
        end_at_cuts: end tracks at shot changes
        clean_masks: remove specks from masks and boxes, and keep points from jumping to look-alikes
        min_confidence: discard labels below this confidence, 0 to 1

    Raises:
        ColorTrackError: if a value has the wrong type or is outside its limits
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

    def with_defaults(self, defaults: Mapping[str, Any]) -> TrackerConfig:
        """These settings, with other values for some that have their default value."""
        own = {field.name for field in fields(self) if getattr(self, field.name) != field.default}
        return replace(self, **{name: value for name, value in defaults.items() if name not in own})

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
