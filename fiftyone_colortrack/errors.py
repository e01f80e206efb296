"""The one exception that this package raises on bad input."""


class ColorTrackError(ValueError):
    """Bad input: the message names the file, field or frame, and the way out."""
