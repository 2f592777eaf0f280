"""Cityscapes by cross-entropy, with the recipe that the field trains DeepLabV3+ with.

Command: python -m pals_jax.main --config=configs/cityscapes_ce.py --config.data.root=DOWNLOADS
    --config.weights=resnet50-0676ba61.pth --workdir=runs/cityscapes_ce

A part of the labels: --config.data.subset=0.1, 0.3 or 0.5, or cityscapes/1_16. ResNet-101:
--config.model.name=deeplabv3plus_resnet101 --config.weights=resnet101-63fe2227.pth. Multi-scale:
--mode=evaluate --config.eval.flip=True --config.eval.scales="(0.5, 0.75, 1.0, 1.25, 1.5, 1.75)".

Hardware: GPUs or TPUs. --config.accumulation=4 takes a quarter of the memory of activations, which
is not measured.
Expected time, computed and not measured: a step is 18 TFLOP, 26 with ResNet-101, as the counter of
PyTorch says of the same network; so 80,000 steps take 7 hours, or 10, on a GPU that sustains 60
TFLOP/s, as 40 % of the 156 in TF32 of an A100's data sheet. Loading and evaluation not included.
Expected mIoU on val: not measured. Theirs (MMSegmentation, all labels, 80,000 steps, single scale /
multi-scale and flip): 80.09 / 81.13 % with ResNet-50, 80.97 / 82.03 % with ResNet-101. Their
network differs: a stem of three convolutions, depthwise separable convolutions in an ASPP and
decoder of 512 channels, dropout before the classifiers.

Weights: https://download.pytorch.org/models/resnet50-0676ba61.pth and resnet101-63fe2227.pth there.
"""

from ml_collections import ConfigDict

from pals_jax.config import default_config


def get_config() -> ConfigDict:
    """SGD, poly 0.9 from 0.01 to 1e-4, batches of 8 crops of 512×1024, auxiliary head."""
    config = default_config()
    config.total_steps = 80_000
    config.batch_size = 8
    config.data.name = "cityscapes"
    config.data.crop_size = (512, 1024)
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
