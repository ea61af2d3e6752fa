"""Predicted efficiency of data-parallel training, from 1 to 4,096 devices.

Claim: for ResNet-50's float32 gradients, a step of 100 ms and links of 100 Gbit/s, bandwidth costs most of what is lost
up to 1,024 devices, whatever the algorithm; beyond, the latency of a ring does, which a tree is spared.

    python experiments/scaling.py                                                      # writes JSON and picture
    python experiments/scaling.py --step-milliseconds 90 --link-gigabits 400 --overlap 0.5 --output mine.png

Expected: efficiency of 92.4 % on 2 devices, 84.1 % by a ring and 85.9 % by a tree on 256, 63.6 % and 85.9 % on 4,096;
in seconds, for nothing is measured.

The time of the sum of gradients over n devices is that of its bytes and of its messages,

    ring  t(n) = 2 (n - 1) / n * bytes / bandwidth + 2 (n - 1) * latency
    tree  t(n) = 2 (n - 1) / n * bytes / bandwidth + 2 ceil(log2 n) * latency

of which a share of the step may be hidden behind the backward pass, and efficiency = step / (step + what is not).

Reference: Patarasu and Yuan (2009), "Bandwidth optimal all-reduce algorithms for clusters of workstations", on
the ring; Thakur, Rabenseifner and Gropp (2005), "Optimization of collective communication operations in MPICH", on
recursive halving and doubling, the tree.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tyro
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, PercentFormatter
from rich.console import Console
from rich.table import Table

from cnnjax.cli import one_line_errors
from cnnjax.report.results import write_results
from cnnjax.view.figures import png, style

PICTURE = Path(__file__).parent / "results" / "scaling.png"
DEVICES = tuple(2**power for power in range(13))
ALGORITHMS = ("ring", "tree")

ASSUMPTIONS = (
    "Assumed: every device keeps its share of the batch, and thus its step time, however many there are. Each has a"
    " link of its own that sends and receives at full speed at once, and no two messages share a wire: hosts of several"
    " devices, faster links within them and crowded switches are left out. Gradients are summed once a step, in one"
    " piece; reading data, slow devices and batch normalisation over all devices cost nothing. The tree is recursive"
    " halving and doubling."
)


@dataclass(frozen=True)
class Setting:
    """What the prediction is made from.

    Attributes:
        bytes: that are summed over the devices in each step; ResNet-50's gradients in float32 unless given.
        step_milliseconds: time of a step on one device.
        link_gigabits: that a device sends, and at the same time receives, in a second.
        latency_microseconds: that a message takes beyond its bytes.
        overlap: share of the step behind which communication hides; 0 for none, which is the worst case.
    """

    bytes: int = 102_228_128
    step_milliseconds: float = 100.0
    link_gigabits: float = 100.0
    latency_microseconds: float = 5.0
    overlap: float = 0.0

    def __post_init__(self) -> None:
        """Refuses settings of which there is no prediction."""
        for name in ("bytes", "step_milliseconds", "link_gigabits"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name}={getattr(self, name)}; expected a number above 0")
        for name, most in (("latency_microseconds", float("inf")), ("overlap", 1.0)):
            value = getattr(self, name)
            if not 0 <= value <= most or value == float("inf"):
                raise ValueError(f"{name}={value}; expected at least 0{' and at most 1' if most == 1 else ''}")


def reduction_seconds(setting: Setting, devices: int, algorithm: str) -> float:
    """Seconds that the sum over so many devices takes, by a ring or a tree."""
    seconds = 8 * setting.bytes / (setting.link_gigabits * 1e9)
    messages = {"ring": devices - 1, "tree": (devices - 1).bit_length()}[algorithm]
    return 2 * (devices - 1) / devices * seconds + 2 * messages * setting.latency_microseconds * 1e-6


def efficiency(setting: Setting, devices: int, algorithm: str) -> float:
    """Share of the step in which a device does not wait for others."""
    step = setting.step_milliseconds * 1e-3
    exposed = max(0.0, reduction_seconds(setting, devices, algorithm) - setting.overlap * step)
    return step / (step + exposed)


def predict(setting: Setting) -> list[dict[str, Any]]:
    """A row for each number of devices: milliseconds of communication, efficiency, and times one device's speed."""
    rows = []
    for devices in DEVICES:
        row: dict[str, Any] = {"devices": devices}
        for algorithm in ALGORITHMS:
            share = efficiency(setting, devices, algorithm)
            row[algorithm] = {
                "milliseconds": round(1e3 * reduction_seconds(setting, devices, algorithm), 3),
                "efficiency": round(share, 4),
                "speedup": round(devices * share, 1),
            }
        rows.append(row)
    return rows


def tabulate(rows: list[dict[str, Any]]) -> Table:
    """The rows as a table."""
    table = Table("\ndevices", title="Predicted, not measured")
    for algorithm in ALGORITHMS:
        for column in ("ms", "efficiency", "speedup"):
            table.add_column(f"{algorithm}\n{column}")
    for column in table.columns:
        column.justify = "right"
    for row in rows:
        cells = [row[algorithm] for algorithm in ALGORITHMS]
        texts = [
            (f"{cell['milliseconds']:,.2f}", f"{cell['efficiency']:.1%}", f"{cell['speedup']:,.1f}") for cell in cells
        ]
        table.add_row(f"{row['devices']:,}", *(text for three in texts for text in three))
    return table


@style()
def draw(rows: list[dict[str, Any]], setting: Setting) -> Figure:
    """Efficiency over the number of devices, a line for each algorithm."""
    figure = Figure(figsize=(7, 4))
    axes = figure.subplots()
    devices = [row["devices"] for row in rows]
    for algorithm, marker in zip(ALGORITHMS, "os", strict=True):
        axes.plot(devices, [row[algorithm]["efficiency"] for row in rows], f"{marker}-", label=algorithm)
    axes.set_xscale("log", base=2)
    axes.set(ylim=(0, 1.03), xlabel="devices", ylabel="efficiency")
    axes.set_xticks(devices, [f"{count:,}" for count in devices])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_title(
        f"Predicted: {setting.bytes / 1e6:,.0f} MB of gradients, a step of {setting.step_milliseconds:g} ms,\n"
        f"{setting.link_gigabits:g} Gbit/s, {setting.latency_microseconds:g} µs a message,"
        f" {setting.overlap:.0%} of the step overlapped"
    )
    axes.legend(loc="lower left")
    return figure


def main(setting: tyro.conf.OmitArgPrefixes[Setting] = Setting(), output: Path = PICTURE) -> None:
    """Predict how efficiently devices train together, print it with what it assumes, write JSON and picture.

    Args:
        setting: What the prediction is made from.
        output: PNG file of the curve; the numbers go to a JSON file beside it.
    """
    rows = predict(setting)
    console = Console()
    console.print(tabulate(rows))
    console.print(ASSUMPTIONS, highlight=False)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_bytes(png(draw(rows, setting)))
    write_results(output.with_suffix(".json"), {"setting": asdict(setting), "assumed": ASSUMPTIONS, "predicted": rows})
    console.print(f"written to {output}, and {output.with_suffix('.json').name}", highlight=False)


if __name__ == "__main__":
    with one_line_errors():
        tyro.cli(main)
