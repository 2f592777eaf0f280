"""Measures the input pipeline alone, in images per second of processor time.

Decoding, random scale, crop, flip and photometric changes, as a training run does them: of the
embedded data set, against a step on as many images; and of PNGs as those of Cityscapes, for the
number of cores that keep an accelerator of a given speed busy. All in processor time, because
loading runs beside the step on the same cores.

    python -m benchmarks.pipeline [--quick] [--repeats=10] [--output=rows.jsonl]
"""

import contextlib
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from benchmarks import harness, step
from configs import cityscapes_ce
from pals_jax import data
from pals_jax.config import resolve
from pals_jax.data.augment import augment
from pals_jax.run_data import open_data

# Gaussian noise of so many grey levels makes PNGs as large as those of Cityscapes, 11 GB / 5,000.
NOISE = 1.0


def processor_seconds(run, repeats: int) -> float:
    """Processor time of one call, over all threads of this process."""
    start = time.process_time()
    for _ in range(repeats):
        run()
    return (time.process_time() - start) / repeats


def against_a_step(backbone: str, size: int, repeats: int) -> dict[str, object]:
    """The embedded data set, beside a training step on as many images."""
    config = step.configuration(backbone, size, "one_hot")
    with contextlib.closing(open_data(config)) as run_data:
        next(run_data.batches)
        loading = processor_seconds(lambda: next(run_data.batches), 5 * repeats)
    case, _ = step.ours("cross-entropy", config, step.random_batch(config))
    training = processor_seconds(case.run, repeats)
    return {
        "network": backbone,
        "size": size,
        "pipeline_images_per_core_s": config.batch_size / loading,
        "step_images_per_core_s": config.batch_size / training,
        "share_of_the_step": loading / training,
    }


def of_street_scenes(number: int) -> dict[str, object]:
    """PNGs of 1024×2048, cropped as `configs/cityscapes_ce.py` says."""
    config = cityscapes_ce.get_config()
    with tempfile.TemporaryDirectory() as folder:
        megabytes = write_street_scenes(Path(folder), number)
        config.data.update(name="segmentation_folder", root=folder, data_dir=folder, workers=0)
        config.data.classes = tuple(map(str, range(19)))
        source = data.open_training(resolve(config).data)
        options = data.Augmentation(crop=tuple(config.data.crop_size), ignore=255)
        rng = np.random.default_rng(0)
        examples = [source[index] for index in range(number)]
        reading = processor_seconds(lambda: [source[i] for i in range(number)], 3)
        augmenting = processor_seconds(
            lambda: [augment(example, rng, options) for example in examples], 3
        )
        batches = data.TrainBatches(source, batch_size=2, augmentation=options, seed=0)
        with contextlib.closing(batches):
            next(batches)
            loading = processor_seconds(lambda: next(batches), 2 * number) / 2
    return {
        "images": "1024×2048 PNG",
        "megabytes": megabytes,
        "crop": "{}×{}".format(*config.data.crop_size),
        "reading_s": reading / number,
        "augmenting_s": augmenting / number,
        "pipeline_images_per_core_s": 1 / loading,
    }


def write_street_scenes(folder: Path, number: int) -> float:
    """Writes smooth colours with noise, and masks of large shapes; megabytes of one image."""
    rng = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (folder / kind / "train").mkdir(parents=True)
    for index in range(number):
        smooth = cv2.resize(rng.uniform(0, 255, (16, 32, 3)), (2048, 1024))
        noisy = smooth + rng.normal(0, NOISE, smooth.shape)
        image = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
        coarse = rng.integers(0, 19, (16, 32), dtype=np.uint8)
        mask = cv2.resize(coarse, (2048, 1024), interpolation=cv2.INTER_NEAREST)
        Image.fromarray(image).save(folder / f"images/train/{index}.png")
        Image.fromarray(mask).save(folder / f"masks/train/{index}.png")
    sizes = [path.stat().st_size for path in (folder / "images/train").iterdir()]
    return sum(sizes) / number / 1e6


def main() -> None:
    """Measures and reports."""
    given = harness.arguments(__doc__, "ResNet-18 at 64×64").parse_args()
    backbone, size = ("resnet18", 64) if given.quick else ("resnet50", 256)
    repeats = given.repeats or (3 if given.quick else 10)
    harness.write("pipeline", [against_a_step(backbone, size, repeats)], given.output)
    harness.write("pipeline", [of_street_scenes(2 if given.quick else 8)], given.output)


if __name__ == "__main__":
    main()
