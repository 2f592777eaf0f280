"""Every file in configs/sweeps/ expands to runs of the configuration that its docstring names, and
the rows of the study are of the runs that the sweeps name now, whatever the defaults are.
"""

import json
import re
import runpy
import shutil
from pathlib import Path

import pytest

from configs.sweeps.camvid_search import CHOSEN
from pals_jax.sweep import expand, rows
from pals_jax.sweep.plan import load
from pals_jax.targets import Pals

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "configs" / "sweeps").glob("*.py"))


def stem(path):
    return path.stem


def base_of(sweep):
    """The configuration that the docstring of a sweep names."""
    doc = runpy.run_path(str(sweep))["__doc__"]
    assert f"--sweep=configs/sweeps/{sweep.name}" in doc
    return runpy.run_path(str(ROOT / re.search(r"--config=(\S+)", doc)[1]))["get_config"]()


@pytest.mark.parametrize("path", FILES, ids=stem)
def test_sweep_expands(path):
    assert expand(load(path), base_of(path))


@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "data").glob("study_*.jsonl")), ids=stem)
def test_rows_of_the_study_are_of_runs_that_its_sweeps_name(path, tmp_path):
    sweep = ROOT / "configs" / "sweeps" / f"{path.stem.replace('study', 'camvid')}.py"
    shutil.copy(path, tmp_path / rows.FILE)
    runs = expand(load(sweep), base_of(sweep))
    found = rows.read(runs, tmp_path, load(sweep).bootstrap_block)
    names = [json.loads(line)["name"] for line in path.read_text().splitlines()]
    assert sorted(names) == sorted(found)


def test_the_defaults_of_pals_are_what_the_search_chose():
    assert Pals(3) == Pals(3, **CHOSEN)
