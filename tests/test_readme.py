"""What README tells people to type is accepted."""

import ast
import re
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from configs import camvid, demo, folder
from pals_jax import config as configs
from pals_jax.outputs import Outputs

README = (Path(__file__).parent.parent / "README.md").read_text()
ROWS = [row for row in README.splitlines() if row.startswith("|") and "--config." in row]


@pytest.mark.parametrize("module", [camvid, demo, folder], ids=lambda module: module.__name__)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip())
def test_the_fields_of_a_table_row_fit_every_config(row, module):
    config = module.get_config()
    given = dict(re.findall(r"--config\.([\w.]+)=([^\s`]+)", row))
    assert given
    for field, text in given.items():
        section, _, name = field.rpartition(".")
        holder = config
        for part in section.split(".") if section else []:
            holder = holder[part]
        holder[name] = text if isinstance(holder[name], str) else ast.literal_eval(text)
    configs.resolve(config)


def test_the_python_examples_run():
    rng = np.random.default_rng(0)
    outputs = Outputs(*(jnp.asarray(rng.normal(size=(2, 4, 4, n)), jnp.float32) for n in (11, 8)))
    names = {
        "features": outputs.features.reshape(2, 16, 8),
        "probabilities": jnp.full((2, 16, 11), 1 / 11),
        "labelled": jnp.ones((2, 16), bool),
        "index": jnp.asarray(rng.integers(0, 11, (2, 16, 16))),
        "outputs": outputs,
        "images": jnp.zeros((2, 16, 16, 3)),
    }
    examples = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(examples) == 2
    for example in examples:
        exec(example, names)
    assert names["aggregated"].shape == (2, 16, 11)
    np.testing.assert_allclose(names["soft"].probs.sum(-1), 1, atol=1e-5)
