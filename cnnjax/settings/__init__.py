"""Floor 0: settings as frozen dataclasses that check themselves; importing them imports no JAX."""

from cnnjax.settings.checked import NOT_NEGATIVE, POSITIVE, SHARE, UNRECORDED, Checked, Range
from cnnjax.settings.objects import Objects
from cnnjax.settings.plain import differences, from_plain, to_plain
from cnnjax.settings.proposals import Proposals
from cnnjax.settings.training import Devices, Folder, Loading, Optimizer, Precision, Saving, Schedule, Training

__all__ = [
    "NOT_NEGATIVE",
    "POSITIVE",
    "SHARE",
    "UNRECORDED",
    "Checked",
    "Devices",
    "Folder",
    "Loading",
    "Objects",
    "Optimizer",
    "Precision",
    "Proposals",
    "Range",
    "Saving",
    "Schedule",
    "Training",
    "differences",
    "from_plain",
    "to_plain",
]
