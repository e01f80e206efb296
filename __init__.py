"""The plugin's door: FiftyOne imports this file, wherever the folder lies, and calls `register`."""

import os
import sys

_folder = os.path.dirname(os.path.realpath(__file__))
if _folder not in sys.path:
    sys.path.insert(0, _folder)


def register(plugin):
    from fiftyone_colortrack.plugin import CLASSES

    for cls in CLASSES:
        plugin.register(cls)
