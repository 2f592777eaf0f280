import itertools
import os

import numpy as np
import pytest
from PIL import Image
from toy import CLASSES, draw_batch, draw_example

from pals_jax import config as configs
from pals_jax import data, predict
from pals_jax.errors import ConfigError
from pals_jax.train import RunData, train_and_evaluate


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A run of two steps."""
    config = configs.default_config()
    config.model.update(name="toy", width=8, decoder_channels=16)
    config.update(total_steps=2, batch_size=4, num_devices=1)
    config.data.crop_size = (32, 32)
    config.log.panels_every = 0
    dataset = data.Dataset("bands", CLASSES, data.default_palette(3), ignore=255)
    batches = (draw_batch(seed, 4) for seed in itertools.count())
    folder = tmp_path_factory.mktemp("run")
    train_and_evaluate(config, folder, RunData(dataset, batches, [draw_example(0)]))
    return folder


def run(workdir, images, **options):
    config = configs.load(workdir / "config.json")
    config.predict.images = str(images)
    config.predict.update(options)
    return predict.predict(configs.resolve(config), workdir)


def pixels(size, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8)


def test_any_kind_of_image_in_its_own_size_and_orientation(workdir, tmp_path):
    images, output = tmp_path / "in", tmp_path / "out"
    (images / "deep").mkdir(parents=True)
    colour = pixels((40, 56))
    Image.fromarray(colour).save(images / "colour.png")
    Image.fromarray(colour[..., 0]).save(images / "grey.png")
    Image.fromarray(np.dstack([colour, colour[..., :1]])).save(images / "deep" / "alpha.png")
    Image.fromarray(colour[..., 0].astype(np.uint16) * 257).save(images / "sixteen.png")
    # Stored lying on its side; orientation 6 says to turn it by 90 degrees.
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(colour).copy()).save(images / "turned.png", exif=exif)
    assert run(workdir, images, output=str(output)) == output
    names = ["colour", "grey", "deep/alpha", "sixteen", "turned"]
    for kind in ("index", "colour", "overlay"):
        for name in names:
            with Image.open(output / kind / f"{name}.png") as picture:
                assert picture.size == (56, 40)
                assert picture.mode == ("L" if kind == "index" else "RGB")
    read = {name: np.asarray(Image.open(output / "index" / f"{name}.png")) for name in names}
    assert all(index.max() < 3 for index in read.values())
    np.testing.assert_array_equal(read["turned"], read["colour"])
    np.testing.assert_array_equal(read["deep/alpha"], read["colour"])
    np.testing.assert_array_equal(read["sixteen"], read["grey"])
    colours = np.asarray(Image.open(output / "colour" / "colour.png"))
    np.testing.assert_array_equal(colours, np.array(data.default_palette(3))[read["colour"]])


def test_images_of_one_stem_are_kept_apart(workdir, tmp_path):
    (tmp_path / "in").mkdir()
    for extension in ("png", "bmp"):
        Image.fromarray(pixels((32, 32))).save(tmp_path / f"in/a.{extension}")
    Image.fromarray(pixels((32, 32))).save(tmp_path / "in/b.png")
    run(workdir, tmp_path / "in", output=str(tmp_path / "out"))
    found = sorted(path.name for path in (tmp_path / "out/index").iterdir())
    assert found == ["a.bmp.png", "a.png.png", "b.png"]


def test_ids_never_collide_and_other_files_are_told(workdir, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    for name, kind in (("x.jpg", "JPEG"), ("x.png", "PNG"), ("x.jpg.webp", "WEBP")):
        Image.fromarray(pixels((32, 32))).save(tmp_path / "in" / name, kind)
    (tmp_path / "in/photo.heic").write_bytes(b"")
    run(workdir, tmp_path / "in", output=str(tmp_path / "out"))
    found = sorted(path.name for path in (tmp_path / "out/index").iterdir())
    assert found == ["x.jpg.png", "x.jpg.webp.png", "x.png.png"]
    assert "not images, skipped: 1, as photo.heic" in capsys.readouterr().out


def test_names_that_are_not_utf_8(workdir, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    latin = os.fsdecode(b"caf\xe9")
    Image.fromarray(pixels((32, 32))).save(tmp_path / f"in/{latin}.png")
    (tmp_path / f"in/{latin}.heic").write_bytes(b"")
    output = tmp_path / os.fsdecode(b"out-\xe9")
    run(workdir, tmp_path / "in", output=str(output))
    assert (output / f"index/{latin}.png").exists()
    shown = capsys.readouterr().out
    assert r"not images, skipped: 1, as caf\xe9.heic" in shown
    assert r"out-\xe9/index" in shown


def test_home_and_strings_are_understood(workdir, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "in").mkdir()
    Image.fromarray(pixels((32, 32))).save(tmp_path / "in/a.png")
    config = configs.load(workdir / "config.json")
    config.predict.update(images="~/in", output="~/out")
    predict.predict(configs.resolve(config), str(workdir))
    assert (tmp_path / "out/index/a.png").exists()


def test_a_run_on_iterators_knows_no_images_of_its_own(workdir):
    with pytest.raises(data.DataError, match=r"config\.data\.classes.*synthetic_streets.*bands"):
        run(workdir, "")


def test_output_inside_the_input_is_refused(workdir, tmp_path):
    Image.fromarray(pixels((32, 32))).save(tmp_path / "a.png")
    with pytest.raises(data.DataError, match=r"predict\.output.*lies in config\.predict\.images"):
        run(workdir, tmp_path, output=str(tmp_path / "out"))


def test_output_that_is_a_file_is_refused(workdir, tmp_path):
    (tmp_path / "in").mkdir()
    for path in ("in/a.png", "a.png"):
        Image.fromarray(pixels((32, 32))).save(tmp_path / path)
    with pytest.raises(ConfigError, match=r"predict\.output=.*a\.png cannot be a folder"):
        run(workdir, tmp_path / "in", output=str(tmp_path / "a.png"))


def test_broken_images_are_listed_after_the_others_were_predicted(workdir, tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a", "b", "c", "d"):
        Image.fromarray(pixels((48, 64))).save(tmp_path / f"in/{name}.jpg")
    encoded = (tmp_path / "in/b.jpg").read_bytes()
    (tmp_path / "in/b.jpg").write_bytes(encoded[: len(encoded) // 2])
    (tmp_path / "in/c.jpg").write_bytes(b"no image")
    xmp = b'<rdf:Description tiff:Orientation="6"/>'  # turned when decoded, not in the header
    Image.fromarray(pixels((48, 64))).save(tmp_path / "in/e.tiff", tiffinfo={700: xmp})
    with pytest.raises(data.DataError, match=r"2 images were predicted, 3 could not") as raised:
        run(workdir, tmp_path / "in", output=str(tmp_path / "out"))
    assert all(name in str(raised.value) for name in ("b.jpg", "c.jpg", "e.tiff"))
    assert sorted(path.stem for path in (tmp_path / "out/index").iterdir()) == ["a", "d"]


def test_each_folder_is_written_apart_with_a_legend(workdir, tmp_path):
    for name in ("spring", "autumn"):
        (tmp_path / name).mkdir()
        Image.fromarray(pixels((32, 32))).save(tmp_path / name / "a.png")
        assert run(workdir, tmp_path / name) == workdir / "predictions" / name
    assert (workdir / "predictions/spring/overlay/a.png").exists()
    assert (workdir / "predictions/autumn/legend.png").exists()


def test_pictures_of_earlier_predictions_are_told(workdir, tmp_path, capsys):
    for name in "ab":
        Image.fromarray(pixels((32, 32))).save(tmp_path / f"{name}.png")
    output = run(workdir, tmp_path)
    assert (output / "predicted.txt").read_text() == f"{tmp_path}\ncheckpoint 2\n"
    run(workdir, tmp_path)
    shown = capsys.readouterr().out
    assert "earlier predictions" not in shown
    assert "replaced 6 pictures that lay there" in shown
    (tmp_path / "b.png").unlink()
    run(workdir, tmp_path)
    told = f"3 files of earlier predictions, as {output}/colour/b.png"
    assert told in capsys.readouterr().out


def test_an_archive_of_an_earlier_prediction_is_told(workdir, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    Image.fromarray(pixels((32, 32))).save(tmp_path / "in/a.png")
    out = run(workdir, tmp_path / "in", output=str(tmp_path / "out"))
    (out / "voc2012.tar.gz").touch()
    run(workdir, tmp_path / "in", output=str(out))
    assert f"1 files of earlier predictions, as {out}/voc2012" in capsys.readouterr().out


def test_files_of_others_are_not_replaced(workdir, tmp_path):
    (tmp_path / "in").mkdir()
    Image.fromarray(pixels((32, 32))).save(tmp_path / "in/a.png")
    (tmp_path / "own").mkdir()
    (tmp_path / "own/predicted.txt").write_text("sunshine\n")
    (tmp_path / "own/index").touch()
    with pytest.raises(ConfigError, match=r"own holds predicted\.txt, index, which are not of an"):
        run(workdir, tmp_path / "in", output=str(tmp_path / "own"))
    assert (tmp_path / "own/predicted.txt").read_text() == "sunshine\n"
    with pytest.raises(ConfigError, match=r"predict\.output=/proc/x cannot be a folder"):
        run(workdir, tmp_path / "in", output="/proc/x")


def test_an_interrupted_prediction_leaves_whole_pictures_and_says_so(
    workdir, tmp_path, monkeypatch
):
    for name in "ab":
        Image.fromarray(pixels((32, 32))).save(tmp_path / f"{name}.png")
    save = Image.Image.save

    def interrupt(picture, path, **options):
        save(picture, path, **options)
        if path.parent.name == "colour":
            path.write_bytes(path.read_bytes()[:20])
            raise KeyboardInterrupt

    monkeypatch.setattr(Image.Image, "save", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(workdir, tmp_path)
    monkeypatch.undo()
    output = workdir / "predictions" / tmp_path.name
    found = sorted(path.relative_to(output).as_posix() for path in output.rglob("*.*"))
    assert found == ["index/a.png", "legend.png", "predicted.txt"]
    assert "checkpoint 2\nunfinished: " in (output / "predicted.txt").read_text()
    run(workdir, tmp_path)
    assert "unfinished" not in (output / "predicted.txt").read_text()


def test_input_below_the_output_is_refused(workdir, tmp_path):
    Image.fromarray(pixels((32, 32))).save(tmp_path / "a.png")
    out = run(workdir, tmp_path)
    with pytest.raises(data.DataError, match=r"images .*/overlay lies in config\.predict\.output"):
        run(workdir, out / "overlay", output=str(out))


def test_what_an_earlier_prediction_left_in_the_way_is_told(workdir, tmp_path):
    (tmp_path / "in/a.png").mkdir(parents=True)
    Image.fromarray(pixels((32, 32))).save(tmp_path / "in/a.png/b.png")
    out = run(workdir, tmp_path / "in")
    (tmp_path / "in/a.png").rename(tmp_path / "in/old")
    (tmp_path / "in/old/b.png").rename(tmp_path / "in/a.png")
    with pytest.raises(ConfigError, match=r"index/a\.png cannot be written beside what lies in"):
        run(workdir, tmp_path / "in", output=str(out))


def test_a_name_too_long_for_its_picture_is_refused(workdir, tmp_path):
    for end in (".jpg", ".png"):
        Image.fromarray(pixels((32, 32))).save(tmp_path / ("x" * 251 + end))
    with pytest.raises(data.DataError, match=r"xx\.jpg\.png', which is more than the 255 bytes"):
        run(workdir, tmp_path)


def test_a_picture_that_would_be_a_folder_is_refused(workdir, tmp_path):
    for name in ("x.jpg", "x.png/y.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(pixels((32, 32))).save(tmp_path / name)
    with pytest.raises(data.DataError, match=r"of 'x' would be 'x\.png', .* of 'x\.png/y': rename"):
        run(workdir, tmp_path)


def test_folders_of_one_name_are_not_mixed(workdir, tmp_path):
    for name in ("spring/photos ", "autumn/photos "):
        (tmp_path / name).mkdir(parents=True)
        Image.fromarray(pixels((32, 32))).save(tmp_path / name / "a.png")
    first = run(workdir, tmp_path / "spring/photos ")
    assert first == workdir / "predictions/photos "
    assert run(workdir, tmp_path / "spring/photos ") == first  # again is no other
    assert run(workdir, tmp_path / "autumn/photos ").name.startswith("photos -")
    assert run(workdir, tmp_path / "spring/photos ", output=str(first)) == first  # as asked


def test_a_network_other_than_the_trained_one_is_refused(workdir, tmp_path):
    config = configs.load(workdir / "config.json")
    config.model.width = 64
    with pytest.raises(ConfigError, match=r"config\.model\.width is 64.* has 8"):
        predict.predict(configs.resolve(config), workdir)


def test_missing_empty_and_broken_input(workdir, tmp_path):
    with pytest.raises(data.DataError, match="nowhere"):
        run(workdir, tmp_path / "nowhere")
    with pytest.raises(data.DataError, match=str(tmp_path)):
        run(workdir, tmp_path)
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    with pytest.raises(data.DataError, match=r"broken\.jpg"):
        run(workdir, tmp_path)
