"""VOC 2012, trainaug, by cross-entropy, with the recipe that the field trains DeepLabV3+ with.

Command: python -m pals_jax.main --config=configs/voc_ce.py --config.data.root=DOWNLOADS
    --config.weights=resnet50-0676ba61.pth --workdir=runs/voc_ce

A part of the labels: --config.data.subset=0.1, 0.3 or 0.5, voc_blender/1_16 or, of the 1,464 images
of --config.data.train_split=train, voc_classic/92. ResNet-101:
--config.model.name=deeplabv3plus_resnet101 --config.weights=resnet101-63fe2227.pth.

Hardware: GPUs or TPUs. --config.accumulation=4 takes a quarter of the memory of activations, which
is not measured.
Expected time, computed and not measured as `cityscapes_ce.py` says: a step is 18 TFLOP, 26 with
ResNet-101; so 40,000 steps take 3.5 hours, or 5, on a GPU that sustains 60 TFLOP/s.
Expected mIoU on val: not measured. Theirs (MMSegmentation, trainaug, single scale / multi-scale and
flip): 76.81 / 77.57 % with ResNet-50, 78.62 / 79.53 % with ResNet-101. Their network differs as
`cityscapes_ce.py` says, and they scale images to a shorter side of 512 first, or a longer of 2048,
in training and testing; here a scale of 1 is the image's own size.

Weights: https://download.pytorch.org/models/resnet50-0676ba61.pth and resnet101-63fe2227.pth there.
"""

from ml_collections import ConfigDict

from pals_jax.config import default_config


def get_config() -> ConfigDict:
    """SGD, poly 0.9 from 0.01 to 1e-4, batches of 16 crops of 512×512, auxiliary head."""
    config = default_config()
    config.total_steps = 40_000
    config.batch_size = 16
    config.data.name = "voc2012"
    config.data.train_split = "trainaug"
    config.data.crop_size = (512, 512)
    config.data.workers = 8
    config.model.name = "deeplabv3plus_resnet50"
    config.model.output_stride = 8
    config.model.auxiliary = True
    config.target.name = "one_hot"
    config.log.every = 50
    config.log.panels_every = 2000
    config.checkpoint.every = 1000
    config.eval.every = 4000
    return config
