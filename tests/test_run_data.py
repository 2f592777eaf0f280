"""What is refused before a run trains on it."""

import itertools

import numpy as np
import pytest
from PIL import Image
from toy import draw_batch, draw_example

from pals_jax import config as configs
from pals_jax import data, run_data
from pals_jax.checkpoints import Checkpoints
from pals_jax.errors import ConfigError
from pals_jax.train import NonFiniteError, train_and_evaluate


def changed(key, change):
    stream = draw_batch(0, 4)["labeled"]
    return {**stream, key: change(stream[key])}


def first_label(value):
    def change(label):
        label = label.copy()
        label[1, 2, :3] = value
        return label

    return change


@pytest.mark.parametrize(
    ("key", "change", "told"),
    [
        ("image", lambda x: x.astype(np.int32), "images are int32.*uint8"),
        ("image", lambda x: x[..., :1], r"images are uint8 \(4, 32, 32, 1\)"),
        ("image", lambda x: x.astype(np.float32), r"\[0, 1\] for float32"),
        ("image", lambda x: np.where(np.arange(3), x.astype(np.float32), np.nan), r"\[0, 1\] for"),
        ("label", lambda y: y[:, :16], "labels are int32"),
        ("label", lambda y: y.astype(np.float32), "labels are float32"),
        ("label", first_label(7), r"0\.\.2 and ignore=255: \[7\] \(3 pixels\)"),
        ("label", first_label(-1), r"\[-1\] \(3 pixels\)"),
    ],
)
def test_a_batch_that_cannot_be_trained_on_is_refused(key, change, told):
    with pytest.raises(data.DataError, match=f"batch 3.*{told}"):
        run_data.check_stream("batch 3", changed(key, change), 3, 255)


def test_good_batches_pass_and_nan_is_left_to_the_step():
    run_data.check_stream("batch", draw_batch(0, 4)["labeled"], 3, 255)
    run_data.check_stream("batch", changed("image", lambda x: np.full(x.shape, np.nan)), 3, 255)


@pytest.mark.parametrize("missing", ["image", "label", "id"])
def test_examples_are_checked_before_training(config, tmp_path, missing, run_data):
    example = draw_example(0)
    del example[missing]
    batches = (pytest.fail("trained before it looked") for _ in itertools.count())
    broken = run_data()._replace(evaluation=[example], batches=batches)
    with pytest.raises(data.DataError, match=f"evaluation.*{missing}"):
        train_and_evaluate(config, tmp_path, broken)


def test_batches_that_end_are_told_and_the_steps_saved(config, tmp_path, run_data):
    config.checkpoint.every = 100
    parts = run_data()
    with pytest.raises(data.DataError, match="ended after step 3 of 4"):
        train_and_evaluate(
            config, tmp_path, parts._replace(batches=itertools.islice(parts.batches, 3))
        )
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest == 3


def test_a_bad_batch_is_told_also_where_the_batches_end(config, tmp_path, run_data):
    config.update(total_steps=20)
    config.log.every = config.checkpoint.every = 20
    batches = list(itertools.islice(run_data().batches, 5))
    bad = batches[1]["labeled"]
    bad["image"] = np.full(bad["image"].shape, np.nan, np.float32)
    with pytest.raises(NonFiniteError, match=r"step 2 .*image1000(.|\n)*no checkpoint"):
        train_and_evaluate(config, tmp_path, run_data()._replace(batches=iter(batches)))
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest is None


def test_nothing_to_evaluate_is_told_before_training(config, tmp_path, run_data):
    with pytest.raises(data.DataError, match=r"config\.eval\.split = 'val' holds no example"):
        train_and_evaluate(config, tmp_path, run_data()._replace(evaluation=[]))


def test_more_workers_than_the_machine_bears_are_refused():
    config = configs.default_config()
    config.data.workers = 100_000
    with pytest.raises(ConfigError, match=r"data\.workers must be at most .*found 100000"):
        run_data.open_data(configs.resolve(config))


def test_a_training_split_without_labels_is_refused(monkeypatch):
    void = {"image": np.zeros((8, 8, 3), np.uint8), "label": np.full((8, 8, 1), 255, np.uint8)}

    def source(name):
        return data.Source([name], [(8, 8)], "0", [void | {"id": name.encode()}], [0])

    monkeypatch.setattr(data, "open_training", lambda *_: source("a"))
    monkeypatch.setattr(data, "open_evaluation", lambda *_: source("b"))
    with pytest.raises(data.DataError, match=r"train_split = 'train': none of the 1 images has"):
        run_data.open_data(configs.resolve(configs.default_config()))


@pytest.fixture
def linked(tmp_path):
    """The configuration of a folder whose training images are a and b, the given ones linked."""
    for kind, size in (("images", (8, 8, 3)), ("masks", (8, 8))):
        (tmp_path / kind / "train").mkdir(parents=True)
        for name in "ab":
            picture = Image.fromarray(np.zeros(size, np.uint8))
            picture.save(tmp_path / kind / f"train/{name}.png")

    def link(links, **fields):
        for target, source in links.items():
            for kind in ("images", "masks"):
                path = tmp_path / kind / target
                path.parent.mkdir(exist_ok=True)
                path.symlink_to(tmp_path / kind / source)
        config = configs.default_config()
        config.data.update(name="segmentation_folder", root=str(tmp_path), classes=("a", "b"))
        config.data.update(data_dir=str(tmp_path / "prepared"), workers=0, **fields)
        return config

    return link


def test_a_split_that_is_a_link_to_the_training_is_refused_as_evaluation(linked):
    config = linked({"val": "train"}, subset="0.5")
    # Of the two, one is trained on, and both are in val.
    with pytest.raises(
        data.DataError, match=r"'val': 1 of its 2 images are in .*'train', as '[ab]'"
    ):
        run_data.open_data(configs.resolve(config))


def test_held_out_images_that_are_trained_on_by_another_name_are_refused(linked):
    config = linked({"train/zb.png": "train/b.png"}, dev="prefix:z")
    config.eval.split = "dev"
    with pytest.raises(
        data.DataError, match=r"dev = 'prefix:z': 1 of its 1 images .*'train', as 'zb'"
    ):
        run_data.open_data(configs.resolve(config))


def test_the_best_checkpoint_is_not_chosen_on_what_is_reported(linked):
    config = linked({"val/x.png": "train/b.png"}, dev="prefix:b")
    run_data.open_data(configs.resolve(config)).close()
    config.eval.checkpoint = "best"
    with pytest.raises(data.DataError, match=r"'val': 1 of its 1 images are .* best .*, as 'x'"):
        run_data.open_data(configs.resolve(config))


def test_crops_that_reach_beyond_all_images_are_told(tmp_path, capsys):
    for split in ("train", "val"):
        for kind, size in (("images", (8, 24, 3)), ("masks", (8, 24))):
            (tmp_path / kind / split).mkdir(parents=True)
            picture = Image.fromarray(np.zeros(size, np.uint8))
            picture.save(tmp_path / kind / split / "a.png")
    config = configs.default_config()
    config.data.update(name="segmentation_folder", root=str(tmp_path), classes=("a", "b"))
    config.data.update(data_dir=str(tmp_path / "prepared"), crop_size=(16, 16), workers=0)
    config.batch_size = 1
    run_data.open_data(configs.resolve(config)).close()
    assert (
        "crops of 16×16 (config.data.crop_size) reach beyond the images, which are at most 8"
        in (capsys.readouterr().out)
    )


def test_one_folder_for_all_splits_is_refused_as_evaluation():
    config = configs.default_config()
    config.data.update(name="segmentation_folder", root="x", classes=("a", "b"))
    config.data.update(images="img/{id}.jpg", masks="lab/{id}.png")
    with pytest.raises(data.DataError, match=r"images that are trained on.*data\.dev=0\.2"):
        run_data.open_data(configs.resolve(config))
    for split in ("train", "dev"):  # said by their names
        data.require_held_out(configs.resolve(config).data, split)


@pytest.mark.parametrize(
    ("batch", "found"),
    [
        ({"image": 1, "label": 2}, "{'image': 'int', 'label': 'int'}"),
        ({"train": {}, 2: {}}, "{'train': 'dict', 2: 'dict'}"),
        ({"labeled": {}, "unlabeled": None}, "{'labeled': 'dict', 'unlabeled': 'NoneType'}"),
        ([], "list"),
    ],
)
def test_a_batch_without_streams_is_told(config, tmp_path, run_data, batch, found):
    with pytest.raises(data.DataError, match=f'batch 1: expected {{"labeled".*found {found}'):
        train_and_evaluate(config, tmp_path, run_data()._replace(batches=iter([batch])))


def test_batches_that_cannot_be_drawn_or_resumed_are_told(config, tmp_path, run_data):
    with pytest.raises(data.DataError, match=r"must be an iterator.*found list"):
        train_and_evaluate(config, tmp_path, run_data()._replace(batches=[]))

    class Batches:
        def __init__(self, batches):
            self.batches = batches

        def __next__(self):
            return next(self.batches)

        def get_state(self):
            return b"position"

    batches = Batches(run_data().batches)
    with pytest.raises(data.DataError, match=r"get_state\(\) must give JSON values.*bytes"):
        train_and_evaluate(config, tmp_path, run_data()._replace(batches=batches))
