"""The one exception that this package raises on bad input."""

from typing import Literal

OnError = Literal["skip", "raise"]
"""What to do with a video that fails: leave it out and report it, or stop."""


class ColorTrackError(ValueError):
    """Bad input: the message names the file, field, or frame, and the way out."""
