"""What several seeds of an experiment reach."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnnjax.report.results import mean_and_deviation, write_results
from cnnjax.report.run_report import RECEPTIVE_FIELDS
from cnnjax.train import TrainResult, format_metric


def write_seeds(path: Path, results: Mapping[int, TrainResult], *, headline: str, settings: Mapping[str, Any]) -> str:
    """Writes what several seeds reached as JSON, and beside it the first run's receptive fields; says it in a line.

    The seconds of a run that was resumed are not known, and are null.

    Args:
        path: of the JSON.
        results: by seed.
        headline: the number that counts, such as "accuracy".
        settings: of all runs, as plain values.

    Returns:
        What to print.
    """
    runs = [
        {
            "seed": seed,
            **result.evaluation.summary,
            "seconds": None if result.first_step else round(result.seconds, 1),
        }
        for seed, result in results.items()
    ]
    whole = [result.seconds for result in results.values() if not result.first_step]
    score = mean_and_deviation([result.evaluation.summary[headline] for result in results.values()])
    write_results(path, {"settings": settings, f"test_{headline}": score, "runs": runs})
    written, drawn = [str(path)], next(iter(results.values())).run_dir / RECEPTIVE_FIELDS
    if drawn.exists():  # some models have none
        picture = path.with_name(f"{path.stem}_receptive_fields.png")
        shutil.copy(drawn, picture)
        written.append(picture.name)
    mean, deviation = (format_metric(headline, score[part]) for part in ("mean", "deviation"))
    return (
        f"test {headline.replace('_', ' ')} {mean} +- {deviation} over {len(runs)} seeds,"
        f" {f'at most {max(whole):.1f} s each' if whole else 'all resumed'}; written to {' and '.join(written)}"
    )
