import json

import pytest
from ml_collections import ConfigDict

from pals_jax import config as configs
from pals_jax.errors import ConfigError


def test_resolve_fills_in_the_options_of_the_target():
    config = configs.default_config()
    config.target.name = "pals"
    config.target.options.alpha = 0.7
    resolved = configs.resolve(config)
    assert resolved.target.options.alpha == 0.7
    assert resolved.target.options.temperature == 0.05
    config = configs.default_config()
    config.target.name = "one_hot"
    assert configs.resolve(config).target.options.to_dict() == {}


def test_resolve_changes_neither_its_input_nor_what_it_returned():
    config = configs.default_config()
    before = config.to_json()
    resolved = configs.resolve(config)
    assert config.to_json() == before
    assert configs.resolve(resolved) == resolved


def test_saved_configuration_comes_back_equal(tmp_path):
    resolved = configs.resolve(configs.default_config())
    configs.save(resolved, tmp_path / "config.json")
    assert configs.resolve(configs.load(tmp_path / "config.json")) == resolved
    json.loads((tmp_path / "config.json").read_text())


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("batch_size", 0, "config.batch_size must be at least 1, found 0"),
        ("accumulation", 3, "config.batch_size must be a multiple of config.accumulation = 3"),
        ("objective", "supervise", "supervised"),
        ("ema_decay", 1.0, "config.ema_decay"),
        ("total_steps", None, "of type int"),
        ("seed", -1, "at least 0"),
        ("seed", True, "of type int"),
        ("num_devices", -1, "at least 0"),
        ("log.panels", 0, "at least 1"),
        ("data.workers", -2, "at least 0"),
        ("optimizer.learning_rate", 0.0, "above 0"),
        ("optimizer.learning_rate", 1e5, "at most 10000"),
        ("optimizer.momentum", 2.0, "[0, 1)"),
        ("model.width", 0, "at least 1"),
        ("eval.window", (512,), "() or (height, width) in pixels"),
        ("eval.window", (512.0, 512.0), "() or (height, width) in pixels"),
        ("eval.stride", (8, 8), "empty without config.eval.window"),
        ("eval.scales", (), "numbers from 0.1 to 10"),
        ("eval.scales", (0.01,), "numbers from 0.1 to 10"),
        ("model.mean", (123.7, 116.3, 103.5), "[0, 1]"),
        ("model.std", (0.0, 0.0, 0.0), "above 0"),
        ("data.crop_size", (32.0, 32.0), "of type tuple, as (256, 256), found (32.0, 32.0)"),
        ("data.crop_size", (0, 32), "whole pixels"),
        ("data.scale", ("a", "b"), "of type tuple, as ("),
        ("seed", 2**31, "below 2³¹"),
        ("optimizer.learning_rate", float("inf"), "of type float"),
        ("target.options.power", float("inf"), "at most 1e+30"),
        ("target.options.implementation", "fast", "tiled"),
        ("model.dtype", "float16", "bfloat16"),
        ("model.output_stride", 32, "8 or 16"),
        ("model.name", "unet", "deeplabv3plus_resnet18"),
        ("data.crop_size", (100, 96), "multiples of config.model.output_stride = 16"),
        ("data.downsample", 0, "at least 1"),
        ("data.downsample", 2.0, "of type int"),
        (
            "data.downsample",
            3,
            "16 times config.data.downsample = 3, as (240, 240), found (256, 25",
        ),
        ("data.label_downsampling", "area", "one of ('soft', 'nearest')"),
        ("data.scale", (2.0, 0.5), "config.data.scale"),
        ("eval.checkpoint", "newest", "config.eval.checkpoint"),
        ("target.name", "pal", "pals"),
        ("target.options.mask", "same", "same_class"),
        ("target.options.alpha", 2.0, "alpha"),
    ],
)
def test_bad_values_are_named(field, value, told):
    config = configs.default_config()
    config.target.name = "pals"
    with config.ignore_type():
        config.update_from_flattened_dict({field: value})
    with pytest.raises(ConfigError) as error:
        configs.resolve(config)
    assert told in str(error.value)
    assert field.split(".")[-1] in str(error.value)


def test_a_crop_is_told_that_fits_after_down_sampling():
    config = configs.default_config()
    config.data.update(crop_size=(176, 20), downsample=2)
    with pytest.raises(ConfigError, match=r"data\.crop_size must be .*, as \(192, 32\), found"):
        configs.resolve(config)
    config.data.crop_size = (192, 32)
    configs.resolve(config)


def test_an_option_of_another_target_is_refused():
    config = configs.default_config()
    config.target.name = "one_hot"
    config.target.options.alpha = 0.3
    told = r"options\.alpha is not an option of .*'one_hot', which has \[\]; .*'pals'"
    with pytest.raises(ConfigError, match=told):
        configs.resolve(config)


def test_unknown_fields_get_a_suggestion():
    config = configs.default_config()
    config.optimizer.learning_rat = 0.1
    with pytest.raises(ConfigError, match=r"config\.optimizer\.learning_rat; did you mean .*rate"):
        configs.resolve(config)


@pytest.mark.parametrize("field", ["data.root", "data.data_dir", "data.subset", "weights"])
def test_the_home_folder_of_nobody_is_told(field):
    config = configs.default_config()
    config.update_from_flattened_dict({field: "~nobody_of_this_name/x.txt"})
    with pytest.raises(ConfigError, match=rf"config\.{field}='~nobody.*no user of this name"):
        configs.resolve(config)


def test_paths_of_the_data_become_absolute(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    config = configs.default_config()
    config.data.update(subset="prefix:a.txt", dev="0.2")
    resolved = configs.resolve(config).data
    assert (resolved.root, resolved.data_dir) == ("", "")
    assert (resolved.subset, resolved.dev) == ("prefix:a.txt", "0.2")
    config.data.update(root="photos", data_dir="prepared", subset="train.txt", dev="dev.txt")
    resolved = configs.resolve(config).data
    assert resolved.root == str(tmp_path / "photos")
    assert resolved.data_dir == str(tmp_path / "prepared")
    assert resolved.subset == str(tmp_path / "train.txt")
    assert resolved.dev == str(tmp_path / "dev.txt")


def test_a_list_of_ids_may_move_but_not_change_its_name(tmp_path):
    before, after = configs.default_config(), configs.default_config()
    before.data.subset, after.data.subset = "/a/train.txt", "/b/train.txt"
    configs.check_same_training(before, after, tmp_path)
    after.data.subset = "/a/other.txt"
    with pytest.raises(ConfigError, match=r"config\.data\.subset"):
        configs.check_same_training(before, after, tmp_path)
    after.data.subset = "prefix:/b/train.txt"  # no list
    with pytest.raises(ConfigError, match=r"config\.data\.subset"):
        configs.check_same_training(before, after, tmp_path)
    del before.data.subset  # of an older version
    with pytest.raises(ConfigError, match=r"config\.data\.subset: .* with None"):
        configs.check_same_training(before, after, tmp_path)
    before.data.update(subset="", dev="/a/dev.txt")
    after.data.update(subset="", dev="/b/dev.txt")
    configs.check_same_training(before, after, tmp_path)


def test_a_saved_config_of_an_older_version_has_the_defaults_of_newer_fields(tmp_path):
    resolved = configs.resolve(configs.default_config())
    fields = resolved.to_dict()
    del fields["data"]["downsample"], fields["steps_per_epoch"]
    (tmp_path / "config.json").write_text(json.dumps(fields))
    assert configs.resolve(configs.load(tmp_path / "config.json")) == resolved


def test_missing_fields_are_named():
    config = configs.default_config()
    del config.data.subset
    with pytest.raises(ConfigError, match=r"config\.data\.subset is missing"):
        configs.resolve(config)
    fields = configs.default_config().to_dict() | {"data": 3}
    with pytest.raises(ConfigError, match=r"config\.data must hold fields"):
        configs.resolve(ConfigDict(fields))


def test_load_says_what_is_wrong_with_the_file(tmp_path):
    with pytest.raises(ConfigError, match=r"config\.json is missing.*--workdir"):
        configs.load(tmp_path / "config.json")
    for damaged in (b"{", b"\xf7"):
        (tmp_path / "config.json").write_bytes(damaged)
        with pytest.raises(ConfigError, match=r"config\.json is not valid JSON"):
            configs.load(tmp_path / "config.json")
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(ConfigError, match=r"config\.json must hold the fields .*\[1\]"):
        configs.load(tmp_path / "config.json")
