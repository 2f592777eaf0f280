from pals_jax import config as configs
from pals_jax import data


def test_what_tells_images_apart(tmp_path):
    def places(ids, split="train", **fields):
        config = configs.default_config().data
        config.update({"name": "segmentation_folder", "root": str(tmp_path), **fields})
        return list(data.places(config, split, ids))

    assert places(["a.1", "a.2"], images="x/{id}") == [f"{tmp_path}/x/a.1", f"{tmp_path}/x/a.2"]
    assert places(["a.1"], images="x/{id}.*") == places(["x/a.1"], images="{id}.jpg")
    assert places(["a.png"], images="x/{id}") == places(["a"], images="x/{id}.*")
    assert places(["a"], images="{split}_{id}.png") == [f"{tmp_path}/train_a"]
    assert places(["a"], name="cityscapes") == places(["a"], name="cityscapes_coarse", root="b")
    assert places(["a"], name="of iterators") == []
    extensions = (places(["a"], kind, images="x/{id}.{split}") for kind in ("png", "bmp"))
    assert len({*map(tuple, extensions)}) == 2


def test_links_lie_where_their_files_do(tmp_path):
    for folder in ("pool", "train", "val"):
        (tmp_path / folder).mkdir()
    for name in "ab":
        (tmp_path / f"pool/{name}.png").write_bytes(b"")
    (tmp_path / "train/0.png").symlink_to(tmp_path / "pool/a.png")
    (tmp_path / "train/1.png").symlink_to("0.png")
    (tmp_path / "val/0.png").symlink_to(tmp_path / "pool/b.png")
    config = configs.default_config().data
    config.update({"name": "segmentation_folder", "root": str(tmp_path)})
    for config.images in ("{split}/{id}.png", "{split}/{id}.*"):
        assert data.places(config, "train", ["0"]) == {f"{tmp_path}/pool/a": "0"}
        assert data.places(config, "train", ["1"]) == {f"{tmp_path}/pool/a": "1"}
        assert data.places(config, "val", ["0"]) == {f"{tmp_path}/pool/b": "0"}
