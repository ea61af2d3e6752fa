"""Floor 7: the `cnnjax` command parses, calls, prints. JAX is imported only once a command needs it."""

from cnnjax.cli.commands import experiment_main, main
from cnnjax.cli.errors import one_line_errors

__all__ = ["experiment_main", "main", "one_line_errors"]
