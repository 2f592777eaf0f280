"""CamVid, 11 classes at 480×360, at a size that a processor core can train.

Command: python -m pals_jax.main --config=configs/camvid.py --config.data.root=CAMVID
    --workdir=runs/camvid

Hardware: one processor core, 10 to 15 minutes. Expected mIoU on val with all labels: 37 to 40 %,
see docs/study.md.
"""

from ml_collections import ConfigDict

from pals_jax.config import default_config


def get_config() -> ConfigDict:
    """A narrow ResNet-18; the data set's folder goes to --config.data.root."""
    config = default_config()
    config.total_steps = 1600
    config.batch_size = 4
    config.data.name = "camvid"
    config.data.crop_size = (176, 240)
    config.model.name = "deeplabv3plus_resnet18"
    config.model.width = 16
    config.model.decoder_channels = 32
    config.optimizer.learning_rate = 0.1
    config.log.every = 50
    config.log.panels_every = 400
    config.checkpoint.every = 400
    return config
