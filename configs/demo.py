"""PALS on procedural street scenes: the whole way from labels to predictions on a laptop's
processor.

Command: python -m pals_jax.main --config=configs/demo.py --workdir=runs/demo

Hardware: two processor cores, two to four minutes. Expected mIoU on val: 26 to 28 %, see
docs/results.md.
"""

from ml_collections import ConfigDict

from pals_jax.config import default_config


def get_config() -> ConfigDict:
    """A narrow ResNet-18 on 30 images of the embedded data set."""
    config = default_config()
    config.total_steps = 800
    config.batch_size = 4
    config.data.name = "synthetic_streets"
    config.data.subset = "0.15"
    config.data.crop_size = (96, 192)
    config.data.scale = (0.75, 1.5)
    config.data.photometric = False
    config.target.name = "pals"
    config.model.name = "deeplabv3plus_resnet18"
    config.model.width = 16
    config.model.decoder_channels = 32
    config.optimizer.learning_rate = 0.2
    config.log.every = 50
    config.log.panels_every = 200
    config.checkpoint.every = 200
    return config
