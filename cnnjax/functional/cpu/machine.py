"""What a choice between methods depends on besides the shape: the instruction set, and whether oneDNN is to be had."""

from dataclasses import dataclass
from functools import cache
from typing import Literal, TypeAlias

import numpy as np

from cnnjax.functional.cpu import onednn_call

Instructions: TypeAlias = Literal["avx512", "avx2", "other"]

# NumPy's names of what the widest instructions need, in its older and newer versions.
_NAMES: dict[Instructions, frozenset[str]] = {
    "avx512": frozenset({"AVX512F", "AVX512_SKX", "X86_V4"}),
    "avx2": frozenset({"AVX2", "X86_V3"}),
}


@dataclass(frozen=True)
class Machine:
    """What one program's choices are made for; two machines that are equal compile equal programs.

    Attributes:
        instructions: the widest vector instructions.
        onednn: whether jaxlib's oneDNN is called.
    """

    instructions: Instructions
    onednn: bool

    def __str__(self) -> str:
        return f"{self.instructions} {'with' if self.onednn else 'without'} oneDNN"


def this_machine(*, portable: bool = False) -> Machine:
    """The machine that this process runs on, without anything of jaxlib's own where the program must be `portable`."""
    return Machine(instructions(), not portable and onednn_call.is_available())


@cache
def instructions() -> Instructions:
    """The widest vector instructions of this machine for which there are rules."""
    extensions = np.show_config(mode="dicts")["SIMD Extensions"]
    found = {*extensions.get("baseline", ()), *extensions.get("found", ())}
    return next((name for name, names in _NAMES.items() if names & found), "other")
