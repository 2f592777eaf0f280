"""Soft against nearest labels where crops are down-sampled by 4, on CamVid.

Command: python -m pals_jax.sweep --config=configs/camvid.py
    --sweep=configs/sweeps/camvid_downsample.py --config.data.root=CAMVID
    --workdir=runs/camvid_downsample

Hardware: two processor cores, about half an hour. Reports on val; nothing was chosen for it.
"""

from pals_jax.sweep import Grid, Sweep


def get_sweep() -> Sweep:
    """Cross-entropy on a tenth of the labels and on all, five seeds."""
    fields = {
        "data.subset": ("0.1", "1.0"),
        "seed": (0, 1, 2, 3, 4),
        "data.downsample": (4,),
        "data.crop_size": ((320, 448),),
        "target.name": ("one_hot",),
    }
    return Sweep(
        title="CamVid: soft labels under down-sampling",
        baseline="nearest",
        grids=(
            Grid(
                fields,
                {
                    "nearest": {"data.label_downsampling": "nearest"},
                    "soft": {"data.label_downsampling": "soft"},
                },
            ),
        ),
        seed_fields=("data.subset_seed",),
        bootstrap_block=10,
    )
