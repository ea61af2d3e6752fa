"""The strictness of the test run: no silent promotion, no silent broadcast, eight devices, no cache of its user's."""

import atexit
import os
import shutil
import tempfile

import jax

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

# Figures are drawn without a screen.
import matplotlib as mpl  # noqa: E402

mpl.use("agg")

# What is worked out about data is kept for this run alone.
os.environ["CNNJAX_CACHE"] = tempfile.mkdtemp(prefix="cnnjax-tests-")
atexit.register(shutil.rmtree, os.environ["CNNJAX_CACHE"], ignore_errors=True)
