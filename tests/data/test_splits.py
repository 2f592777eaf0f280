import pytest

from pals_jax import data
from pals_jax.config import default_config
from pals_jax.data.read_ahead import read_ahead


@pytest.fixture
def folder(tmp_path, config, write_pair):
    for i in range(10):
        write_pair(tmp_path / "root", f"{'ab'[i % 2]}{i}")
    write_pair(tmp_path / "root", "v0", split="val")
    return lambda **fields: config(
        root=str(tmp_path / "root"),
        data_dir=str(tmp_path / "prepared"),
        subset_seed=0,
        **{"subset": "", "dev": "", **fields},
    )


def test_dev_is_taken_first_and_the_subset_from_the_rest(folder):
    whole = folder(dev="prefix:a", subset="0.4")
    train, dev = data.open_training(whole), data.open_evaluation(whole, "dev")
    assert [name[0] for name in dev.ids] == ["a"] * 5
    assert [name[0] for name in train.ids] == ["b"] * 2
    assert (
        data.open_evaluation(whole, "dev").ids
        == data.open_evaluation(folder(dev="prefix:a"), "dev").ids
    )


def test_without_dev_everything_is_trained_on(folder):
    assert len(data.open_training(folder())) == 10
    assert data.open_evaluation(folder(), "val").ids == ("v0",)
    with pytest.raises(data.DataError, match=r"config\.data\.dev is empty"):
        data.open_evaluation(folder(), "dev")


def test_a_list_that_names_held_out_images_is_told_so(folder, tmp_path):
    (tmp_path / "list.txt").write_text("a0\nb1\n")
    config = folder(dev="prefix:a", subset=str(tmp_path / "list.txt"))
    with pytest.raises(data.DataError, match=r"config\.data\.subset.*1 of its 2 ids .* out: a0"):
        data.open_training(config)


def test_a_fraction_is_held_out_beside_a_list(folder, tmp_path):
    """Of these ten, half of the draws would take one of the list."""
    (tmp_path / "list.txt").write_text("a0\nb1\na2\nb3\n")
    for seed in range(5):
        config = folder(dev="0.5", subset=str(tmp_path / "list.txt"))
        config.subset_seed = seed
        assert data.open_training(config).ids == ("a0", "a2", "b1", "b3")
        dev = data.open_evaluation(config, "dev").ids
        assert len(dev) == 3
        assert set(dev) < {"a4", "b5", "a6", "b7", "a8", "b9"}


def test_read_ahead_keeps_the_order_and_passes_errors_on():
    class Numbers:
        def __len__(self):
            return 30

        def __getitem__(self, index):
            if index == 25:
                raise data.DataError("25 is broken")
            return {"id": index}

    with pytest.raises(data.DataError, match="25 is broken"):
        list(read_ahead(Numbers()))
    iterator = read_ahead(Numbers())
    assert [next(iterator)["id"] for _ in range(25)] == list(range(25))
    unreadable = []
    assert [e["id"] for e in read_ahead(Numbers(), unreadable)] == [*range(25), *range(26, 30)]
    assert [str(error) for error in unreadable] == ["25 is broken"]


@pytest.mark.parametrize(
    ("field", "spec", "told"),
    [
        (
            "subset",
            "cityscapes/1_15",
            r"config\.data\.subset: there is no list 'cityscapes/1_15', on",
        ),
        ("subset", "voc_classic/92", r"subset: the list voc_classic/92 is of VOC 2012 train, "),
        ("dev", "gone.txt", r"config\.data\.dev: the list of ids gone\.txt cannot be read"),
    ],
)
def test_a_list_is_looked_at_before_archives_are_asked_for(field, spec, told):
    config = default_config().data
    config.update({"name": "cityscapes", field: spec})
    with pytest.raises(data.DataError, match=told):
        data.open_training(config)
