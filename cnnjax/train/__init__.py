"""Floor 4: optimizer, state, step, checkpoints, log and loop, for any model, task and data."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
