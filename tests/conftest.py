"""The strictness of the test run: no silent promotion, no silent broadcast, eight devices."""

import jax

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

# Figures are drawn without a screen.
import matplotlib as mpl  # noqa: E402

mpl.use("agg")
