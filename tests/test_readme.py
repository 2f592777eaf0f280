"""What README tells people to type is accepted."""

import ast
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from configs import camvid, demo, folder
from pals_jax import config as configs
from pals_jax.sweep import expand

README = (Path(__file__).parent.parent / "README.md").read_text()
ROWS = [row for row in README.splitlines() if row.startswith("|") and "--config." in row]


@pytest.mark.parametrize("module", [camvid, demo, folder], ids=lambda module: module.__name__)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip())
def test_the_fields_of_a_table_row_fit_every_config(row, module):
    config = module.get_config()
    flags = [flag for code in re.findall(r"`(--config[^`]+)`", row) for flag in shlex.split(code)]
    given = dict(flag.removeprefix("--config.").split("=") for flag in flags)
    assert given
    for field, text in given.items():
        section, _, name = field.rpartition(".")
        holder = config
        for part in section.split(".") if section else []:
            holder = holder[part]
        holder[name] = text if isinstance(holder[name], str) else ast.literal_eval(text)
    configs.resolve(config)


def test_the_python_examples_run(capsys):
    examples = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(examples) == 4
    names = {}
    for example in examples:
        exec(example, names)
        printed = capsys.readouterr().out.strip()
        assert printed == "" or f"# {printed}" in example
    assert len(expand(names["get_sweep"](), folder.get_config())) == 2 * 3 * 3
    np.testing.assert_allclose(names["soft"].probs.sum(-1), 1, atol=1e-5)
    assert 2 < names["loss"] < 4  # of random logits of 11 classes
