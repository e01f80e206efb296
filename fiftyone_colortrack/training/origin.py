"""What a run began with: its checkpoints keep it, for resumed it must go on with nothing else. No torch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from fiftyone_colortrack.errors import ColorTrackError
from fiftyone_colortrack.model.weights import find_model


@dataclass(frozen=True)
class Origin:
    """What a run began with.

    Attributes:
        data: key of the decoded files, see `cache_key`.
        recipe: its fields; what the data changes in it (`_default_recipe`) is left out.
        init: model name or weights file of the first weights, None for nothing.
        model: the name of these.
        chosen: `temperature` and `options` that were chosen for them, and hold on.
        scores: of the first weights, once they are measured.
    """

    preset: str
    data: str
    seed: int
    recipe: dict[str, Any]
    init: str | None = None
    model: str | None = None
    chosen: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)

    def starting_from(self, init: str | os.PathLike[str] | None) -> Origin:
        """The same with first weights; raises ColorTrackError if they are of another preset."""
        if init is None:
            return self
        info = find_model(init)
        if info.preset != self.preset:
            raise ColorTrackError(f"{init} is of preset {info.preset!r}, not {self.preset!r}")
        chosen = {name: value for name, value in info.metadata.items() if name in ("temperature", "options")}
        return replace(self, init=str(init), model=info.name, chosen=chosen)

    def check(self, now: Origin, run: os.PathLike[str]) -> None:
        """Raises ColorTrackError if a run that began with this must not go on with what is given now."""
        if differences := ", ".join(self._differences(now)):
            raise ColorTrackError(
                f"the run in {run} began with {differences}; give the same to go on, or start the run anew"
            )

    def _differences(self, now: Origin) -> Iterator[str]:
        if self.preset != now.preset:
            yield f"preset {self.preset!r}, not {now.preset!r}"
            return  # a recipe of its own comes with it
        if self.data != now.data:
            yield "other files, or another cache_budget"
        if self.seed != now.seed:
            yield f"seed {self.seed}, not {now.seed}"
        for name in self.recipe | now.recipe:
            then, given = self.recipe.get(name), now.recipe.get(name)
            if then != given:
                yield f"{name} {then}, not {given}"
