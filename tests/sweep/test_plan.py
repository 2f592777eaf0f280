import pytest

from pals_jax.config import default_config
from pals_jax.errors import ConfigError
from pals_jax.sweep import Grid, Sweep, expand
from pals_jax.sweep.plan import identity, load

METHODS = {
    "CE": {"target.name": "one_hot"},
    "PALS": {"target.name": "pals", "target.options.alpha": 0.5},
}
ON_DEV = {"data.dev": "0.2", "eval.split": "dev"}


def sweep(*grids, baseline="CE", **options):
    return Sweep("a title", grids, baseline, **options)


def test_every_combination_once_and_pairs_together():
    fields = {"seed": (0, 1), "data.subset": ("0.1", "1.0")}
    runs = expand(sweep(Grid(fields, METHODS)), default_config())
    assert [run.name for run in runs] == [
        f"{variant}/subset={subset}/seed={seed}"
        for subset in ("0.1", "1.0")
        for seed in (0, 1)
        for variant in ("CE", "PALS")
    ]
    last = runs[-1]
    assert last.condition == {"data.subset": "1.0"}
    assert (last.variant, last.seed, last.config.seed) == ("PALS", 1, 1)
    assert last.config.target.options.alpha == 0.5
    assert last.config.data.subset == "1.0"


def test_a_grid_without_variants_names_them_after_its_fields():
    grid = Grid({"target.options.epsilon": (0.1, 0.3), "seed": (0,)})
    runs = expand(sweep(grid, baseline="epsilon=0.1"), default_config())
    assert [run.variant for run in runs] == ["epsilon=0.1", "epsilon=0.3"]
    assert [run.name for run in runs] == ["epsilon=0.1/seed=0", "epsilon=0.3/seed=0"]


def test_fields_beside_variants_make_variants_too():
    grid = Grid({"optimizer.learning_rate": (0.1, 0.2)}, METHODS)
    runs = expand(sweep(grid, baseline="CE, learning_rate=0.1"), default_config())
    assert runs[3].variant == "PALS, learning_rate=0.2"
    assert runs[3].config.optimizer.learning_rate == 0.2


def test_several_grids_give_variants_their_own_seeds():
    grids = [
        Grid({"seed": (0, 1, 2)}, {"CE": METHODS["CE"]}),
        Grid({"seed": (0,)}, {"LS": {"total_steps": 3}}),
    ]
    runs = expand(sweep(*grids), default_config())
    assert [(run.variant, run.seed) for run in runs] == [("CE", 0), ("CE", 1), ("CE", 2), ("LS", 0)]


def test_what_all_runs_start_from_is_kept_and_not_changed():
    config = default_config()
    config.total_steps = 7
    (run,) = expand(sweep(Grid({"seed": (3,)}), baseline="base"), config)
    assert run.config.total_steps == 7
    assert config.seed == 0


def test_the_identity_is_what_decides_the_result():
    config = default_config()
    before = identity(config)
    config.data.root = "/elsewhere"
    config.log.every = 5
    assert identity(config) == before
    config.data.subset = "/here/ids.txt"
    assert identity(config)["data.subset"] == "ids.txt"


def test_values_become_what_they_are_once_read_back():
    grid = Grid({"data.crop_size": ((32, 32), (64, 64))}, METHODS)
    runs = expand(sweep(grid, conditions=("data.crop_size",)), default_config())
    assert [run.condition["data.crop_size"] for run in runs[::2]] == [[32, 32], [64, 64]]


def test_a_list_of_ids_has_one_name_wherever_it_lies():
    grid = Grid({"data.subset": ("lists/ids.txt",)}, METHODS)
    run, _ = expand(sweep(grid), default_config())
    assert run.name == "CE/subset=ids.txt/seed=0"
    assert run.condition == {"data.subset": "ids.txt"}


def test_each_seed_may_have_labelled_images_of_its_own():
    grid = Grid({"seed": (0, 4)}, METHODS)
    runs = expand(sweep(grid, seed_fields=("data.subset_seed",)), default_config())
    assert [run.config.data.subset_seed for run in runs] == [0, 0, 4, 4]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Grid({"targt.name": ("pals",)}), "did you mean config.target.name"),
        (lambda: Grid({}, {"CE": {"target.nam": "one_hot"}}), "did you mean config.target.name"),
        (lambda: sweep(Grid({}), conditions=("data.subst",)), "config.data.subset"),
        (lambda: sweep(Grid({}), conditions="data.subset"), "conditions .* a list of fields"),
        (lambda: sweep(Grid({}), seed_fields=("sed",)), "unknown field config.sed"),
        (lambda: sweep(Grid({}), bootstrap_block=1.5), "bootstrap_block must be a whole number"),
        (lambda: Sweep("t", Grid({}), "CE"), "grids of a Sweep must be a list of Grids"),
        (lambda: Grid({"seed": 3}), "seed of a Grid must be a list of the values"),
        (
            lambda: Grid({"target.name": "pals"}),
            "must be a list of the values to take, found 'pals'",
        ),
        (lambda: Grid({"seed": ()}), "must be a list of the values"),
        (lambda: Grid(("seed",)), r"must be \{field: values\}"),
        (lambda: Grid({}, {"CE": "one_hot"}), r"variant 'CE' must be \{field: value\}"),
        (lambda: Grid({"target.name": ("pals",)}, METHODS), "which its grid varies"),
        (lambda: Grid({}, ["CE"]), r"variants of a Grid must be \{name: fields\}"),
        (
            lambda: Grid({}, {0.5: {}}),
            "the name of a variant must be a text on one line, without _ before it, found 0.5",
        ),
        (lambda: Grid({1: (2,)}), "a field of a sweep must be a text, found 1"),
        (lambda: Sweep(3, (), "CE"), "title of a Sweep must be a text, found 3"),
    ],
)
def test_a_sweep_of_another_form_is_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (sweep(Grid({"total_steps": (0,)})), "config.total_steps must be at least 1"),
        (sweep(Grid({"total_steps": ("x",)})), "total_steps"),
        (
            sweep(Grid({"data.subset": (0.5,)})),
            r"data\.subset is a text: write '0\.5' and not 0\.5",
        ),
        (
            sweep(Grid({"seed": (0,)}, METHODS), baseline="LS"),
            r"'LS' is none of the variants \['CE', 'PALS'\]",
        ),
        (
            sweep(
                Grid({}, {"CE": {}}), Grid({"data.subset": ("0.1",)}, {"LS": {"total_steps": 3}})
            ),
            r"'LS' has no run to compare with under .*0\.1.*: its seeds are \[0\], "
            r"those of the baseline 'CE' \[\]",
        ),
        (
            sweep(
                Grid({"seed": (0,)}, {"CE": {}}),
                Grid({"seed": (1, 2)}, {"LS": {"total_steps": 3}}),
            ),
            r"its seeds are \[1, 2\], those of the baseline 'CE' \[0\]",
        ),
        (sweep(), "has no run"),
        (sweep(Grid({"seed": (0, 0)}, METHODS)), "share the folder CE/seed=0: they are the same"),
        (
            sweep(Grid({}, {"CE": {}, "ce": {"total_steps": 3}})),
            r"share the folder ce/seed=0: they differ in \{'total_steps': \(1000, 3\)\}",
        ),
        (sweep(Grid({}, {"CE": {}, "again": {}})), "the same run under two names"),
        (sweep(Grid({}, {"CE": {}, "..": {"total_steps": 3}})), "cannot be the name of a folder"),
        (sweep(Grid({}, {"CE": {}, "report.md": {"total_steps": 3}})), "and none of .*report.md"),
        (
            Sweep("t", (Grid({}, METHODS),), "CE", conditions=("data.root",)),
            r"\['data.root'\] cannot be conditions: variant 'CE'",
        ),
        (sweep(Grid({}, {"CE": {}, "é" * 101: {"total_steps": 3}})), "at most 200 bytes"),
        (sweep(Grid({}, {"CE": {}, "PALS": {"eval.split": "train"}})), "several splits"),
        (sweep(Grid({}, {"CE": ON_DEV | {"eval.checkpoint": "best"}})), "is chosen on dev"),
    ],
)
def test_what_cannot_be_run_is_refused(broken, message):
    with pytest.raises(ConfigError, match=message):
        expand(broken, default_config())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\ndef get_sweep(\n", "line 2.*SyntaxError"),
        (
            "import json\ndef get_sweep():\n    return json.loads('')\n",
            "line 3, in get_sweep.*json/.*JSONDecodeError",
        ),
        ("get_sweep = 3", "TypeError: 'int' object is not callable"),
        ("", "must define get_sweep"),
        ("def get_sweep():\n    pass", "must define get_sweep"),
    ],
)
def test_a_file_that_fails_is_explained(tmp_path, text, message):
    path = tmp_path / "sweep.py"
    path.write_text(text)
    with pytest.raises(ConfigError, match=rf"(?s)--sweep={path}.*{message}"):
        load(path)


def test_a_sweep_may_report_on_dev_to_choose_there():
    (run,) = expand(sweep(Grid({}, {"CE": ON_DEV})), default_config())
    assert run.config.eval.split == "dev"
