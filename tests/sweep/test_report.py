import re

import numpy as np
import pytest
from finished import finish
from PIL import Image

from pals_jax.config import default_config
from pals_jax.sweep import Grid, Sweep, expand, report, rows, tables
from pals_jax.sweep.runner import LOG

GAINS = {"CE": 0.0, "PALS": 0.1}
METHODS = {"CE": {"target.name": "one_hot"}, "PALS": {"target.name": "pals"}}


def make(workdir, finished, bootstrap_block=2, subsets=("0.1",)):
    """A report of three seeds of two variants, of which those in `finished` are finished."""
    grid = Grid({"seed": (0, 1, 2), "data.subset": subsets}, METHODS)
    sweep = Sweep("Two targets", (grid,), "CE", bootstrap_block=bootstrap_block)
    runs = expand(sweep, default_config())
    found = {}
    for run in runs:
        if finished(run):
            folder = finish(run, workdir, GAINS[run.variant])
            found[run.name] = rows.of_run(run, folder, bootstrap_block)
    report.write(sweep, runs, found, workdir)
    return runs, (workdir / "report.md").read_text(), (workdir / "report.html").read_text()


def line(text, start):
    found = next(row for row in text.splitlines() if row.startswith(f"| {start} |"))
    return [cell.strip() for cell in found.strip("|").split("|")]


def test_scores_and_paired_differences(tmp_path):
    _, text, _ = make(tmp_path, lambda run: True)
    assert "6 of 6 runs are finished. Reported" in text

    def mean_iou(right):  # of finish(): four images
        hits, wrong = 4 * right + 6, 4 * 40 - 6
        return 50 * (hits / (hits + wrong + 80) + 400 / (400 + wrong + 80))

    ce, pals = ([mean_iou(base + seed) for seed in range(3)] for base in (60, 70))
    cells = line(text, "CE")
    assert cells[1:3] == [f"{np.mean(ce):.1f} ± {np.std(ce, ddof=1):.1f}", ""]
    assert cells[5:8] == ["", "3", ""]
    cells = line(text, "PALS")
    assert cells[1] == f"{np.mean(pals):.1f} ± {np.std(pals, ddof=1):.1f}"
    assert cells[2] == f"{np.mean(np.subtract(pals, ce)):+.1f}"
    low, high = map(float, cells[3].split(" to "))
    assert low <= float(cells[2]) <= high
    assert cells[6:8] == ["3", "3"]
    assert cells[-3:] == ["0.800 ± 0.000", "0.300 ± 0.000", "250 (1.00×)"]


def test_negative_differences_have_a_minus():
    assert tables.points(-0.0123) == "−1.2"
    assert tables.points(-0.0001) == "+0.0"


def test_diagnostics_of_the_last_quarter_alone():
    by_variant = {"PALS": {0: {"diagnostics": [{"step": 9, "target/q_agreement": 0.5}]}}}
    assert tables.diagnostics(by_variant) is None  # nothing but one number
    by_variant["PALS"][0]["diagnostics"][0]["target/target_entropy"] = 0.25
    table, _, meaning = tables.diagnostics(by_variant).rpartition("\n\n")
    assert table.splitlines()[-1] == "| PALS | → 0.5 | → 0.25 |"
    assert "q agreement: how often argmax q is the label" in meaning
    early = {"step": 1, "target/q_agreement": 0.25, "target/target_entropy": 0.5}
    by_variant["PALS"][0]["diagnostics"].append(early)
    table = tables.diagnostics(by_variant)
    assert "| PALS | 0.25 → 0.5 | 0.5 → 0.25 |" in table


def test_gain_per_class(tmp_path):
    _, text, _ = make(tmp_path, lambda run: True)
    gains = [row for row in text.splitlines() if row.startswith("| PALS |")][1]
    assert re.fullmatch(r"\| PALS \| \+\d+\.\d \| \+0\.0 \|", gains)


def test_the_page_needs_nothing_else(tmp_path):
    _, text, page = make(tmp_path, lambda run: True, subsets=("0.1", "1.0"))
    assert "By the number of labels" in text
    for attribute in re.findall(r'(?:src|href)="([^"]*)"', page):
        assert attribute.startswith(("data:", "#"))
    assert page.count("data:image/svg+xml") == text.count(".svg)")
    assert 'name="viewport"' in page


def test_the_last_picture_of_each_variant(tmp_path):
    sweep = Sweep("Two targets", (Grid({"seed": (0, 1)}, METHODS),), "CE")
    runs = expand(sweep, default_config())
    found = {run.name: rows.of_run(run, finish(run, tmp_path), 0) for run in runs}
    for run in runs:
        panels = tmp_path / run.name / "panels"
        panels.mkdir()
        for step in (200, 400):
            Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(panels / f"step_{step:06d}.png")
    report.write(sweep, runs, found, tmp_path)
    shown = re.findall(r"\]\(([^)]*\.png)\)", (tmp_path / "report.md").read_text())
    assert shown == [f"{v}/seed%3D0/panels/step_000400.png" for v in ("CE", "PALS")]
    assert (tmp_path / "report.html").read_text().count('src="data:image/jpeg') == 2


def test_a_picture_that_an_interruption_has_torn_is_passed_over(tmp_path):
    sweep = Sweep("Two targets", (Grid({"seed": (0,)}, METHODS),), "CE")
    runs = expand(sweep, default_config())
    found = {run.name: rows.of_run(run, finish(run, tmp_path), 0) for run in runs}
    rng = np.random.default_rng(0)
    for run in runs:
        panels = tmp_path / run.name / "panels"
        panels.mkdir()
        for step in (200, 400):
            picture = rng.integers(0, 256, (64, 64, 3)).astype(np.uint8)
            Image.fromarray(picture).save(panels / f"step_{step:06d}.png")
    whole = (tmp_path / "CE/seed=0/panels/step_000400.png").read_bytes()
    (tmp_path / "CE/seed=0/panels/step_000400.png").write_bytes(whole[:3000])
    for step in (200, 400):
        (tmp_path / f"PALS/seed=0/panels/step_{step:06d}.png").write_bytes(b"")
    report.write(sweep, runs, found, tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert re.findall(r"\]\(([^)]*\.png)\)", text) == ["CE/seed%3D0/panels/step_000200.png"]
    assert "**CE**, step 200" in text


def test_what_is_missing_is_said(tmp_path):
    _, text, _ = make(tmp_path, lambda run: run.variant == "PALS" and run.seed == 0)
    assert "1 of 6 runs are finished, 5 still to be run. Reported" in text
    assert "No run of CE, to compare with, is finished yet." in text


def test_one_pair_has_no_interval(tmp_path):
    _, text, _ = make(tmp_path, lambda run: run.seed == 0)
    cells = line(text, "PALS")
    assert cells[2] != ""
    assert cells[3:5] == ["", ""]
    assert cells[7] == "1"
    assert "All seeds train" not in text  # of one seed nothing is known


def test_nothing_finished(tmp_path):
    _, text, page = make(tmp_path, lambda run: False)
    assert "0 of 6 runs are finished" in text
    assert "to be run" in page


@pytest.mark.parametrize(
    ("ended", "failed"),
    [
        ("failed with exit code 1", True),
        ("failed with exit code -9", True),
        ("finished", False),
        ("stopped", False),
        ("step 3/4", False),  # the sweep was killed
    ],
)
def test_failed_runs_show_the_end_of_their_log(tmp_path, ended, failed):
    name = "CE/subset=0.1/seed=0"
    (tmp_path / name).mkdir(parents=True)
    (tmp_path / name / LOG).write_text(f"$ python\nDataError: <mask> is gone\n{ended}\n")
    _, text, page = make(tmp_path, lambda run: run.seed == 1)
    assert ("## Failed runs" in text) == failed
    assert ("DataError: &lt;mask&gt; is gone" in page) == failed


def test_names_are_shown_as_they_are(tmp_path):
    variants = {"CE": {}, "a*b*_c_ $\\foo$ |<i>": {"total_steps": 3}}
    sweep = Sweep("R&D <b>", (Grid({"seed": (0,)}, variants),), "CE")
    runs = expand(sweep, default_config())
    found = {run.name: rows.of_run(run, finish(run, tmp_path), 0) for run in runs}
    report.write(sweep, runs, found, tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "<td>a*b*_c_ $\\foo$ |&lt;i&gt;</td>" in page
    assert "R&amp;D &lt;b&gt;</h1>" in page


def test_runs_on_other_images_make_no_pair(tmp_path):
    sweep = Sweep("t", (Grid({"seed": (0, 1)}, METHODS),), "CE")
    runs = expand(sweep, default_config())
    found = {run.name: rows.of_run(run, finish(run, tmp_path), 0) for run in runs}
    found["PALS/seed=0"]["ids_hash"] = "other"
    report.write(sweep, runs, found, tmp_path)
    assert line((tmp_path / "report.md").read_text(), "PALS")[6] == "1"
    found["PALS/seed=1"]["train_data_hash"] = "other"
    report.write(sweep, runs, found, tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert line(text, "PALS")[6] == ""
    assert "Not compared, because their runs have other images than those of CE with the same " \
           "seed: PALS." in text  # fmt: skip


@pytest.mark.parametrize(
    ("split", "said"),
    [
        ("val", "whoever chooses one by this report has to report it on other images"),
        ("train", "The networks were trained on this split"),
    ],
)
def test_what_was_reported_is_said(tmp_path, split, said):
    checkpoints = {"CE": {"eval.checkpoint": "latest"}, "best": {"eval.checkpoint": "best"}}
    fields = {"seed": (0,), "eval.split": (split,), "data.dev": ("0.2",)}
    sweep = Sweep("t", (Grid(fields, checkpoints),), "CE")
    runs = expand(sweep, default_config())
    found = {run.name: rows.of_run(run, finish(run, tmp_path), 0) for run in runs}
    report.write(sweep, runs, found, tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert said in text
    assert "that of the last step or, by variant, the best on images held out" in text


def test_rows_of_an_earlier_version_make_pairs(tmp_path):
    sweep = Sweep("t", (Grid({"seed": (0, 1)}, METHODS),), "CE")
    runs = expand(sweep, default_config())
    found = {run.name: rows.of_run(run, finish(run, tmp_path), 0) for run in runs}
    for name in ("CE/seed=0", "CE/seed=1"):
        del found[name]["data_hash"], found[name]["train_data_hash"]
    report.write(sweep, runs, found, tmp_path)
    assert line((tmp_path / "report.md").read_text(), "PALS")[6] == "2"


def test_scores_of_nothing_are_said(tmp_path):
    sweep = Sweep("t", (Grid({"seed": (0, 1)}, METHODS),), "CE")
    runs = expand(sweep, default_config())
    found = {run.name: rows.of_run(run, finish(run, tmp_path), 0) for run in runs}
    for row in found.values():
        row |= {"mean_iou": None, "ece": None, "nll": None, "trimap": {"1": None, "2": None}}
        row["iou"] = dict.fromkeys(row["iou"])
    report.write(sweep, runs, found, tmp_path)
    assert line((tmp_path / "report.md").read_text(), "PALS")[1] == "n/a"


def test_label_curves_keep_other_conditions_apart(tmp_path):
    fields = {"data.subset": ("0.1", "1.0"), "data.downsample": (1, 2)}
    grid = Grid(fields, METHODS)
    sweep = Sweep("t", (grid,), "CE", conditions=tuple(fields))
    runs = expand(sweep, default_config())
    found = {run.name: rows.of_run(run, finish(run, tmp_path), 0) for run in runs}
    report.write(sweep, runs, found, tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "## By the number of labels data.downsample = 1\n" in text
    assert "## By the number of labels data.downsample = 2\n" in text


def test_the_settings_are_those_that_were_trained_with(tmp_path):
    grid = Grid({"seed": (3,), "data.subset_seed": (5,)}, METHODS)
    sweep = Sweep("t", (grid,), "CE", conditions=(), seed_fields=("data.subset_seed",))
    report.write(sweep, expand(sweep, default_config()), {}, tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "data.subset_seed = 3" in text
    assert "data.subset_seed = 5" not in text


def test_the_settings_and_diagnostics_of_each_variant(tmp_path):
    sweep = Sweep("t", (Grid({"seed": (0,)}, METHODS | {"LS": {"total_steps": 3}}),), "CE")
    runs = expand(sweep, default_config())
    found = {run.name: rows.of_run(run, finish(run, tmp_path), 0) for run in runs}
    for row in found.values():
        row["diagnostics"] = [
            {"step": step, "target/target_entropy": 0.5, "target/effective_sources": 10.0 * step}
            for step in (1, 2, 3, 4)
        ]
    report.write(sweep, runs, found, tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "| LS | `target.name = label_smoothing`, `total_steps = 3`, `epsilon = 0.1` |" in text
    assert "| CE | 0.5 → 0.5 | 10 → 40 |" in text
