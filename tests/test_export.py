"""A trained network leaves as a state dict, and comes back as weights."""

import json

import jax
import numpy as np
import pytest
import safetensors

from pals_jax import config as configs
from pals_jax import networks, sharding
from pals_jax.checkpoints import Checkpoints
from pals_jax.errors import ConfigError
from pals_jax.export import export
from pals_jax.models import weights
from pals_jax.train import train_and_evaluate


def stored(workdir):
    with Checkpoints(workdir) as checkpoints:
        step = checkpoints.find("latest")
        _, network, _ = networks.restore(checkpoints, step, sharding.data_mesh(1))
    return jax.device_get(network)


@pytest.fixture
def resnet(config):
    """A run of one step of a real network, so small that parameters stay as they are."""
    config.total_steps = 1
    config.target.name = "one_hot"
    config.model.update(name="deeplabv3plus_resnet18", width=4, decoder_channels=8)
    config.optimizer.update(learning_rate=1e-30, end_learning_rate=0.0)
    return config


def test_a_network_goes_out_and_its_backbone_comes_in(resnet, run_data, tmp_path, capsys):
    resnet.model.mean = (0.5, 0.25, 0.125)
    train_and_evaluate(resnet, tmp_path / "first", run_data())
    path = export(configs.resolve(resnet), tmp_path / "first")
    assert path == tmp_path / "first/network_1.safetensors"
    network = stored(tmp_path / "first")
    expected = weights.to_state_dict(network.params, network.statistics)
    found = weights.read(path)
    assert found.keys() == expected.keys()
    for name in found:
        np.testing.assert_array_equal(found[name], expected[name])
    with safetensors.safe_open(path, framework="numpy") as file:
        said = {key: json.loads(value) for key, value in file.metadata().items()}
    assert said["mean"] == [0.5, 0.25, 0.125]
    assert said["classes"] == ["ground", "wall", "sky"]
    assert said["model"]["name"] == "deeplabv3plus_resnet18"

    resnet.seed, resnet.weights = 1, str(path)
    train_and_evaluate(resnet, tmp_path / "second", run_data())
    assert f"arrays of the backbone are those of {path}" in capsys.readouterr().out
    second = stored(tmp_path / "second").params
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-20),
        second["backbone"],
        network.params["backbone"],
    )
    kernel = second["decoder"]["low_level"]["conv"]["kernel"]
    assert not np.array_equal(kernel, network.params["decoder"]["low_level"]["conv"]["kernel"])
    path.unlink()  # a run that goes on does not need it
    resnet.weights = "/elsewhere/network_1.safetensors"
    train_and_evaluate(resnet, tmp_path / "second", run_data())
    resnet.weights = "other.safetensors"
    with pytest.raises(ConfigError, match=r"config\.weights: .* was trained with"):
        train_and_evaluate(resnet, tmp_path / "second", run_data())


def test_another_suffix_is_refused(resnet, tmp_path):
    resnet.export.path = "network.pth"
    with pytest.raises(ConfigError, match=r"network\.pth must end in \.safetensors"):
        export(configs.resolve(resnet), tmp_path)
