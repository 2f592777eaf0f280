"""Prediction on a folder: class indices, colours and overlays, sized and turned as the input."""

import collections
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from pals_jax import data, inference, networks, sharding, visualize
from pals_jax.checkpoints import Checkpoints
from pals_jax.evaluate import open_examples

KINDS = ("index", "colour", "overlay")


class ImageFolder:
    """Random access to the images below a folder as {"image", "id"}.

    The id is the path below the folder without its extension, or with it where two images would
    share one. Files that are no images are told.

    Raises:
      DataError: the folder is missing or holds no image.
    """

    def __init__(self, folder: Path):
        folder = folder.expanduser()
        self.paths, others = data.list_images(folder)
        if others:
            shown = ", ".join(str(path.relative_to(folder)) for path in others[:5])
            print(f"skipping {len(others)} files that are no images: {shown}")
        names = [path.relative_to(folder) for path in self.paths]
        stems = collections.Counter(name.with_suffix("") for name in names)
        self.ids = [
            str(name if stems[name.with_suffix("")] > 1 else name.with_suffix("")) for name in names
        ]
        if len(set(self.ids)) < len(self.ids):  # x.jpg, x.png and x.jpg.png
            self.ids = [str(name) for name in names]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"image": data.read_image(self.paths[index]), "id": self.ids[index]}

    @property
    def sizes(self) -> list[inference.Size]:
        """(height, width) of each image as it stands upright, from its header."""
        return [data.image_size(path) for path in self.paths]


def predict(config: ConfigDict, workdir: str | Path) -> Path:
    """Predicts every image of a folder, or of the evaluated split where no folder is given.

    Writes OUTPUT/index/ID.png (class indices, single channel), OUTPUT/colour/ID.png and
    OUTPUT/overlay/ID.png.

    Args:
      config: resolved; `config.predict` says what to predict. What the network is comes from the
          checkpoint.
      workdir: of a training run.

    Returns:
      The folder that was written.
    """
    mesh = sharding.data_mesh(config.num_devices)
    workdir = Path(workdir).expanduser()
    with Checkpoints(workdir, read_only=True) as checkpoints:
        step = checkpoints.find(config.eval.checkpoint)
        apply, network, meta = networks.restore(checkpoints, step, mesh)
    examples: data.Examples
    if config.predict.images:
        examples = ImageFolder(Path(config.predict.images))
    else:
        examples = open_examples(config, meta)
    output = Path(config.predict.output or workdir / "predictions").expanduser()
    images = Path(config.predict.images).expanduser().resolve()
    if config.predict.images and output.resolve().is_relative_to(images):
        raise data.DataError(
            f"config.predict.output {output} lies in config.predict.images {images}: the next "
            "prediction would take it for input; choose another folder"
        )

    @jax.jit
    def classify(network, image, valid):
        probs = inference.probabilities(
            apply, network, image, valid, meta.model["mean"], meta.model["std"]
        )
        return jnp.argmax(probs, axis=-1)

    sizes = inference.sizes_of(examples)
    shapes = inference.padded_shapes(sizes, config.eval.max_shapes)
    rows = inference.rows_per_shape(sizes, shapes, config.eval.batch_size, mesh)
    written = 0
    for batch in inference.padded_batches(data.read_ahead(examples), shapes, rows, meta.ignore):
        image, valid = sharding.shard_batch((batch.image, batch.valid), mesh)
        classes = np.asarray(classify(network, image, valid))
        for i, (name, (height, width)) in enumerate(zip(batch.ids, batch.sizes, strict=True)):
            pictures = _pictures(
                batch.image[i, :height, :width],
                classes[i, :height, :width],
                meta.palette,
                config.predict.opacity,
            )
            for kind, picture in zip(KINDS, pictures, strict=True):
                path = output / kind / f"{name}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(picture).save(path)
        tenth = 10 * written // len(examples)
        written += len(batch.ids)
        if 10 * written // len(examples) > tenth:
            print(f"predicted {written}/{len(examples)} images", flush=True)
    print("wrote " + ", ".join(str(output / kind) for kind in KINDS))
    return output


def _pictures(
    image: np.ndarray, classes: np.ndarray, palette: visualize.Palette, opacity: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One picture per kind of KINDS; indices above 255 need 16 bits."""
    index = classes.astype(np.uint8 if len(palette) <= 256 else np.uint16)
    colours = visualize.colourise(classes, palette)
    return index, colours, visualize.overlay(image, colours, opacity)
