"""What README tells people to type is accepted."""

import ast
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from configs import camvid, demo, folder
from pals_jax import config as configs

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
    assert len(examples) == 2
    for example in examples:
        names = {}
        exec(example, names)
        printed = capsys.readouterr().out.strip()
        assert printed == "" or f"# {printed}" in example
    np.testing.assert_allclose(names["soft"].probs.sum(-1), 1, atol=1e-5)
