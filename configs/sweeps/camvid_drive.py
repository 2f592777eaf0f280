"""Cross-entropy, label smoothing and PALS across drives of CamVid, with settings frozen.

Command: python -m pals_jax.sweep --config=configs/camvid.py --sweep=configs/sweeps/camvid_drive.py
    --config.data.root=CAMVID --workdir=runs/camvid_drive

Hardware: two processor cores, about 45 minutes. Trains on all labels of the other drives and
reports on drive 0006R0, on which the settings were chosen, with a tenth of these labels.
"""

from pals_jax.sweep import Grid, Sweep

# As in `camvid_labels.py`.
_CHOSEN = {
    "target.options.alpha": 0.1,
    "target.options.ramp": "constant",
    "target.options.temperature": 0.05,
    "target.options.mask": "same_class",
    "target.options.centre": True,
    "target.options.prior": "image",
    "target.options.feature": "rgb",
    "target.options.stride": 8,
}


def get_sweep() -> Sweep:
    """Three targets, three seeds."""
    return Sweep(
        title="CamVid: across drives",
        baseline="CE",
        grids=(
            Grid(
                {"data.dev": ("prefix:0006R0",), "eval.split": ("dev",), "seed": (0, 1, 2)},
                {
                    "CE": {"target.name": "one_hot"},
                    "LS": {"target.name": "label_smoothing", "target.options.epsilon": 0.1},
                    "PALS": {"target.name": "pals", **_CHOSEN},
                },
            ),
        ),
        bootstrap_block=10,
    )
