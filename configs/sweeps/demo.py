"""Cross-entropy, label smoothing and PALS on the embedded street scenes: a sweep to try.

Command: python -m pals_jax.sweep --config=configs/demo.py --sweep=configs/sweeps/demo.py
    --workdir=runs/demo_sweep

Hardware: two processor cores, about 20 minutes. On so few labels and steps, two seeds show nothing;
this shows what a report looks like.
"""

from pals_jax.sweep import Grid, Sweep


def get_sweep() -> Sweep:
    """Three targets, fifteen and sixty per cent of the labels, two seeds."""
    return Sweep(
        title="Targets on street scenes",
        baseline="CE",
        grids=(
            Grid(
                {"data.subset": ("0.15", "0.6"), "seed": (0, 1)},
                {
                    "CE": {"target.name": "one_hot"},
                    "LS": {"target.name": "label_smoothing"},
                    "PALS": {"target.name": "pals"},
                },
            ),
        ),
    )
