"""Training without labels: clips, augmentation, losses, the Lightning module, `fit`.

What is trained on can be collected without torch, which is imported when it is first needed.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
