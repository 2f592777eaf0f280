"""Every file in configs/sweeps/ expands to runs of the configuration that its docstring names."""

import re
import runpy
from pathlib import Path

import pytest

from pals_jax.sweep import expand
from pals_jax.sweep.plan import load

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "configs" / "sweeps").glob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_sweep_expands(path):
    doc = runpy.run_path(str(path))["__doc__"]
    assert f"--sweep=configs/sweeps/{path.name}" in doc
    base = re.search(r"--config=(\S+)", doc)[1]
    assert expand(load(path), runpy.run_path(str(ROOT / base))["get_config"]())
