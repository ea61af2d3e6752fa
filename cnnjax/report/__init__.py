"""Floor 5: what a run and an experiment leave: analyses and page of a run, measured results, timings."""
