"""The instruction set, by NumPy's names, and what a checkpoint says of the machine."""

import numpy as np
import pytest

from cnnjax.functional.cpu import machine, onednn_call


@pytest.mark.parametrize(
    ("baseline", "found", "expected"),
    [
        (["SSE", "SSE2"], ["AVX2", "FMA3", "AVX512F", "AVX512_SKX"], "avx512"),
        (["SSE", "SSE2"], ["AVX2", "FMA3"], "avx2"),
        (["X86_V2"], ["X86_V3", "X86_V4"], "avx512"),
        (["X86_V2"], ["X86_V3"], "avx2"),
        (["X86_V2", "X86_V3"], [], "avx2"),
        (["X86_V2"], [], "other"),
        (["NEON", "ASIMD"], ["ASIMDHP"], "other"),
    ],
)
def test_the_instruction_set_by_the_names_of_numpy(baseline, found, expected, monkeypatch):
    extensions = {"baseline": baseline, "found": found}
    monkeypatch.setattr(np, "show_config", lambda mode: {"SIMD Extensions": extensions})
    machine.instructions.cache_clear()
    assert machine.instructions() == expected
    machine.instructions.cache_clear()


def test_a_machine_is_told_in_words(monkeypatch):
    monkeypatch.setattr(machine, "instructions", lambda: "avx2")
    for switch, expected in (
        ("0", "avx2 without oneDNN"),
        ("1", f"avx2 {'with' if onednn_call._works() else 'without'} oneDNN"),
    ):
        monkeypatch.setenv(onednn_call.SWITCH, switch)
        assert str(machine.this_machine()) == expected


def test_a_portable_program_does_not_even_ask(monkeypatch):
    def asked():
        raise AssertionError

    monkeypatch.setattr(onednn_call, "is_available", asked)
    assert machine.this_machine(portable=True).onednn is False
