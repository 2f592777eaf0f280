"""As `camvid_drive.py`, on drive 0001TP, on which nothing was chosen.

Command: python -m pals_jax.sweep --config=configs/camvid.py
    --sweep=configs/sweeps/camvid_other_drive.py --config.data.root=CAMVID
    --workdir=runs/camvid_other_drive

Hardware: two processor cores, about 45 minutes. Trains on all labels of the two drives by day and
reports on the one at dusk.
"""

from configs.sweeps.camvid_drive import held_out
from pals_jax.sweep import Sweep


def get_sweep() -> Sweep:
    """Three targets, three seeds."""
    return held_out("0001TP")
