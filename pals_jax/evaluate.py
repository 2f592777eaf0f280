"""Evaluation: every image of a split once, at its own full resolution."""

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Int
from ml_collections import ConfigDict

from pals_jax import config as configs
from pals_jax import data, inference, metrics, networks, sharding
from pals_jax.checkpoints import Meta
from pals_jax.files import write_atomically
from pals_jax.models import Apply
from pals_jax.run_data import check_example, require_labels
from pals_jax.state import Network
from pals_jax.versions import versions
from pals_jax.views import Views


class Evaluation(NamedTuple):
    """The confusion of each image of a split, and sums over all of them.

    Attributes:
      ids: of the images, sorted.
      data_hash: of the split, see `data.Source`; None where it is not known.
      confusions: [N,K,K] int32 in the order of `ids`, rows = truth.
      calibration: of the top-1 probability.
      scores: of the probabilities.
      boundary: at each class's contours.
      trimap: at the contours of the truth.
    """

    ids: list[str]
    data_hash: str | None
    confusions: np.ndarray
    calibration: metrics.Calibration
    scores: metrics.ProperScores
    boundary: metrics.Boundary
    trimap: metrics.Trimap

    @property
    def confusion(self) -> np.ndarray:
        """[K,K] int64 of the whole split."""
        return self.confusions.sum(0, dtype=np.int64)

    @property
    def mean_iou(self) -> float:
        """Mean IoU over the classes that occur."""
        return metrics.mean_iou(self.confusion)


def evaluate_network(
    apply: Apply,
    network: Network,
    examples: data.Examples,
    meta: Meta,
    config: ConfigDict,
    mesh: Mesh,
) -> Evaluation:
    """Evaluates one network on {"image", "label", "id"} examples.

    Args:
      apply: its pure function.
      network: parameters and statistics, replicated over the mesh.
      examples: random access; may have `sizes`, a (height, width) each, to save decoding them
          twice, and a `data_hash`.
      meta: classes and normalisation.
      config: `config.eval`.
      mesh: each batch is split over it.

    Raises:
      DataError: an example has a type, shape or value that does not fit.
    """
    num_classes, ignore = len(meta.classes), meta.ignore
    mean, std = tuple(meta.model["mean"]), tuple(meta.model["std"])
    views = Views.of_config(config)
    count = _counter(apply, num_classes, ignore, mean, std, meta.downsample, views)
    shapes, rows = inference.plan(inference.sizes_of(examples), num_classes, config, mesh)
    checked = (
        check_example(config.split, example, num_classes, ignore)
        for example in data.read_ahead(examples)
    )
    ids: list[str] = []
    confusions = [np.zeros((0, num_classes, num_classes), np.int32)]
    calibration, scores = metrics.Calibration.empty(), metrics.ProperScores.empty()
    boundary, trimap = metrics.Boundary.empty(num_classes), metrics.Trimap.empty(num_classes)
    batches = inference.padded_batches(checked, shapes, rows, ignore)
    for batch in inference.told(batches, len(examples), "evaluated"):
        image, valid, label = sharding.shard_batch((batch.image, batch.valid, batch.label), mesh)
        counts = count(network, image, valid, label)
        ids += batch.ids
        confusions.append(np.asarray(counts.confusions)[: len(batch.ids)])
        calibration = calibration.merge(counts.calibration)
        scores = scores.merge(counts.scores)
        boundary = boundary.merge(counts.boundary)
        trimap = trimap.merge(counts.trimap)
    in_order = np.concatenate(confusions)[np.argsort(ids)]
    data_hash = getattr(examples, "data_hash", None)
    return Evaluation(sorted(ids), data_hash, in_order, calibration, scores, boundary, trimap)


class _Counts(NamedTuple):
    """An `Evaluation` of one batch, on the device; its last images may be filler, without an id."""

    confusions: Int[Array, "b k k"]
    calibration: metrics.Calibration
    scores: metrics.ProperScores
    boundary: metrics.Boundary
    trimap: metrics.Trimap


@functools.lru_cache(maxsize=4)
def _counter(
    apply: Apply,
    num_classes: int,
    ignore: int,
    mean: tuple,
    std: tuple,
    downsample: int,
    views: Views,
):
    """The jitted count of one batch, kept so that the evaluations of a run compile it once."""

    @jax.jit
    def count(network: Network, image, valid, label) -> _Counts:
        probs = inference.probabilities(apply, network, image, valid, mean, std, downsample, views)
        predictions = jnp.argmax(probs, axis=-1)
        return _Counts(
            jax.vmap(lambda y, p: metrics.confusion_matrix(y, p, num_classes, ignore))(
                label, predictions
            ),
            metrics.Calibration.of_batch(probs, label, ignore),
            metrics.ProperScores.of_batch(probs, label, ignore),
            metrics.Boundary.of_batch(label, predictions, num_classes, ignore, valid),
            metrics.Trimap.of_batch(label, predictions, num_classes, ignore, valid),
        )

    return count


def open_examples(config: ConfigDict, meta: Meta) -> data.Source:
    """Opens `config.eval.split` of the data set that the configuration names.

    Raises:
      DataError: see `data.open_evaluation`; or its classes are not those of the network.
    """
    dataset = data.dataset_info(config.data)
    for field, found, known in (
        ("classes", dataset.classes, meta.classes),
        ("ignore", dataset.ignore, meta.ignore),
    ):
        if found != known:
            raise data.DataError(
                f"config.data.{field} of {dataset.name!r} is {found}, but the network was trained "
                f"on {meta.dataset!r} with {known}: choose the data with config.data"
            )
    return data.open_evaluation(config.data, config.eval.split)


def evaluate(config: ConfigDict, workdir: str | Path) -> dict[str, Any]:
    """Evaluates a checkpoint of a work directory on `config.eval.split` and writes the result
    beside it.

    Args:
      config: resolved; says where the data is and what to evaluate. What the network is comes from
          the checkpoint.
      workdir: of a training run.

    Returns:
      See `result`; with "data_root", the folder of the images.

    Raises:
      CheckpointError: there is no such checkpoint, or it cannot be read.
      DataError: the data is not what the configuration says, has no labels, or was trained on under
        the name of another split.
    """
    mesh = sharding.data_mesh(config.num_devices)
    workdir = Path(workdir).expanduser()
    step, apply, network, meta = networks.restore_chosen(config, workdir, mesh)
    examples = open_examples(config, meta)
    _check_unseen(examples.ids, config, workdir)
    announce(step, examples, config.eval.split)
    require_labels(f"config.eval.split = {config.eval.split!r}", examples, meta.ignore)
    evaluation = evaluate_network(apply, network, examples, meta, config.eval, mesh)
    found = result(evaluation, meta, config, step) | {"data_root": config.data.root}
    views = Views.of_config(config.eval)
    parts = (
        config.eval.split,
        str(step),
        other_data(config, examples, workdir),
        views.name,
    )
    try:
        written = write(found, evaluation, workdir, suffix="_".join(("", *filter(None, parts))))
    finally:
        print(table(found))  # also where the disk is full
    print("wrote " + ", ".join(map(str, written)))
    return found


def announce(step: int, examples: data.Examples, split: str) -> None:
    """Tells what begins, before minutes without a line."""
    print(
        f"evaluating checkpoint {step} on {len(examples)} images of {split}; the first of each "
        "size compiles",
        flush=True,
    )


def other_data(config: ConfigDict, examples: data.Source, workdir: Path) -> str:
    """What to call data in the name of what is written about them; "" for those of the training.

    Args:
      config: resolved; says where the data are.
      examples: of `config.eval.split`.
      workdir: of the training.
    """
    saved, asked = workdir / "config.json", config.data
    if not saved.exists():
        return ""
    trained = configs.load(saved).data
    fields = ["name", "root", "images", "masks", "palette_masks"]
    if config.eval.split == data.DEV:  # what is held out for it
        fields += ["dev", "subset", "subset_seed", "train_split"]
    if all(trained[field] == asked[field] for field in fields):
        return ""
    folder = Path(asked.root).expanduser().resolve().name if asked.root else asked.name
    told = examples.data_hash
    if config.eval.split == data.DEV:  # the hash is that of the split of which it is a part
        told = data.ids_hash([told, *examples.ids])
    return f"{folder}-{told[:6]}"  # folders of one name may hold other images


def _check_unseen(ids: Sequence[str], config: ConfigDict, workdir: Path) -> None:
    """Refuses another split than that of the training whose images were trained on all the same,
    or, for the best checkpoint, chosen on.
    """
    if not (workdir / "config.json").exists():  # a checkpoint is enough to evaluate
        return
    trained = configs.load(workdir / "config.json").data
    asked, split = config.data, config.eval.split
    if split == trained.train_split:  # said by its name
        return
    places = data.places(asked, asked.train_split if split == data.DEV else split, ids)
    used = {"ids.txt": "trained on"}
    if config.eval.checkpoint == "best" and split != data.DEV:
        used["dev_ids.txt"] = "held out to choose the checkpoint on"
    for listed, how in ((workdir / file, how) for file, how in used.items()):
        if not listed.exists():
            continue
        known = data.places(trained, trained.train_split, listed.read_text().split("\n"))
        if seen := data.shared(places, known):
            raise data.DataError(
                f"config.eval.split = {split!r}: {len(seen)} of its {len(ids)} images were {how}, "
                f"as {seen[0]!r}: see {listed}. Evaluate on others, or, with "
                f"--config.eval.split={trained.train_split}, on the training split as such."
            )


def write(
    found: dict[str, Any], evaluation: Evaluation, workdir: Path, suffix: str = ""
) -> tuple[Path, Path]:
    """Writes a result to result{suffix}.json and, before it, so that it implies them, the
    `metrics.areas` of the images to per_image{suffix}.jsonl: {"id", "areas"} a line, sorted by id.

    Args:
      found: see `result`.
      evaluation: that it is of.
      workdir: where to.
      suffix: of both names.

    Returns:
      The paths of both.
    """
    pairs = zip(evaluation.ids, metrics.areas(evaluation.confusions).tolist(), strict=True)
    lines = [json.dumps({"id": name, "areas": areas}) + "\n" for name, areas in pairs]
    path, per_image = workdir / f"result{suffix}.json", workdir / f"per_image{suffix}.jsonl"
    write_atomically(per_image, "".join(lines))
    write_atomically(path, json.dumps(found, indent=2) + "\n")
    return path, per_image


def result(evaluation: Evaluation, meta: Meta, config: ConfigDict, step: int) -> dict[str, Any]:
    """What a result file says, as JSON values; a class that does not occur has IoU null, and what
    nothing was counted for is null.

    Args:
      evaluation: sums over the split.
      meta: of the network.
      config: resolved.
      step: of the checkpoint.
    """
    calibration, scores = evaluation.calibration.result(), evaluation.scores.result()
    boundary, trimap = evaluation.boundary.result(), evaluation.trimap.result()

    def by_class(values: np.ndarray) -> dict[str, float | None]:
        return dict(zip(meta.classes, map(_or_none, values), strict=True))

    return {
        "mean_iou": _or_none(evaluation.mean_iou),
        "iou": by_class(metrics.iou(evaluation.confusion)),
        "pixel_accuracy": _or_none(metrics.pixel_accuracy(evaluation.confusion)),
        "ece": _or_none(calibration["ece"]),
        "nll": _or_none(scores["nll"]),
        "brier": _or_none(scores["brier"]),
        "mean_boundary_iou": _or_none(boundary["mean_iou"]),
        "boundary_iou": by_class(boundary["iou"]),
        "trimap": {width: _or_none(value) for width, value in trimap.items()},
        "split": config.eval.split,
        "images": len(evaluation.ids),
        "ids_hash": data.ids_hash(evaluation.ids),
        "data_hash": evaluation.data_hash,
        "views": {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in Views.of_config(config.eval)._asdict().items()
        },
        "checkpoint_step": step,
        "seed": config.seed,
        "confusion": evaluation.confusion.tolist(),
        "calibration": {name: calibration[name] for name in ("accuracy", "confidence", "count")},
        "versions": versions(),
    }


def _or_none(value: float) -> float | None:
    """NaN, which JSON lacks, as null."""
    return None if np.isnan(value) else float(value)


def table(found: dict[str, Any]) -> str:
    """A result as text: IoU per class, its share of the true pixels and its boundary IoU, then the
    totals. What the results of earlier versions lack is n/a.
    """
    width = max(len("class"), *(len(name) for name in found["iou"]))
    pixels = np.sum(found["confusion"], axis=1)
    shares = 100 * pixels / max(pixels.sum(), 1)
    boundary = found.get("boundary_iou", {})
    views = Views.of_result(found.get("views", {})).name
    lines = [
        f"{found['split']}: {found['images']} images at full resolution, "
        f"checkpoint {found['checkpoint_step']}" + f", {views}" * bool(views),
        f"{'class':<{width}}  IoU %  pixels %  boundary IoU %",
    ]
    for (name, value), share in zip(found["iou"].items(), shares, strict=True):
        at_boundary = _percent(boundary.get(name))
        lines.append(f"{name:<{width}}  {_percent(value):>5}  {share:8.2f}  {at_boundary:>14}")
    mean_boundary = _percent(found.get("mean_boundary_iou"))
    lines += [
        f"{'mIoU':<{width}}  {_percent(found['mean_iou']):>5}  {'':8}  {mean_boundary:>14}",
        f"pixel accuracy {_percent(found['pixel_accuracy'])} %, ECE {_percent(found['ece'])} %, "
        f"NLL {_score(found.get('nll'))}, Brier {_score(found.get('brier'))}",
    ]
    return "\n".join(lines)


def _percent(share: float | None) -> str:
    return "n/a" if share is None else f"{100 * share:.1f}"


def _score(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"
