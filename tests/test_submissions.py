"""Submissions as the servers and the official scorer of Cityscapes take them."""

import io
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from pals_jax import metrics
from pals_jax.data import CATALOG, DataError, default_palette
from pals_jax.data.builders.cityscapes import class_table
from pals_jax.errors import ConfigError
from pals_jax.submissions import Submission

CITYSCAPES, VOC = CATALOG["cityscapes"].classes, CATALOG["voc2012"].classes


def test_cityscapes(tmp_path):
    submission = Submission("cityscapes", tmp_path, CITYSCAPES)
    classes = np.arange(20).reshape(4, 5) % 19
    (tmp_path / "cityscapes").mkdir()
    (tmp_path / "cityscapes/old_000000_000000_pred_labelIds.png").touch()
    for name in ("berlin_000000_000019", "test/berlin/berlin_000001_000019_leftImg8bit"):
        submission.add(name, classes)
    submission.close()
    with zipfile.ZipFile(tmp_path / "cityscapes.zip") as archive:
        names = [f"berlin_00000{i}_000019_pred_labelIds.png" for i in (0, 1)]
        assert archive.namelist() == names
        picture = Image.open(io.BytesIO(archive.read(names[1])))
    assert (picture.mode, picture.size) == ("L", (5, 4))
    np.testing.assert_array_equal(class_table(255)[np.asarray(picture)], classes)


def test_voc(tmp_path):
    submission = Submission("voc2012", tmp_path, VOC)
    classes = np.arange(21).reshape(3, 7)
    submission.add("2008_000006", classes)
    packed = submission.folder / "results/VOC2012/Segmentation/comp6_test_cls/2008_000006.png"
    assert submission.close() == {tmp_path / "voc2012.tar.gz", packed}
    with tarfile.open(tmp_path / "voc2012.tar.gz") as archive:
        (name,) = archive.getnames()
        assert name == "results/VOC2012/Segmentation/comp6_test_cls/2008_000006.png"
        picture = Image.open(io.BytesIO(archive.extractfile(name).read()))
    assert picture.mode == "P"
    np.testing.assert_array_equal(np.asarray(picture), classes)
    colours = np.asarray(picture.convert("RGB"))
    np.testing.assert_array_equal(colours, np.array(default_palette(21))[classes])


def test_other_classes_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"'voc2012', whose classes .* the network has \('a',\)"):
        Submission("voc2012", tmp_path, ("a",))


@pytest.mark.parametrize(
    ("benchmark", "classes", "name"),
    [("cityscapes", CITYSCAPES, "IMG_1"), ("voc2012", VOC, "berlin_000000_000019")],
)
def test_images_of_other_names_are_refused(tmp_path, benchmark, classes, name):
    submission = Submission(benchmark, tmp_path, classes)
    with pytest.raises(DataError, match=f"{name}: images of {benchmark} are named as "):
        submission.add(name, np.zeros((2, 2), int))


def test_names_are_looked_at_before_any_prediction(tmp_path):
    submission = Submission("voc2012", tmp_path, VOC)
    submission.check(["2008_000006", "2008_000007"])
    with pytest.raises(DataError, match="notes: images of voc2012 are named"):
        submission.check(["2008_000006", "notes"])
    with pytest.raises(DataError, match="b/2008_000006: another image has"):
        submission.check(["a/2008_000006", "b/2008_000006"])
    with pytest.raises(DataError, match=r"2008_000006\.png: another image has"):
        submission.check(["2008_000006.jpg", "2008_000006.png"])
    submission.add("2008_000006", np.zeros((2, 2), int))


def test_two_images_of_one_name_are_refused(tmp_path):
    submission = Submission("voc2012", tmp_path, VOC)
    submission.add("a/2008_000006", np.zeros((2, 2), int))
    with pytest.raises(DataError, match=r"b/2008_000006: another image has .* 2008_000006\.png in"):
        submission.add("b/2008_000006", np.zeros((2, 2), int))


def test_the_official_scorer_finds_our_miou(tmp_path, monkeypatch):
    monkeypatch.setattr(np, "in1d", np.isin, raising=False)  # NumPy 2.4 has taken it away
    from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as scorer  # noqa: N813

    rng = np.random.default_rng(0)
    submission = Submission("cityscapes", tmp_path, CITYSCAPES)
    confusion, truths, predictions = np.zeros((19, 19), int), [], []
    for number in range(3):
        label_ids = rng.integers(0, 34, (64, 128)).astype(np.uint8)
        truth = class_table(255)[label_ids]
        wrong = rng.random(truth.shape) < 0.4
        random = rng.integers(0, 19, truth.shape)
        found = np.where(wrong | (truth == 255), random, truth)
        name = f"lindau_00000{number}_000019"
        submission.add(name, found)
        path = tmp_path / f"{name}_gtFine_labelIds.png"
        Image.fromarray(label_ids).save(path)
        truths.append(str(path))
        predictions.append(str(submission.folder / f"{name}_pred_labelIds.png"))
        confusion += np.asarray(metrics.confusion_matrix(truth, found, 19, 255))
    scorer.args.evalInstLevelScore = False
    scorer.args.JSONOutput = False
    scorer.args.quiet = True
    official = scorer.evaluateImgLists(predictions, truths, scorer.args)
    assert metrics.mean_iou(confusion) == pytest.approx(official["averageScoreClasses"], abs=1e-6)
    ours = dict(zip(CITYSCAPES, metrics.iou(confusion), strict=True))
    for name, iou in ours.items():
        assert iou == pytest.approx(official["classScores"][name], abs=1e-6)
