"""Floor 7: the `cnnjax` command parses, calls, prints. JAX is imported only once a command needs it."""

from cnnjax.cli.commands import experiment_main, main

__all__ = ["experiment_main", "main"]
