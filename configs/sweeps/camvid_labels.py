"""Targets on a tenth, three tenths and all of CamVid's labels, with settings frozen.

Command: python -m pals_jax.sweep --config=configs/camvid.py --sweep=configs/sweeps/camvid_labels.py
    --config.data.root=CAMVID --workdir=runs/camvid_labels

Hardware: two processor cores, about six hours. Reports on val. The settings of PALS and the ε of
label smoothing were chosen on drive 0006R0 (`camvid_search.py`), those of the other targets are
published ones, but bake has those of the plain form of PALS.
"""

from configs.sweeps.camvid_search import CHOSEN, DECODER, PLAIN, pals
from pals_jax.sweep import Grid, Sweep

_OTHERS = ("svls", "ols", "ps_kd", "tf_kd", "mbls", "nacl")


def get_sweep() -> Sweep:
    """Cross-entropy, label smoothing and PALS with all numbers of labels; with a tenth, also the
    controls of PALS, its best setting with decoder features, its plain form, and all other targets.
    """
    main = {
        "CE": {"target.name": "one_hot"},
        "LS": {"target.name": "label_smoothing", "target.options.epsilon": 0.1},
        "PALS": pals(CHOSEN),
    }
    within_class = {"PALS uniform within class": pals({**CHOSEN, "affinity": "uniform"})}
    others = {
        "PALS decoder": pals(DECODER),
        "PALS uniform": pals({**CHOSEN, "affinity": "uniform", "mask": "none"}),
        "PALS identity": pals({**CHOSEN, "affinity": "identity"}),
        "PALS defaults": pals(PLAIN),  # which the defaults were then
        **{name: {"target.name": name} for name in _OTHERS},
        "bake": {**pals(PLAIN), "target.name": "bake"},
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
