"""Label one frame of a video and get every frame labeled.

`__init__.pyi` lists the public names. Each is imported when it is first used, so importing this package, as FiftyOne
does to register the plugin, takes no time.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
