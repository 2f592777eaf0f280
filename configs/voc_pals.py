"""VOC 2012, trainaug, by PALS, else as `voc_ce.py`; PALS is a reconstruction from its abstract.

Command: python -m pals_jax.main --config=configs/voc_pals.py --config.data.root=DOWNLOADS
    --config.weights=resnet50-0676ba61.pth --workdir=runs/voc_pals

Hardware and expected time: as `voc_ce.py`, with what PALS adds to a step, see
docs/performance.md. Expected mIoU on val: not measured. PALS has its default options,
chosen with a small network from scratch on CamVid (docs/study.md) and not tried here.
"""

from ml_collections import ConfigDict

from configs import voc_ce


def get_config() -> ConfigDict:
    """The affinity is computed at stride 8, the default: crops have 4096 cells."""
    config = voc_ce.get_config()
    config.target.name = "pals"
    return config
