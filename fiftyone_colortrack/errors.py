"""The exception that this package raises on bad input."""

from typing import Literal

OnError = Literal["skip", "raise"]
"""What to do with a video that fails: leave it out and report it, or stop."""


class ColorTrackError(ValueError):
    """Bad input. The message names the file, field, or frame, and says what to do."""
