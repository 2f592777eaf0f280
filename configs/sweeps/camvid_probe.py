"""What q is, early and late: one run of many forms of PALS on a tenth of CamVid's labels.

Command: python -m pals_jax.sweep --config=configs/camvid.py --sweep=configs/sweeps/camvid_probe.py
    --config.data.root=CAMVID --workdir=runs/camvid_probe

Hardware: two processor cores, about an hour and a half. Reports on drive 0006R0, held out of the
training split to choose on. One seed shows no difference in mIoU: this is for the diagnostics of q
that the runs log.
"""

from configs.sweeps.camvid_search import PLAIN, pals
from pals_jax.sweep import Grid, Sweep

_CHANGES = {
    "PALS": {},
    "centred": {"centre": True},
    "same class": {"mask": "same_class"},
    "correct": {"mask": "correct"},
    "centred, same class": {"centre": True, "mask": "same_class"},
    "logits": {"feature": "logits"},
    "probs": {"feature": "probs"},
    "rgb": {"feature": "rgb"},
    "τ = 0.02": {"temperature": 0.02},
    "τ = 0.5": {"temperature": 0.5},
    "centred, τ = 0.02": {"centre": True, "temperature": 0.02},
    "uniform": {"affinity": "uniform"},
    "uniform within class": {"affinity": "uniform", "mask": "same_class"},
    "identity": {"affinity": "identity"},
}


def get_sweep() -> Sweep:
    """Cross-entropy, label smoothing and PALS with one option changed at a time."""
    variants = {"CE": {"target.name": "one_hot"}, "LS": {"target.name": "label_smoothing"}}
    variants |= {name: pals({**PLAIN, **changes}) for name, changes in _CHANGES.items()}
    on_dev = {"data.subset": ("0.1",), "data.dev": ("prefix:0006R0",), "eval.split": ("dev",)}
    return Sweep(
        title="CamVid: what q is",
        baseline="CE",
        grids=(Grid({**on_dev, "seed": (0,)}, variants),),
        bootstrap_block=10,
    )
