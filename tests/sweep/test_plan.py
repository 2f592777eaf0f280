import pytest

from pals_jax.config import default_config
from pals_jax.errors import ConfigError
from pals_jax.sweep import Grid, Sweep, expand
from pals_jax.sweep.plan import hash_of

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
    grid = Grid({"target.options.alpha": (0.1, 0.3), "seed": (0,)})
    runs = expand(sweep(grid, baseline="alpha=0.1"), default_config())
    assert [run.variant for run in runs] == ["alpha=0.1", "alpha=0.3"]
    assert [run.name for run in runs] == ["alpha=0.1/seed=0", "alpha=0.3/seed=0"]


def test_fields_beside_variants_make_variants_too():
    grid = Grid({"optimizer.learning_rate": (0.1, 0.2)}, METHODS)
    runs = expand(sweep(grid, baseline="CE, learning_rate=0.1"), default_config())
    assert runs[3].variant == "PALS, learning_rate=0.2"
    assert runs[3].config.optimizer.learning_rate == 0.2


def test_several_grids_give_variants_their_own_seeds():
    grids = [Grid({"seed": (0, 1, 2)}, {"CE": METHODS["CE"]}), Grid({"seed": (0,)}, {"LS": {}})]
    runs = expand(sweep(*grids), default_config())
    assert [(run.variant, run.seed) for run in runs] == [("CE", 0), ("CE", 1), ("CE", 2), ("LS", 0)]


def test_what_all_runs_start_from_is_kept_and_not_changed():
    config = default_config()
    config.total_steps = 7
    (run,) = expand(sweep(Grid({"seed": (3,)}), baseline="base"), config)
    assert run.config.total_steps == 7
    assert config.seed == 0


def test_the_hash_is_of_what_decides_the_result():
    config = default_config()
    before = hash_of(config)
    config.data.root = "/elsewhere"
    config.log.every = 5
    assert hash_of(config) == before
    config.data.subset = "0.1"
    assert hash_of(config) != before


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (sweep(Grid({"targt.name": ("pals",)})), "did you mean config.target.name"),
        (sweep(Grid({}, {"CE": {"target.nam": "one_hot"}})), "did you mean config.target.name"),
        (sweep(Grid({"seed": (0,)}, METHODS), conditions=("data.subst",)), "config.data.subset"),
        (sweep(Grid({"seed": 3})), "seed must list the values"),
        (sweep(Grid({"target.name": "pals"})), r"as \('pals',\)"),
        (sweep(Grid({"seed": ()})), "seed must list the values"),
        (sweep(Grid({"target.name": ("pals",)}, METHODS)), "which the grid varies"),
        (sweep(Grid({"total_steps": (0,)})), "config.total_steps must be at least 1"),
        (sweep(Grid({"total_steps": ("x",)})), "total_steps"),
        (sweep(Grid({"seed": (0,)}, METHODS), baseline="LS"), r"'LS' is none of \['CE', 'PALS'\]"),
        (sweep(), "has no run"),
        (sweep(Grid({"seed": (0, 0)}, METHODS)), "share the folder CE/seed=0: they are the same"),
        (
            sweep(Grid({}, {"CE": {}, "ce": {"total_steps": 3}})),
            r"share the folder ce/seed=0: they differ in \{'total_steps': \(1000, 3\)\}",
        ),
        (sweep(Grid({}, {"a|b": {}})), "must do without"),
        (sweep(Grid({}, {"CE": {}, "PALS": {"eval.split": "train"}})), "several splits"),
        (sweep(Grid({}, {"CE": ON_DEV | {"eval.checkpoint": "best"}})), "is chosen on dev"),
    ],
)
def test_what_cannot_be_run_is_refused(broken, message):
    with pytest.raises(ConfigError, match=message):
        expand(broken, default_config())


def test_a_sweep_may_report_on_dev_to_choose_there():
    (run,) = expand(sweep(Grid({}, {"CE": ON_DEV})), default_config())
    assert run.config.eval.split == "dev"
