"""Any folder of images and single-channel masks of class indices.

Command: python -m pals_jax.main --config=configs/folder.py --workdir=runs/photos
    --config.data.root=FOLDER --config.data.classes="('background', 'leaf', 'fruit')"

Hardware: one or two processor cores, 10 to 20 minutes; a GPU has room for
--config.model.name=deeplabv3plus_resnet50 --config.model.width=64. mIoU depends on the images.
"""

from ml_collections import ConfigDict

from pals_jax.config import default_config


def get_config() -> ConfigDict:
    """Reads `images/{split}/{id}.*` and `masks/{split}/{id}.png` below --config.data.root."""
    config = default_config()
    config.total_steps = 1600
    config.batch_size = 4
    config.data.name = "segmentation_folder"
    config.data.crop_size = (176, 240)
    config.model.name = "deeplabv3plus_resnet18"
    config.model.width = 16
    config.model.decoder_channels = 32
    config.optimizer.learning_rate = 0.1
    config.log.every = 50
    config.log.panels_every = 400
    config.checkpoint.every = 400
    return config
