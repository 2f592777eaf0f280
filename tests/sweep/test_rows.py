import json

import pytest
from finished import finish

from pals_jax.config import default_config
from pals_jax.errors import ConfigError
from pals_jax.sweep import Grid, Sweep, expand, rows


def runs(**fields):
    config = default_config()
    config.update_from_flattened_dict(fields)
    return expand(Sweep("t", (Grid({"seed": (0, 1)}),), "base"), config)


def test_a_row_is_made_of_the_run_files(tmp_path):
    run, _ = runs()
    row = rows.of_run(run, finish(run, tmp_path), block=3)
    assert (row["name"], row["variant"], row["seed"]) == ("base/seed=0", "base", 0)
    assert row["config"]["total_steps"] == 1000
    assert row["seconds_per_step"] == 0.25  # the median of 2, 4 and 8 steps per second
    assert row["diagnostics"] == [{"step": 2, "target/effective_sources": 9.0}]
    # Four images in blocks of three.
    assert row["block_areas"] == [
        [[60 + 61 + 62, 300], [300, 360], [60 + 61 + 62 + 60, 300 + 40 + 39 + 38]],
        [[63, 100], [100, 120], [83, 137]],
    ]
    assert row["iou"].keys() == {"road", "pole"}


def test_rows_are_read_back_and_a_torn_one_is_left_out(tmp_path):
    first, second = runs()
    row = rows.of_run(first, finish(first, tmp_path), block=0)
    rows.append(row, tmp_path)
    with (tmp_path / rows.FILE).open("a") as file:
        file.write('{"name": "base/seed=1", "var')  # the process was killed here
    assert rows.read([first, second], tmp_path, 0) == {first.name: row}
    other = rows.of_run(second, finish(second, tmp_path), block=0)
    rows.append(other, tmp_path)
    assert rows.read([first, second], tmp_path, 0) == {first.name: row, second.name: other}


def test_what_is_no_row_is_left_out(tmp_path):
    run, _ = runs()
    row = rows.of_run(run, finish(run, tmp_path), block=0)
    (tmp_path / rows.FILE).write_bytes(
        b'{}\n3\nnull\n\xff\n{"name": "base/seed=0"}\n'
        b'{"name": "base/seed=0", "config": 3, "block": 0, "mean_iou": 0.5}\n'
    )
    rows.append(row, tmp_path)
    assert rows.read([run], tmp_path, 0) == {run.name: row}


def test_rows_of_another_configuration_are_refused(tmp_path):
    run, _ = runs()
    rows.append(rows.of_run(run, finish(run, tmp_path), block=2), tmp_path)
    expected = r"base/seed=0 is finished, but now differs in \{'total_steps': \(1000, 5\)\}"
    with pytest.raises(ConfigError, match=expected):
        rows.read(runs(total_steps=5), tmp_path, 2)
    with pytest.raises(ConfigError, match=r"'bootstrap_block': \(2, 3\)"):
        rows.read(runs(), tmp_path, 3)


def test_a_row_of_a_version_before_a_field_has_its_default(tmp_path):
    run, _ = runs()
    row = rows.of_run(run, finish(run, tmp_path), block=0)
    earlier = {field: value for field, value in row["config"].items() if field != "eval.flip"}
    rows.append(row | {"config": earlier}, tmp_path)
    assert rows.read([run], tmp_path, 0) == {run.name: row}
    with pytest.raises(ConfigError, match=r"now differs in \{'eval.flip': \(False, True\)\}"):
        rows.read(runs(**{"eval.flip": True}), tmp_path, 0)


@pytest.mark.parametrize(
    ("key", "which"), [("data_hash", "reported on"), ("train_data_hash", "trained on")]
)
def test_a_row_of_other_data_is_refused(tmp_path, key, which):
    first, second = runs()
    row = rows.of_run(first, finish(first, tmp_path), block=0)
    other = rows.of_run(second, finish(second, tmp_path), block=0)
    rows.require_same_data(second, other, tmp_path, [(first, row)])
    expected = rf"base/seed=1 was {which}, or their labels, are not those of base/seed=0 \({key}"
    with pytest.raises(ConfigError, match=expected):
        rows.require_same_data(second, other | {key: "89ab"}, tmp_path, [(first, row)])
    # What an earlier version made, and another data set.
    rows.require_same_data(second, other | {key: None}, tmp_path, [(first, row)])
    elsewhere = other["config"] | {"data.name": "camvid"}
    changed = other | {key: "89ab", "config": elsewhere}
    rows.require_same_data(second, changed, tmp_path, [(first, row)])


def test_a_damaged_run_is_named(tmp_path):
    run, _ = runs()
    folder = finish(run, tmp_path)
    (folder / "result.json").write_text('{"mean')
    with pytest.raises(ConfigError, match=f"{run.name} is damaged"):
        rows.of_run(run, folder, block=0)


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("result.json", "{}", "ece.* is missing"),
        ("result.json", "[]", r"result\.json holds \[\]"),
        (
            "per_image.jsonl",
            '{"id": "0", "areas": [[1, 1], [1, 1], [1, 1]]}',
            r"not whole numbers \(4, 3, 2\)",
        ),
        ("per_image.jsonl", '{"id": "0", "areas": [[1, 1], [1], [1, 1]]}', "inhomogeneous"),
        (
            "per_image.jsonl",
            '{"id": "0", "areas": [[1.9], [1], [1]]}',
            "not whole numbers",
        ),
        ("per_image.jsonl", '{"id": "0", "areas": null}', "not whole numbers"),
        ("metrics.jsonl", '{"step": "x", "target/a": 1}', "diagnostics is missing"),
        ("metrics.jsonl", '{"step": 2, "target/a": "x"}', "diagnostics is missing"),
        ("metrics.jsonl", '{"step": 1, "steps_per_second": "x"}', "TypeError"),
    ],
)
def test_files_that_lack_something_are_damaged(tmp_path, file, content, said):
    run, _ = runs()
    folder = finish(run, tmp_path)
    (folder / file).write_text(content + "\n")
    with pytest.raises(ConfigError, match=f"{run.name} is damaged.*{said}"):
        rows.of_run(run, folder, block=1)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("mean_iou", "x"),
        ("brier", [1]),
        ("iou", {}),
        ("iou", None),
        ("iou", {"road": "x"}),
        ("calibration", {}),
        ("calibration", {"count": None, "confidence": [], "accuracy": []}),
        ("trimap", None),
        ("train_images", "x"),
        ("train_ids_hash", {}),
        ("versions", []),
        ("versions", {"commit": 3}),
    ],
)
def test_a_result_of_another_form_becomes_no_row(tmp_path, capsys, key, value):
    run, _ = runs()
    folder = finish(run, tmp_path)
    row = rows.of_run(run, folder, block=0)
    result = json.loads((folder / "result.json").read_text()) | {key: value}
    (folder / "result.json").write_text(json.dumps(result))
    with pytest.raises(ConfigError, match=rf"is damaged.*{key} is missing"):
        rows.of_run(run, folder, block=0)
    rows.append(row | {key: value}, tmp_path)  # by hand
    assert rows.read([run], tmp_path, 0) == {}
    expected = f"{tmp_path / rows.FILE}: a line of {run.name} is left out: {key} is missing"
    assert expected in capsys.readouterr().out
    rows.append(row, tmp_path)
    assert rows.read([run], tmp_path, 0) == {run.name: row}
    assert not capsys.readouterr().out


def test_one_subset_with_other_ids_is_refused(tmp_path):
    first, second = runs(**{"data.subset": "here/ids.txt"})
    row = rows.of_run(first, finish(first, tmp_path), block=0)
    other = rows.of_run(second, finish(second, tmp_path), block=0)
    rows.require_same_data(second, other, tmp_path, [(first, row)])
    other["train_ids_hash"] = "89ab"
    with pytest.raises(ConfigError, match=r"seed=1 was trained on.*those of.*train_ids_hash"):
        rows.require_same_data(second, other, tmp_path, [(first, row)])
    # Each seed may have a list of its own, which in a row has the same name.
    elsewhere, _ = runs(**{"data.subset": "there/ids.txt"})
    rows.require_same_data(second, other, tmp_path, [(elsewhere, row)])


def test_a_result_does_not_rename_its_run(tmp_path):
    run, _ = runs()
    folder = finish(run, tmp_path)
    result = json.loads((folder / "result.json").read_text())
    (folder / "result.json").write_text(json.dumps(result | {"name": "other", "config": {}}))
    row = rows.of_run(run, folder, block=0)
    assert row["name"] == run.name
    assert row["config"]["total_steps"] == 1000


def test_blocks_of_another_form_are_left_out(tmp_path):
    run, _ = runs()
    row = rows.of_run(run, finish(run, tmp_path), block=2)
    for changed in ({"block_areas": [[1], [2]]}, {"block_areas": None}):
        rows.append(row | changed, tmp_path)
        assert rows.read([run], tmp_path, 2) == {}


def test_the_result_of_another_run_is_refused(tmp_path):
    (run, _), (other, _) = runs(), runs(total_steps=5)
    folder = finish(run, tmp_path)
    assert rows.has_finished(folder)
    with pytest.raises(ConfigError, match=r"differs in \{'total_steps': \(1000, 5\)\}"):
        rows.of_run(other, folder, block=0)
