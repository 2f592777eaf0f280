"""Cross-entropy, label smoothing and PALS across drives of CamVid, with settings frozen.

Command: python -m pals_jax.sweep --config=configs/camvid.py --sweep=configs/sweeps/camvid_drive.py
    --config.data.root=CAMVID --workdir=runs/camvid_drive

Hardware: two processor cores, about 45 minutes. Trains on all labels of the other drives and
reports on drive 0006R0, on which the settings were chosen, with a tenth of these labels.
"""

from configs.sweeps.camvid_search import CHOSEN, pals
from pals_jax.sweep import Grid, Sweep


def get_sweep() -> Sweep:
    """Three targets, three seeds."""
    return held_out("0006R0")


def held_out(drive: str) -> Sweep:
    """Training on the other drives of the training split, reported on this one."""
    return Sweep(
        title=f"CamVid: across drives, {drive}",
        baseline="CE",
        grids=(
            Grid(
                {"data.dev": (f"prefix:{drive}",), "eval.split": ("dev",), "seed": (0, 1, 2)},
                {
                    "CE": {"target.name": "one_hot"},
                    "LS": {"target.name": "label_smoothing", "target.options.epsilon": 0.1},
                    "PALS": pals(CHOSEN),
                },
            ),
        ),
        bootstrap_block=10,
    )
