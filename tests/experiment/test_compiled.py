"""The folder in which XLA keeps what it compiles."""

import re
import stat

import jax

from cnnjax.experiment.compiled import keep_compiled


def test_compiled_programs_are_kept_in_a_private_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("CNNJAX_CACHE", str(tmp_path / "cache"))
    before = jax.config.jax_compilation_cache_dir
    try:
        jax.config.update("jax_compilation_cache_dir", None)
        folder = keep_compiled()
        assert re.fullmatch(r"compiled-[0-9a-f]{12}", folder.name)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert jax.config.jax_compilation_cache_dir == str(folder)
        jax.config.update("jax_compilation_cache_dir", str(tmp_path / "mine"))
        assert keep_compiled() == tmp_path / "mine"
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
