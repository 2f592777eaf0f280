import json

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy import CLASSES, draw_example

from pals_jax import config as configs
from pals_jax import data, evaluate, inference, metrics, networks, sharding
from pals_jax.checkpoints import Meta
from pals_jax.outputs import Outputs
from pals_jax.state import Network

EVALUATION = evaluate.Evaluation(
    ["a", "b"],
    "0123",
    np.array([[[3, 1, 0], [0, 0, 0], [0, 0, 0]], [[0, 0, 0], [2, 4, 0], [0, 0, 0]]]),
    metrics.Calibration.empty(),
    metrics.ProperScores(np.array(10.0), np.array(4.5), np.array(2.5)),
    metrics.Boundary(np.array([3, 0, 0]), np.array([4, 2, 0]), np.array([5, 1, 0])),
    metrics.Trimap.empty(3),
)


@pytest.fixture(scope="module")
def network():
    return fresh("toy")


@pytest.fixture(scope="module")
def resnet():
    """A network of which padding changes nothing."""
    return fresh("deeplabv3plus_resnet18")


def fresh(name):
    config = configs.default_config()
    config.model.update(name=name, width=8, decoder_channels=16)
    apply, network = networks.create(config.model, len(CLASSES), seed=0)
    # Fresh classifiers say almost nothing; larger weights make every class win somewhere.
    params = jax.tree.map(lambda p: 3 * p, network.params)
    meta = Meta(config.model.to_dict(), "bands", CLASSES, data.default_palette(3), 255)
    return apply, Network(params, network.statistics), meta


def evaluated(network, examples, devices=1, **options):
    config = configs.default_config().eval
    config.update(options)
    mesh = sharding.data_mesh(devices)
    apply, weights, meta = network
    weights = jax.device_put(weights, sharding.replicated(mesh))
    return evaluate.evaluate_network(apply, weights, examples, meta, config, mesh)


def by_hand(network, examples):
    """One image at a time, unpadded, counted in NumPy."""
    apply, weights, meta = network

    @jax.jit
    def probabilities(image):
        valid = jnp.ones(image.shape[:3], bool)
        mean, std = meta.model["mean"], meta.model["std"]
        return inference.probabilities(apply, weights, image, valid, mean, std)

    confusion = np.zeros((3, 3), int)
    for example in examples:
        guess = np.asarray(probabilities(example["image"][None])[0]).argmax(-1)
        assert guess.shape == example["label"].shape
        valid = example["label"] != 255
        np.add.at(confusion, (example["label"][valid], guess[valid]), 1)
    return confusion


MIXED = [(32, 48), (40, 32), (32, 48), (33, 47), (40, 32)]


def test_mixed_sizes_count_every_pixel_once_at_full_resolution(resnet):
    examples = [draw_example(i, size) for i, size in enumerate(MIXED)]
    found = evaluated(resnet, examples, batch_size=2, max_shapes=4)
    np.testing.assert_array_equal(found.confusion, by_hand(resnet, examples))
    assert (found.confusion.sum(0) > 0).sum() > 1  # the network does not say one class only
    assert found.ids == sorted(e["id"] for e in examples)
    assert found.calibration.pixels.sum() == found.scores.pixels == found.confusion.sum()


def assert_same(found, other):
    assert found.ids == other.ids
    np.testing.assert_array_equal(found.confusions, other.confusions)
    for name in ("boundary", "trimap", "calibration", "scores"):
        for one, another in zip(getattr(found, name), getattr(other, name), strict=True):
            np.testing.assert_allclose(one, another, rtol=1e-5, err_msg=name)


def test_the_confusion_of_each_image_stands_beside_its_id(resnet):
    examples = [draw_example(i, size) for i, size in enumerate(MIXED)]
    found = evaluated(resnet, examples[::-1], batch_size=2, max_shapes=4)
    for example, confusion in zip(examples, found.confusions, strict=True):
        np.testing.assert_array_equal(confusion, by_hand(resnet, [example]))


def test_padding_is_never_counted(network):
    examples = [draw_example(i, size) for i, size in enumerate(MIXED)]
    found = evaluated(network, examples, batch_size=2, max_shapes=1)
    truth = np.concatenate([example["label"].ravel() for example in examples])
    np.testing.assert_array_equal(found.confusion.sum(1), np.bincount(truth, minlength=256)[:3])
    # A batch for four devices is filled up with three empty images.
    assert_same(evaluated(network, examples[:1], devices=4), evaluated(network, examples[:1]))


@pytest.mark.parametrize("downsample", [2, 3])
def test_evaluation_stays_at_full_resolution_where_the_network_sees_less(downsample):
    def darkness(params, statistics, images, *, train, valid):
        """Class 1 where what the network sees is dark, at its own resolution."""
        assert images.shape[1:3] == valid.shape[1:] == (-(-11 // downsample), -(-16 // downsample))
        del params, train
        dark = -images[..., 0]
        return Outputs(jnp.stack([-dark, dark], -1), images), statistics

    meta = Meta({"mean": (0.5,) * 3, "std": (0.5,) * 3}, "dots", ("a", "b"), (), 255, downsample)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 11, 16, 3)).astype(np.uint8)
    labels = rng.integers(0, 2, (2, 11, 16)).astype(np.int32)
    labels[rng.random(labels.shape) < 0.2] = 255
    examples = [
        {"image": image, "label": label, "id": str(i)}
        for i, (image, label) in enumerate(zip(images, labels, strict=True))
    ]
    found = evaluated((darkness, Network({}, {}), meta), examples)
    # In NumPy: mean over cells of the image with its edge repeated, then bilinear upsampling.
    rows, columns = -(-11 // downsample), -(-16 // downsample)
    missing = (0, rows * downsample - 11), (0, columns * downsample - 16)
    red = np.pad(images[..., 0] / 255.0, ((0, 0), *missing), mode="edge")
    small = red.reshape(2, rows, downsample, columns, downsample).mean((2, 4))
    wide = np.stack([cv2.resize(cell, red.shape[:0:-1]) for cell in small])[:, :11, :16]
    valid = labels != 255
    expected = np.zeros((2, 2), int)
    np.add.at(expected, (labels[valid], (wide < 0.5).astype(int)[valid]), 1)
    np.testing.assert_array_equal(found.confusion, expected)


def test_padding_changes_no_prediction_of_a_network_that_sees_less(resnet):
    apply, weights, meta = resnet
    small, large = (draw_example(i, size)["image"] for i, size in enumerate([(37, 61), (64, 80)]))
    padded, valid = np.zeros((2, 64, 80, 3), np.uint8), np.zeros((2, 64, 80), bool)
    padded[0, :37, :61], padded[1] = small, large
    valid[0, :37, :61] = valid[1] = True

    @jax.jit
    def probabilities(image, valid):
        of_color = meta.model["mean"], meta.model["std"]
        return inference.probabilities(apply, weights, image, valid, *of_color, downsample=2)

    found = probabilities(padded, valid)
    alone = probabilities(small[None], np.ones((1, 37, 61), bool))
    whole = probabilities(large[None], np.ones((1, 64, 80), bool))
    np.testing.assert_allclose(found[:1, :37, :61], alone, atol=1e-5)
    np.testing.assert_allclose(found[1:], whole, atol=1e-5)


@pytest.mark.parametrize("value", [-1, 9])
def test_labels_outside_the_classes_are_named_wherever_they_are(network, value):
    examples = [draw_example(i) for i in range(3)]
    examples[2]["label"][4, 5] = value
    with pytest.raises(data.DataError, match=rf"image2.*\[{value}\] \(1 pixels\)"):
        evaluated(network, examples)


def test_bytes_and_fractions_are_not_mixed(network):
    examples = [draw_example(i) for i in range(2)]
    examples[1]["image"] = (examples[1]["image"] / 255).astype(np.float32)
    with pytest.raises(data.DataError, match=r"one dtype.*'uint8': 'image0'.*'float32': 'image1'"):
        evaluated(network, examples, batch_size=2)


def test_four_devices_agree_with_one(network):
    examples = [draw_example(i, size) for i, size in enumerate(MIXED)]
    one = evaluated(network, examples, batch_size=2)
    four = evaluated(network, examples, devices=4, batch_size=2)
    assert_same(one, four)


VIEWS = {"window": (24, 24), "stride": (16, 12), "scales": (0.75,), "flip": True}


def test_views_change_predictions_and_neither_padding_nor_devices_do(resnet):
    examples = [draw_example(i, size) for i, size in enumerate(MIXED[:2])]
    found = evaluated(resnet, examples, max_shapes=2, **VIEWS)
    by_one_look = by_hand(resnet, examples)
    assert not np.array_equal(found.confusion, by_one_look)
    np.testing.assert_array_equal(found.confusion.sum(1), by_one_look.sum(1))
    other = evaluated(resnet, examples, devices=4, max_shapes=1, **VIEWS)
    np.testing.assert_array_equal(found.confusions, other.confusions)


def test_other_classes_than_those_of_the_network_are_refused(network):
    config = configs.resolve(configs.default_config())
    with pytest.raises(data.DataError, match=r"config\.data\.classes of 'synthetic_streets'"):
        evaluate.open_examples(config, network[2])


def test_a_second_evaluation_compiles_nothing(network, compilations):
    examples = [draw_example(7, (24, 40))]
    evaluated(network, examples)
    assert compilations
    compilations.clear()
    evaluated(network, examples)
    assert not compilations


def test_result_is_json_and_a_missing_class_is_null(network):
    config = configs.resolve(configs.default_config())
    found = evaluate.result(EVALUATION, network[2], config, step=7)
    assert json.loads(json.dumps(found)) == found
    assert found["iou"]["sky"] is None
    assert found["mean_iou"] == pytest.approx((3 / 6 + 4 / 7) / 2)
    assert found["boundary_iou"] == {"ground": 0.5, "wall": 0, "sky": None}
    assert found["mean_boundary_iou"] == 0.25
    assert (found["nll"], found["brier"]) == (0.45, 0.25)
    assert found["trimap"] == dict.fromkeys(["1", "2", "4", "8", "16"])
    shown = evaluate.table(found)
    assert "checkpoint 7" in shown
    assert "\nground   50.0     40.00            50.0\n" in shown
    assert "\nmIoU     53.6                      25.0\n" in shown
    assert shown.endswith("ECE n/a %, NLL 0.450, Brier 0.250")


def test_results_of_earlier_versions_are_shown(network):
    config = configs.resolve(configs.default_config())
    found = evaluate.result(EVALUATION, network[2], config, step=7)
    for later in ("nll", "brier", "boundary_iou", "mean_boundary_iou", "trimap"):
        del found[later]
    assert "\nground   50.0     40.00             n/a\n" in evaluate.table(found)


def test_a_result_implies_the_areas_of_its_images(network, tmp_path, monkeypatch):
    evaluate.write({"split": "val"}, EVALUATION, tmp_path, "_val_7")
    lines = (tmp_path / "per_image_val_7.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["a", "b"]
    confusion = EVALUATION.confusions[1]
    areas = [np.diag(confusion), confusion.sum(1), confusion.sum(0)]
    assert json.loads(lines[1])["areas"] == np.array(areas).tolist()
    assert json.loads((tmp_path / "result_val_7.json").read_text()) == {"split": "val"}

    def full(path, text):
        raise OSError(28, "no space")

    monkeypatch.setattr(evaluate, "write_atomically", full)
    with pytest.raises(OSError, match="no space"):
        evaluate.write({}, EVALUATION, tmp_path)
    assert not (tmp_path / "result.json").exists()


def source_of_two(label):
    records = [{"image": None, "label": label, "id": key} for key in (b"a", b"b")]
    return data.Source(["a", "b"], [(32, 32)] * 2, "0123", records, [0, 1])


def test_a_split_without_labels_is_refused(network, tmp_path, monkeypatch):
    source = source_of_two(np.full((32, 32, 1), 255, np.uint8))
    monkeypatch.setattr(networks, "restore_chosen", lambda *_: (4, *network))
    monkeypatch.setattr(evaluate, "open_examples", lambda *_: source)
    with pytest.raises(data.DataError, match=r"'val': none of the 2 images has a label.*predict"):
        evaluate.evaluate(configs.resolve(configs.default_config()), tmp_path)


@pytest.fixture
def trained(network, tmp_path, monkeypatch):
    """The configuration of a training on b and c of a layout; a and b are what is evaluated."""
    source = source_of_two(np.zeros((32, 32, 1), np.uint8))
    monkeypatch.setattr(networks, "restore_chosen", lambda *_: (4, *network))
    monkeypatch.setattr(data, "open_evaluation", lambda *_: source)
    monkeypatch.setattr(evaluate, "evaluate_network", lambda *_: EVALUATION)

    for name in ("a.png", "b.png", "c.png", "a_right.png", "b_right.png"):
        for folder in ("img", "train", "val", "test", "lab"):
            (tmp_path / folder).mkdir(exist_ok=True)
            (tmp_path / folder / name).touch()

    def on(images):
        config = configs.default_config()
        config.data.update(name="segmentation_folder", root=str(tmp_path), classes=CLASSES)
        config.data.update(images=images, masks="lab/{id}.png")
        configs.save(configs.resolve(config), tmp_path / "config.json")
        (tmp_path / "ids.txt").write_text("b\nc\n")
        return config

    return on


@pytest.mark.parametrize(
    ("split", "layout", "refused"),
    [
        ("val", "img/{id}.png", True),
        ("train", "img/{id}.png", False),  # said by its name
        ("val", "{split}/{id}.png", False),  # images of their own
        ("dev", "{split}/{id}.png", True),
        ("dev", "test/{id}.png", False),  # another folder than that of the training
    ],
)
def test_images_that_were_trained_on_are_no_other_split(tmp_path, trained, split, layout, refused):
    config = trained(layout.replace("test", "img"))
    config.data.images, config.eval.split = layout, split
    config = configs.resolve(config)
    if not refused:
        assert evaluate.evaluate(config, tmp_path)["images"] == 2
        return
    with pytest.raises(data.DataError, match=r"1 of its 2 images were trained on, as 'b': see"):
        evaluate.evaluate(config, tmp_path)
    (tmp_path / "config.json").unlink()  # a checkpoint is enough
    assert evaluate.evaluate(config, tmp_path)["images"] == 2


def test_another_way_to_a_folder_does_not_hide_that_its_images_were_trained_on(tmp_path, trained):
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "link/img2").symlink_to(tmp_path / "img")
    (tmp_path / "hard").mkdir()
    (tmp_path / "hard/a.png").hardlink_to(tmp_path / "img/b.png")
    config = trained("img/{id}.png")
    for changed in (
        {"root": str(tmp_path / "link")},
        {"images": "img/{id}.*"},
        {"images": "img2/{id}.png"},
    ):
        config.data.update(changed)
        with pytest.raises(data.DataError, match=r"1 of its 2 images were trained on, as 'b': see"):
            evaluate.evaluate(configs.resolve(config), tmp_path)
    config.data.images = "hard/{id}.png"
    with pytest.raises(data.DataError, match=r"1 of its 2 images were trained on, as 'a': see"):
        evaluate.evaluate(configs.resolve(config), tmp_path)
    config.data.images = "img/{id}_right.png"  # other images beside them
    assert evaluate.evaluate(configs.resolve(config), tmp_path)["images"] == 2


def test_the_best_checkpoint_is_not_evaluated_on_what_it_was_chosen_on(tmp_path, trained):
    config = trained("img/{id}.png")
    (tmp_path / "ids.txt").write_text("c\n")
    (tmp_path / "dev_ids.txt").write_text("b\n")
    assert evaluate.evaluate(configs.resolve(config), tmp_path)["images"] == 2
    config.eval.checkpoint = "best"
    with pytest.raises(
        data.DataError, match=r"1 of its 2 images were held out to choose .* as 'b'"
    ):
        evaluate.evaluate(configs.resolve(config), tmp_path)


def test_moving_a_benchmark_does_not_hide_that_its_images_were_trained_on(
    network, tmp_path, monkeypatch
):
    source = source_of_two(np.zeros((32, 32, 1), np.uint8))
    monkeypatch.setattr(networks, "restore_chosen", lambda *_: (4, *network))
    monkeypatch.setattr(evaluate, "open_examples", lambda *_: source)
    config = configs.default_config()
    config.data.update(name="voc2012", root="downloads")
    configs.save(configs.resolve(config), tmp_path / "config.json")
    (tmp_path / "ids.txt").write_text("b\nc\n")
    config.data.root, config.eval.split = "elsewhere", "trainval"
    with pytest.raises(data.DataError, match=r"1 of its 2 images were trained on, as 'b': see"):
        evaluate.evaluate(configs.resolve(config), tmp_path)


def test_results_of_other_views_and_data_have_names_of_their_own(
    network, tmp_path, monkeypatch, capsys
):
    source = source_of_two(np.zeros((32, 32, 1), np.uint8))
    monkeypatch.setattr(networks, "restore_chosen", lambda *_: (4, *network))
    monkeypatch.setattr(data, "open_evaluation", lambda *_: source)
    monkeypatch.setattr(evaluate, "evaluate_network", lambda *_: EVALUATION)
    config = configs.default_config()
    config.data.update(name="segmentation_folder", root="photos", classes=CLASSES)
    configs.save(configs.resolve(config), tmp_path / "config.json")
    evaluate.evaluate(configs.resolve(config), tmp_path)
    config.data.root = "elsewhere/field"
    config.eval.update(scales=(0.5, 1.0), flip=True)
    evaluate.evaluate(configs.resolve(config), tmp_path)
    config.data.update(root="photos", dev="0.5")
    config.eval.update(split="dev", scales=(1.0,), flip=False)
    evaluate.evaluate(configs.resolve(config), tmp_path)
    names = {path.name for path in tmp_path.glob("result_*.json")}
    of_dev = f"result_dev_4_photos-{data.ids_hash(['0123', 'a', 'b'])[:6]}.json"
    assert names == {"result_val_4.json", "result_val_4_field-0123_scales0.5-1_flip.json", of_dev}
    told = capsys.readouterr().out
    assert "val: 2 images at full resolution, checkpoint 4\n" in told
    assert "val: 2 images at full resolution, checkpoint 4, scales0.5-1_flip\n" in told
