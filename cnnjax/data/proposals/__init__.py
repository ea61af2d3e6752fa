"""Region proposals on the host: boxes that may hold an object of any class, for detectors such as R-CNN.

`selective_search` finds them in NumPy and SciPy, in a second or more for a picture; `cached_proposals` keeps them in a
folder, filled up to one shape, and `SearchedProposals` adds them to the examples of a source. `segmentation`, `colours`
and `grouping` are its steps.
"""

from cnnjax.data.proposals.cache import cached_proposals
from cnnjax.data.proposals.selective_search import selective_search
from cnnjax.data.proposals.source import KeptProposals, SearchedProposals, proposals_of

__all__ = ["KeptProposals", "SearchedProposals", "cached_proposals", "proposals_of", "selective_search"]
