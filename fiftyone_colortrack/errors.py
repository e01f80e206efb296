"""The exception that this package raises on bad input."""

from collections.abc import Iterable
from typing import Literal

OnError = Literal["skip", "raise"]
"""What to do with a video that fails: leave it out and report it, or stop."""


class ColorTrackError(ValueError):
    """Bad input. The message names the file, field, or frame, and says what to do."""


def check_choice(name: str, value: object, choices: Iterable[object]) -> None:
    """Raise a ColorTrackError if an argument is none of its choices."""
    known = list(choices)
    if not any(value is one or (isinstance(value, str) and value == one) for one in known):
        raise ColorTrackError(f"{name} is {value!r}; choose one of {', '.join(map(str, known))}")
