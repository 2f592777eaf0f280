"""Cityscapes from the published archives to a submission, and the official score of that."""

import contextlib
import zipfile

import numpy as np
import pytest
from cityscapes_archives import expect_small, write_cityscapes

from pals_jax import config as configs
from pals_jax import predict
from pals_jax.run_data import open_data
from pals_jax.train import train_and_evaluate


def test_a_run_reports_what_the_official_scorer_finds(config, tmp_path, monkeypatch):
    monkeypatch.setattr(np, "in1d", np.isin, raising=False)  # NumPy 2.4 has taken it away
    from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as scorer  # noqa: N813

    expect_small(monkeypatch)
    write_cityscapes(tmp_path)
    config.data.update(name="cityscapes", root=str(tmp_path), data_dir=str(tmp_path / "prepared"))
    config.update(total_steps=2)
    config.predict.submission = "cityscapes"
    config = configs.resolve(config)
    with contextlib.closing(open_data(config)) as run_data:
        result = train_and_evaluate(config, tmp_path / "run", run_data)
    output = predict.predict(config, tmp_path / "run")
    name = "lindau_000000_000019"
    with zipfile.ZipFile(output / "cityscapes.zip") as archive:
        assert archive.namelist() == [f"{name}_pred_labelIds.png"]
        prediction = archive.extract(archive.namelist()[0], tmp_path)
    with zipfile.ZipFile(tmp_path / "gtFine_trainvaltest.zip") as archive:
        truth = archive.extract(f"gtFine/val/lindau/{name}_gtFine_labelIds.png", tmp_path)
    scorer.args.evalInstLevelScore = False
    scorer.args.JSONOutput = False
    scorer.args.quiet = True
    official = scorer.evaluateImgLists([prediction], [truth], scorer.args)
    assert 0 < result["mean_iou"] < 1
    assert result["mean_iou"] == pytest.approx(official["averageScoreClasses"], abs=1e-6)
