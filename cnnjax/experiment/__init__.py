"""Floor 6: an experiment on pictures, from its settings to its page, and the network that it leaves."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
