"""Label one frame of a video and get every frame labeled.

`__init__.pyi` lists the public names. Each is imported when you first use it, so importing this package is fast, as it
must be to register the plugin.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
