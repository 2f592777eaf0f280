"""Any folder of images and single-channel masks of class indices.

Command: python -m pals_jax.main --config=configs/folder.py --workdir=runs/photos
    --config.data.root=FOLDER --config.data.classes="('background', 'leaf', 'fruit')"

Hardware: two processor cores, for the network and crop of configs/camvid.py; a GPU has room for
--config.model.name=deeplabv3plus_resnet50 --config.model.width=64. mIoU depends on the images.
"""

from ml_collections import ConfigDict

from configs import camvid


def get_config() -> ConfigDict:
    """Reads `images/{split}/{id}.*` and `masks/{split}/{id}.png` below --config.data.root."""
    config = camvid.get_config()
    config.data.name = "segmentation_folder"
    return config
