"""Floor 3: what a model's output means. A task gives loss, metrics and predictions, and draws them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
