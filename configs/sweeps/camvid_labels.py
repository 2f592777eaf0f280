"""Targets on a tenth, three tenths and all of CamVid's labels, with settings frozen.

Command: python -m pals_jax.sweep --config=configs/camvid.py --sweep=configs/sweeps/camvid_labels.py
    --config.data.root=CAMVID --workdir=runs/camvid_labels

Hardware: two processor cores, about six hours. Reports on val. The settings of PALS and the ε of
label smoothing were chosen on drive 0006R0 (`camvid_search.py`), those of the other targets are
published ones.
"""

from pals_jax.sweep import Grid, Sweep

# The highest mIoU of the search, on average of two seeds; the highest with the network's own
# features; the defaults when it was made.
_CHOSEN = {
    "alpha": 0.1,
    "ramp": "constant",
    "temperature": 0.05,
    "mask": "same_class",
    "centre": True,
    "gate": "none",
    "prior": "image",
    "feature": "rgb",
    "stride": 8,
}
_DECODER = {
    "alpha": 0.3,
    "ramp": "linear",
    "temperature": 0.1,
    "mask": "none",
    "centre": True,
    "gate": "none",
    "prior": "image",
    "feature": "decoder",
    "stride": 0,
}
_DEFAULTS = {
    "alpha": 0.3,
    "ramp": "linear",
    "temperature": 0.1,
    "mask": "none",
    "centre": False,
    "gate": "none",
    "prior": "none",
    "feature": "decoder",
    "stride": 0,
}

_OTHERS = ("svls", "ols", "ps_kd", "tf_kd", "mbls", "nacl", "bake")


def _pals(options: dict[str, object]) -> dict[str, object]:
    fields = {f"target.options.{option}": value for option, value in options.items()}
    return {"target.name": "pals", **fields}


def get_sweep() -> Sweep:
    """Cross-entropy, label smoothing and PALS with all numbers of labels; with a tenth, also the
    controls of PALS, its best setting with decoder features, its defaults,
    and all other targets.
    """
    main = {
        "CE": {"target.name": "one_hot"},
        "LS": {"target.name": "label_smoothing", "target.options.epsilon": 0.1},
        "PALS": _pals(_CHOSEN),
    }
    within_class = {"PALS uniform within class": _pals({**_CHOSEN, "affinity": "uniform"})}
    others = {
        "PALS decoder": _pals(_DECODER),
        "PALS uniform": _pals({**_CHOSEN, "affinity": "uniform", "mask": "none"}),
        "PALS identity": _pals({**_CHOSEN, "affinity": "identity"}),
        "PALS defaults": _pals(_DEFAULTS),
        **{name: {"target.name": name} for name in _OTHERS},
    }
    few, more = {"data.subset": ("0.1",)}, {"data.subset": ("0.3", "1.0")}
    return Sweep(
        title="CamVid: targets by number of labels",
        baseline="CE",
        grids=(
            Grid({**few, "seed": (0, 1, 2, 3, 4)}, {**main, **within_class}),
            Grid({**more, "seed": (0, 1, 2)}, main),
            Grid({**few, "seed": (0, 1, 2)}, others),
        ),
        seed_fields=("data.subset_seed",),
        bootstrap_block=10,
    )
