"""Which steps a run takes in one call, and what is done between two calls."""

from collections.abc import Iterator
from dataclasses import dataclass

from cnnjax.settings import Training

# Calls handed to the device before the first of them is waited for.
CALLS_AHEAD = 2


@dataclass(frozen=True)
class Plan:
    """Decides after which steps the loop logs, evaluates and saves.

    Attributes:
        training: the settings of the run.
        examples: the size of its training set.
    """

    training: Training
    examples: int

    @property
    def total(self) -> int:
        """The last step."""
        return self.training.total_steps(self.examples)

    def epoch(self, step: int) -> float:
        """Passes over the training set after a step."""
        return step * self.training.batch_size / self.examples

    def epoch_ends(self, step: int) -> bool:
        """Whether an epoch ends with a step, or the run does: then it is tested, logged and saved."""
        return step == self.total or self._whole_epochs(step) > self._whole_epochs(step - 1)

    def is_over(self, step: int, best: int | None) -> bool:
        """Whether a run ends early after a step: so many epochs after its best one as its patience is."""
        patience = self.training.patience
        if patience is None or best is None:
            return False
        return self._whole_epochs(step) - self._whole_epochs(best) >= patience

    def logs(self, step: int) -> bool:
        """Whether a row is logged after a step."""
        every = self.training.log_every
        return self.epoch_ends(step) or bool(every and step % every == 0)

    def saves(self, step: int) -> bool:
        """Whether the state is saved after a step."""
        every = self.training.saving.every
        return self.epoch_ends(step) or bool(every and step % every == 0)

    def calls(self, done: int) -> Iterator[int]:
        """How many steps each call takes, after those that are done: as many as are asked for at once, or one.

        A call of several steps ends before or with the step after which something is to be done.
        """
        most = self.training.steps_per_call
        while done < self.total:
            between = range(done + 1, done + most)
            alone = done + most > self.total or any(self.logs(step) or self.saves(step) for step in between)
            size = 1 if alone else most
            yield size
            done += size

    def _whole_epochs(self, steps: int) -> int:
        return steps * self.training.batch_size // self.examples
