"""Weights of a file come into the backbone whole, or not at all with both sides listed."""

import hashlib
import re
import shutil

import jax
import ml_dtypes
import narrow
import numpy as np
import pytest
import torch_files
from safetensors.numpy import save_file

from pals_jax import config as configs
from pals_jax import models, networks
from pals_jax.errors import WeightsError
from pals_jax.models import torch_file, weights
from pals_jax.state import Network


def parts(name="deeplabv3plus_resnet18", **options):
    _, params, statistics = models.split(narrow.build(name, **options))
    return jax.device_get((params, statistics))


def backbone_of(params, statistics):
    return weights.to_state_dict(params["backbone"], statistics["backbone"])


@pytest.fixture
def published(tmp_path):
    """A file like torchvision's: the backbone, a classifier and counts of batches."""
    arrays = backbone_of(*parts())
    arrays |= {"fc.weight": np.zeros((7, 4), np.float32), "fc.bias": np.zeros(7, np.float32)}
    arrays |= {"bn1.num_batches_tracked": np.array(3, np.int64)}
    save_file(arrays, tmp_path / "resnet.safetensors")
    return tmp_path / "resnet.safetensors"


def other_values(tree):
    return jax.tree.map(lambda leaf: leaf + 1, tree)


def assert_equal(first, second):
    assert jax.tree.structure(first) == jax.tree.structure(second)
    jax.tree.map(np.testing.assert_array_equal, first, second)


def test_names_and_layout_are_those_of_pytorch():
    params, statistics = parts(auxiliary=True)
    state = weights.to_state_dict(params, statistics)
    kernel = params["backbone"]["layer2"]["0"]["downsample"]["0"]["kernel"]
    found = state["backbone.layer2.0.downsample.0.weight"]
    assert found.shape == (8, 4, 1, 1)
    assert found[5, 2, 0, 0] == kernel[0, 0, 2, 5]
    assert state["backbone.conv1.weight"].shape == (4, 3, 7, 7)
    assert state["classifier.weight"].shape == (narrow.CLASSES, narrow.CHANNELS, 1, 1)
    assert state["classifier.weight"][3, 2, 0, 0] == params["classifier"]["kernel"][2, 3]
    bn = state["backbone.bn1.running_var"]
    np.testing.assert_array_equal(bn, statistics["backbone"]["bn1"]["var"])
    np.testing.assert_array_equal(state["backbone.bn1.weight"], params["backbone"]["bn1"]["scale"])
    assert {array.dtype for array in state.values()} == {np.dtype(np.float32)}


def test_the_backbone_takes_all_arrays_and_nothing_else_changes(published):
    expected, expected_statistics = parts()
    params, statistics, report = weights.load_backbone(
        published, *other_values((expected, expected_statistics))
    )
    assert_equal(params["backbone"], expected["backbone"])
    assert_equal(statistics["backbone"], expected_statistics["backbone"])
    assert_equal(params["decoder"], other_values(expected["decoder"]))
    assert_equal(statistics["aspp"], other_values(expected_statistics["aspp"]))
    count = len(backbone_of(*parts()))
    assert f"all {count} arrays of the backbone are those of {published}" in report
    assert report.endswith("not taken: fc.bias, fc.weight, 1 num_batches_tracked")


def test_a_whole_network_is_saved_and_gives_its_backbone_back(tmp_path):
    params, statistics = parts(auxiliary=True)
    path = tmp_path / "network.safetensors"
    weights.save(path, params, statistics, {"mean": [0.1, 0.2, 0.3], "classes": ["a", "ü"]})
    assert_equal(weights.read(path), weights.to_state_dict(params, statistics))
    loaded, loaded_statistics, report = weights.load_backbone(
        path, *other_values((params, statistics))
    )
    assert_equal(loaded["backbone"], params["backbone"])
    assert_equal(loaded_statistics["backbone"], statistics["backbone"])
    heads = sorted(name for name in weights.read(path) if not name.startswith("backbone."))
    assert report.endswith(f"not taken: {', '.join(heads[:20])}, … ({len(heads) - 20} more)")
    weights.check_normalisation(path, (0.1, 0.2, 0.3), (1, 1, 1))
    expected = r"by mean \[0\.1, 0\.2, 0\.3\], but .*mean is .*--config\.model\.mean=\"\(0\.1, 0\.2"
    with pytest.raises(WeightsError, match=expected):
        weights.check_normalisation(path, (0.5, 0.5, 0.5), (1, 1, 1))


def test_names_of_a_network_on_several_gpus(published, tmp_path):
    path = tmp_path / "parallel.safetensors"
    save_file({f"module.{n}": array for n, array in weights.read(published).items()}, path)
    params, statistics = parts()
    loaded, _, report = weights.load_backbone(path, *other_values((params, statistics)))
    assert_equal(loaded["backbone"], params["backbone"])
    assert report.endswith("not taken: fc.bias, fc.weight, 1 num_batches_tracked")


@pytest.mark.parametrize("mean", ['"imagenet"', "imagenet", "0.5", "[123.7, 116.3, 103.5]", "[0]"])
def test_metadata_that_are_no_normalisation(tmp_path, mean):
    path = tmp_path / "network.safetensors"
    save_file({"a": np.zeros(1, np.float32)}, path, {"mean": mean})
    with pytest.raises(WeightsError, match=r"its metadata hold mean .*three numbers in \[0, 1\]"):
        weights.check_normalisation(path, (0.5, 0.5, 0.5), (1, 1, 1))


def test_half_precision_is_widened(published, tmp_path):
    params, statistics = parts()
    arrays = {n: a.astype(ml_dtypes.bfloat16) for n, a in backbone_of(params, statistics).items()}
    safetensors_flax = pytest.importorskip("safetensors.flax")
    path = tmp_path / "half.safetensors"
    safetensors_flax.save_file(jax.tree.map(jax.numpy.asarray, arrays), path)
    loaded, _, _ = weights.load_backbone(path, params, statistics)
    kernel = loaded["backbone"]["conv1"]["kernel"]
    assert kernel.dtype == np.float32
    np.testing.assert_allclose(kernel, params["backbone"]["conv1"]["kernel"], rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "resnet34",
            {},
            r"its stages have 2, 2, 2, 2 blocks of width 4, those of the backbone 3, 4, 6, 3 "
            r"blocks of width 4\n.*only in the file \(0\): none\n.*only in the backbone \(80\): "
            r"layer1\.2\.bn1\.bias, .*60 more\)\n",
        ),
        ("resnet50", {}, r"only in the backbone .*layer1\.0\.conv3\.weight"),
        (
            "resnet18",
            {"width": 8},
            r"blocks of width 4, .* of width 8\n.*\(0\): none\n.*\(0\): none\n.*bn1\.bias "
            r"\(4,\) and \(8,\)",
        ),
    ],
)
def test_another_network_is_refused_with_both_sides(published, name, options, message):
    with pytest.raises(WeightsError, match=r"(?s)resnet\.safetensors is of another.*" + message):
        weights.load_backbone(published, *parts(f"deeplabv3plus_{name}", **options))


@pytest.mark.parametrize("names", [[], ["features.0.weight"], ["conv1.weight"]])
def test_files_that_are_no_resnet_are_refused_with_both_sides(tmp_path, names):
    save_file({name: np.zeros((), np.float32) for name in names}, tmp_path / "vgg.safetensors")
    expected = r"holds no ResNet with torchvision's names, as layer1\.0\.conv1\.weight\n"
    with pytest.raises(WeightsError, match=expected):
        weights.load_backbone(tmp_path / "vgg.safetensors", *parts())


def test_what_the_backbone_does_not_know_is_refused(tmp_path):
    arrays = backbone_of(*parts()) | {"head.weight": np.zeros(3, np.float32)}
    save_file(arrays, tmp_path / "more.safetensors")
    with pytest.raises(
        WeightsError, match=r"(?s)though its stages .*only in the file \(1\): head\.weight\n"
    ):
        weights.load_backbone(tmp_path / "more.safetensors", *parts())


def test_nan_and_integers_are_refused(tmp_path):
    arrays = backbone_of(*parts())
    arrays["conv1.weight"] = np.full_like(arrays["conv1.weight"], np.nan)
    arrays["bn1.bias"] = np.zeros(4, np.int64)
    arrays["bn1.running_var"] = -arrays["bn1.running_var"]
    save_file(arrays, tmp_path / "odd.safetensors")
    expected = r"negative variances: bn1\.bias, conv1\.weight, bn1\.running_var"
    with pytest.raises(WeightsError, match=expected):
        weights.load_backbone(tmp_path / "odd.safetensors", *parts())


def test_files_that_are_no_weights(published, tmp_path):
    half = tmp_path / "half.safetensors"
    half.write_bytes(published.read_bytes()[:-1])
    with pytest.raises(WeightsError, match=r"half\.safetensors is cut off or no \.safetensors"):
        weights.read(half)
    with pytest.raises(WeightsError, match="there is no such file of weights"):
        weights.check_normalisation(tmp_path / "nowhere.safetensors", (0,) * 3, (1,) * 3)
    with pytest.raises(WeightsError, match="there is no such file of weights"):
        weights.read(tmp_path / "none.pth")
    (tmp_path / "weights.h5").touch()
    with pytest.raises(WeightsError, match=r"a \.pth or a \.safetensors file"):
        weights.read(tmp_path / "weights.h5")


def test_the_digest_in_a_published_name_is_checked(tmp_path):
    digest = hashlib.sha256(torch_files.ZIP.read_bytes()).hexdigest()
    good = shutil.copy(torch_files.ZIP, tmp_path / f"resnet50-{digest[:8]}.pth")
    assert_equal(dict(weights.read(good)), dict(torch_file.read(torch_files.ZIP)))
    bad = shutil.copy(torch_files.ZIP, tmp_path / "resnet50-0676ba61.pth")
    with pytest.raises(WeightsError, match=f"its SHA-256 begins {digest[:8]}"):
        weights.read(bad)


def test_weights_are_looked_at_without_a_network(published):
    config = configs.default_config()
    config.weights = str(published)
    with pytest.raises(WeightsError, match="of another network"):
        networks.check_weights(config)
    config.model.update(name="deeplabv3plus_resnet18", width=4, decoder_channels=narrow.CHANNELS)
    networks.check_weights(config)


def test_a_network_starts_from_its_weights_and_tells(published, capsys):
    config = configs.default_config()
    config.weights = str(published)
    params, statistics = parts()
    network = networks.with_weights(Network(*other_values((params, statistics))), config)
    assert_equal(network.params["backbone"], params["backbone"])
    assert re.match(r"weights: all \d+ arrays", capsys.readouterr().out)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_torchvision_has_the_same_names(name, tmp_path):
    torch = pytest.importorskip("torch")
    torchvision = pytest.importorskip("torchvision")
    torch.save(getattr(torchvision.models, name)().state_dict(), tmp_path / "resnet.pth")
    _, params, statistics = models.split(narrow.build(f"deeplabv3plus_{name}", width=64))
    _, _, report = weights.load_backbone(tmp_path / "resnet.pth", params, statistics)
    assert "fc.bias, fc.weight" in report
