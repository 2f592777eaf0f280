"""Prediction on a folder: class indices, colours and overlays, sized and turned as the input."""

import collections
import hashlib
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from pals_jax import data, inference, networks, sharding, visualize
from pals_jax.evaluate import open_examples, other_data
from pals_jax.prediction_folder import KINDS, LEGEND, PredictionFolder, check_names, holds_another
from pals_jax.submissions import Submission
from pals_jax.views import Views


class ImageFolder:
    """Random access to the images below a folder as {"image", "id"}.

    The id is the path below the folder without its extension, or with it where two images would
    share one. Files that are no images are told.

    Attributes:
      sizes: (height, width) of each image as it stands upright, from its header.
      unreadable: errors of the images whose header is broken; they are left out.

    Raises:
      DataError: the folder is missing or holds no image.
    """

    def __init__(self, folder: Path):
        folder = folder.expanduser()
        self.paths, others = data.list_images(folder)
        if others:
            shown = ", ".join(_printable(path.relative_to(folder)) for path in others[:5])
            print(f"not images, skipped: {len(others)}, as {shown}")
        names = [path.relative_to(folder) for path in self.paths]
        stems = collections.Counter(name.with_suffix("") for name in names)
        self.ids = [
            str(name if stems[name.with_suffix("")] > 1 else name.with_suffix("")) for name in names
        ]
        if len(set(self.ids)) < len(self.ids):  # x.jpg, x.png and x.jpg.png
            self.ids = [str(name) for name in names]
        self.sizes: list[inference.Size] = []
        self.unreadable: list[data.DataError] = []
        readable = []
        for path, name in zip(self.paths, self.ids, strict=True):
            try:
                self.sizes.append(data.image_size(path))
                readable.append((path, name))
            except data.DataError as error:
                self.unreadable.append(error)
        self.paths = [path for path, _ in readable]
        self.ids = [name for _, name in readable]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"image": data.read_image(self.paths[index]), "id": self.ids[index]}


def predict(config: ConfigDict, workdir: str | Path) -> Path:
    """Predicts every image of a folder, or of the evaluated split where no folder is given.

    Writes OUTPUT/index/ID.png (class indices, single channel), OUTPUT/colour/ID.png,
    OUTPUT/overlay/ID.png and OUTPUT/legend.png, the classes with their colours; if asked for,
    the archive of a submission. OUTPUT/predicted.txt tells what was predicted, of which checkpoint,
    and whether that is unfinished. By default OUTPUT is a folder of the work directory.

    Args:
      config: resolved; `config.predict` says what to predict. What the network is comes from the
          checkpoint.
      workdir: of a training run.

    Returns:
      The folder that was written.

    Raises:
      DataError: images could not be read; they are listed, after all others were predicted. Or two
        images need the same place.
      ConfigError: the output cannot be a folder, or holds what is not of a prediction.
    """
    mesh = sharding.data_mesh(config.num_devices)
    workdir = Path(workdir).expanduser()
    step, apply, network, meta = networks.restore_chosen(config, workdir, mesh)
    views = Views.of_config(config.eval)
    unreadable: list[data.DataError] = []
    examples: data.Examples
    if config.predict.images:
        images = Path(config.predict.images).expanduser().resolve()
        predicted = _printable(images)
        output = _output(config, workdir, images.name, predicted)
        if output.resolve().is_relative_to(images):
            raise data.DataError(
                f"config.predict.output {output} lies in config.predict.images {images}: the next "
                "prediction would take it for input; choose another folder"
            )
        if images.is_relative_to(output.resolve()):
            raise data.DataError(
                f"config.predict.images {images} lies in config.predict.output {output}, whose "
                "pictures might replace it; choose another folder"
            )
        examples = found = ImageFolder(Path(config.predict.images))
        unreadable += found.unreadable
    else:
        examples = source = open_examples(config, meta)
        name = "_".join(filter(None, (config.eval.split, other_data(config, source, workdir))))
        predicted = f"split {name}"
        output = _output(config, workdir, name, predicted)
    check_names(examples.ids)
    submission = None
    if config.predict.submission:
        submission = Submission(config.predict.submission, output, meta.classes)
        submission.check(examples.ids)
    folder = PredictionFolder(output, predicted, step)

    @jax.jit
    def classify(network, image, valid):
        probs = inference.probabilities(
            apply,
            network,
            image,
            valid,
            meta.model["mean"],
            meta.model["std"],
            meta.downsample,
            views,
        )
        return jnp.argmax(probs, axis=-1)

    sizes = inference.sizes_of(examples)
    shapes, rows = inference.plan(sizes, len(meta.classes), config.eval, mesh)
    stream = data.read_ahead(examples, unreadable)
    print(f"predicting {len(examples)} images; the first of each size compiles", flush=True)
    folder.save(Image.fromarray(visualize.legend(meta.classes, meta.palette)), LEGEND)
    written = 0
    batches = inference.padded_batches(stream, shapes, rows, meta.ignore)
    for batch in inference.told(batches, len(examples), "predicted"):
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
                folder.save(Image.fromarray(picture), f"{kind}/{name}.png")
            if submission is not None:
                submission.add(name, classes[i, :height, :width])
        written += len(batch.ids)
    if written:
        print("wrote " + ", ".join(_printable(output / name) for name in (*KINDS, LEGEND)))
    if submission is not None and written:
        folder.earlier -= submission.close()
        print(f"wrote {_printable(submission.archive)}")
    folder.finish()
    if folder.replaced:
        print(f"replaced {folder.replaced} pictures that lay there")
    if folder.earlier:
        print(
            f"beside them lie {len(folder.earlier)} files of earlier predictions, as "
            f"{_printable(min(folder.earlier))}: remove them if they are not wanted"
        )
    if unreadable:
        raise data.DataError(
            f"{written} images were predicted, {len(unreadable)} could not be:\n  "
            + "\n  ".join(map(str, unreadable))
        )
    return output


def _output(config: ConfigDict, workdir: Path, name: str, predicted: str) -> Path:
    """Where predictions go: as asked, or to a folder that is named after what is predicted; to
    another where one of that name holds predictions of something else.
    """
    if config.predict.output:
        return Path(config.predict.output).expanduser()
    name = "_".join(filter(None, (name, Views.of_config(config.eval).name)))
    output = workdir / "predictions" / name
    if holds_another(output, predicted):
        output = output.with_name(f"{name}-{hashlib.sha256(predicted.encode()).hexdigest()[:6]}")
    return output


def _pictures(
    image: np.ndarray, classes: np.ndarray, palette: visualize.Palette, opacity: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One picture per kind of KINDS; indices above 255 need 16 bits."""
    index = classes.astype(np.uint8 if len(palette) <= 256 else np.uint16)
    colours = visualize.colourise(classes, palette)
    return index, colours, visualize.overlay(image, colours, opacity)


def _printable(path: Path) -> str:
    """On one line; a name that is not UTF-8 has its bytes escaped, which print would refuse."""
    return os.fsencode(path).decode(errors="backslashreplace").replace("\n", "\\n")
