"""Floor 0: what is for the eye. Figures (data in, matplotlib out), tables, one self-contained HTML page.

Nothing here knows a model. What callers need is reached from here too and loaded when first used, so that writing a
page needs no matplotlib. A page is written by `view.page.render`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
