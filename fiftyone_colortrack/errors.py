"""What goes wrong: the one exception that this package raises on bad input, and what becomes of a bad video."""

from typing import Literal

OnError = Literal["skip", "raise"]
"""What a run over many videos does when one fails: report it and go on with the next, or raise the error."""


class ColorTrackError(ValueError):
    """Bad input: the message names the file, field, or frame, and what you can do."""
