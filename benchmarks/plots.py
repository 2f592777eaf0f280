"""Draws time and memory against the number of pixels from the rows of `benchmarks.affinity`.

Rows of one case and size replace earlier ones.

    python -m benchmarks.plots rows.jsonl --output=docs
"""

import argparse
import itertools
import json
from collections import defaultdict
from pathlib import Path

import matplotlib
from matplotlib import pyplot

PANELS = (("median_s", "median time of a call [s]"), ("temp_mib", "temporary memory [MiB]"))


def main() -> None:
    """Writes affinity_time_and_memory.png."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", type=Path, help="JSON lines of benchmarks.affinity")
    parser.add_argument("--output", type=Path, default=Path("docs"), help="folder of the picture")
    given = parser.parse_args()
    if not given.rows.is_file() or not given.output.is_dir():
        parser.error(f"{given.rows} must be a file and {given.output} a folder")
    lines = [json.loads(line) for line in given.rows.read_text().splitlines()]
    lines = [line for line in lines if line["benchmark"] == "affinity"]
    if not lines:
        parser.error(f"{given.rows} holds no row of benchmarks.affinity")
    matplotlib.use("Agg")
    figure, panels = pyplot.subplots(1, 2, figsize=(11, 5.2), layout="constrained")
    for panel, (key, label) in zip(panels, PANELS, strict=True):
        curves = defaultdict(dict)
        for line in lines:
            if line[key] is not None:
                curves[line["case"]][line["n"]] = line[key]
        # Curves that lie on each other are told apart by their markers.
        for (case, points), marker in zip(curves.items(), itertools.cycle("osv^DPX")):
            points = zip(*sorted(points.items()), strict=True)
            panel.plot(*points, marker=marker, ms=6, mfc="none", label=case)
        panel.set(xscale="log", yscale="log", xlabel="pixels N", ylabel=label)
        panel.grid(alpha=0.3)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    figure.suptitle(f"Affinity between all pairs, {lines[-1]['device']}, {lines[-1]['processor']}")
    figure.savefig(given.output / "affinity_time_and_memory.png", dpi=110)


if __name__ == "__main__":
    main()
