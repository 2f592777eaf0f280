"""Draws time and memory against the number of pixels from the rows of `benchmarks.affinity`.

python -m benchmarks.plots rows.jsonl --output=docs
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path

import matplotlib
from matplotlib import pyplot

PANELS = (("median_s", "median time of a call [s]"), ("temp_mib", "temporary memory [MiB]"))


def main() -> None:
    """Writes affinity_time_and_memory.png."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", type=Path)
    parser.add_argument("--output", type=Path, default=Path("docs"))
    given = parser.parse_args()
    lines = [json.loads(line) for line in given.rows.read_text().splitlines()]
    matplotlib.use("Agg")
    figure, panels = pyplot.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    for panel, (key, label) in zip(panels, PANELS, strict=True):
        curves = defaultdict(dict)
        for line in lines:
            if line["benchmark"] == "affinity" and line[key] is not None:
                curves[line["case"]][line["n"]] = line[key]
        for case, points in curves.items():
            panel.plot(*zip(*sorted(points.items()), strict=True), marker="o", ms=4, label=case)
        panel.set(xscale="log", yscale="log", xlabel="pixels N", ylabel=label)
        panel.grid(alpha=0.3)
    panels[0].legend(fontsize="small")
    figure.savefig(given.output / "affinity_time_and_memory.png", dpi=110)


if __name__ == "__main__":
    main()
