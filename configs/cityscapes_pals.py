"""Cityscapes by PALS, else as `cityscapes_ce.py`; PALS is a reconstruction from its abstract.

Command: python -m pals_jax.main --config=configs/cityscapes_pals.py --config.data.root=DOWNLOADS
    --config.weights=resnet50-0676ba61.pth --workdir=runs/cityscapes_pals

Hardware and expected time: as `cityscapes_ce.py`, with what PALS adds to a step, see
docs/performance.md. Expected mIoU on val: not measured. PALS has its default options,
chosen with a small network from scratch on CamVid (docs/study.md) and not tried here.
"""

from ml_collections import ConfigDict

from configs import cityscapes_ce


def get_config() -> ConfigDict:
    """The affinity is computed at stride 8, the default: crops have 8192 cells."""
    config = cityscapes_ce.get_config()
    config.target.name = "pals"
    return config
