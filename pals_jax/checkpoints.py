"""Checkpoints through Orbax: the latest one, and beside it the best on the dev split.

A checkpoint holds five items: "networks" (what evaluation needs), "training" (optimiser and
target), "iterator" (the position in the data), "meta" (what the network is: model configuration,
class names, palette, normalisation, down-sampling) and "checksums" (CRC-32 of each of these).
"""

import dataclasses
import json
import math
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import Mesh
from orbax.checkpoint import checkpoint_managers

from pals_jax import orbax_errors, orbax_save, sharding
from pals_jax.orbax_errors import OrbaxError
from pals_jax.state import Network, TrainState

METRIC = "dev_mean_iou"


class CheckpointError(RuntimeError):
    """A checkpoint is missing, does not fit the network, or could not be written."""


@dataclasses.dataclass(frozen=True)
class Meta:
    """What a stored network is, so that evaluation and prediction need nothing but the work
    directory.

    Attributes:
      model: `config.model`, the input normalisation included.
      dataset: name of the data set.
      classes: K names.
      palette: K colours (r, g, b) in 0..255.
      ignore: index of pixels without a label.
      downsample: factor by which images were down-sampled; checkpoints of older versions have none.
    """

    model: dict[str, Any]
    dataset: str
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    ignore: int
    downsample: int = 1

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "Meta":
        """Rebuilds what `dataclasses.asdict` gave from JSON, where tuples are lists."""
        colours = tuple((r, g, b) for r, g, b in fields["palette"])
        return cls(**{**fields, "classes": tuple(fields["classes"]), "palette": colours})


class Checkpoints:
    """The checkpoints of one work directory. Use it as a context manager.

    Saving is synchronous: when `save` returns, the checkpoint is complete on disk, and only then
    are superseded ones deleted. An interrupted or failed save leaves the earlier ones untouched.
    """

    def __init__(self, workdir: Path, *, read_only: bool = False):
        """Opens `workdir/checkpoints`.

        Args:
          workdir: of a run.
          read_only: touch nothing, so that a run may go on writing there. Otherwise the folder is
            made, and what an interrupted save left there is removed.

        Raises:
          CheckpointError: the folder cannot be read, or the metrics of a checkpoint are damaged.
        """
        self.folder = workdir.absolute() / "checkpoints"  # Orbax refuses relative paths
        keep = checkpoint_managers.AnyPreservationPolicy(
            [
                checkpoint_managers.LatestN(1),
                checkpoint_managers.BestN(
                    get_metric_fn=_score, n=1, keep_checkpoints_without_metrics=False
                ),
            ]
        )
        options = ocp.CheckpointManagerOptions(
            preservation_policy=keep,
            best_fn=_score,  # without it, Orbax neither writes nor reads metrics
            enable_async_checkpointing=False,
            read_only=read_only,
        )
        if not read_only:
            self.folder.mkdir(parents=True, exist_ok=True)
            orbax_save.remove_unfinished(self.folder)
        arrays, values = ocp.StandardCheckpointHandler, ocp.JsonCheckpointHandler
        handlers = {
            "networks": arrays(),
            "training": arrays(),
            "iterator": values(),
            "meta": values(),
            "checksums": values(),
        }
        try:
            self._manager = orbax_errors.run(
                lambda: ocp.CheckpointManager(
                    self.folder, options=options, item_names=tuple(handlers), item_handlers=handlers
                )
            )
        except OrbaxError as error:
            damaged = self._damaged_metrics()
            hint = f"\n{damaged} is damaged: remove {damaged.parents[1]}." if damaged else ""
            raise CheckpointError(f"could not open {self.folder}: {error}{hint}") from None

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *exception) -> None:
        self._manager.close()

    @property
    def latest(self) -> int | None:
        """Step of the newest checkpoint."""
        return self._manager.latest_step()

    @property
    def best(self) -> int | None:
        """Step of the checkpoint with the highest mIoU on dev; None if none was evaluated there."""
        steps = self._manager.all_steps()
        scores = {step: _score(self._manager.metrics(step)) for step in steps}
        best = max(scores, key=scores.__getitem__, default=None)
        return None if best is None or scores[best] == -math.inf else best

    def find(self, which: str) -> int:
        """The step that "latest", "best" or a number names.

        Raises:
          CheckpointError: there is none; tells which there are.
        """
        steps = sorted(self._manager.all_steps())
        step = {"latest": self.latest, "best": self.best}.get(which, which)
        if which == "best" and step is None and steps:
            raise CheckpointError(
                f"{self.folder} has no best checkpoint: the run had no dev split "
                f"(config.data.dev); there are steps {steps}"
            )
        if step is None or int(step) not in steps:
            raise CheckpointError(
                f"{self.folder} has no checkpoint {which!r}; there are steps {steps}"
            )
        return int(step)

    def save(
        self, state: TrainState, iterator: dict[str, Any], meta: Meta, dev_mean_iou: float | None
    ) -> None:
        """Writes a checkpoint of `state`, unless its step is there already.

        Args:
          state: of finite values.
          iterator: position in the data as JSON values.
          meta: what the student network is.
          dev_mean_iou: mIoU on dev at this step, if it was measured.

        Raises:
          CheckpointError: writing failed, say on a full disk; the earlier checkpoints are intact.
        """
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        networks = {"networks": state.networks, "ema": state.ema}
        training = _training(state)
        described = dataclasses.asdict(meta)
        self.check_room(state)
        checksums = {
            "networks": _checksum_of_arrays(networks),
            "training": _checksum_of_arrays(training),
            "iterator": _checksum_of_json(iterator),
            "meta": _checksum_of_json(described),
        }
        items = ocp.args.Composite(
            networks=ocp.args.StandardSave(networks),
            training=ocp.args.StandardSave(training),
            iterator=ocp.args.JsonSave(iterator),
            meta=ocp.args.JsonSave(described),
            checksums=ocp.args.JsonSave(checksums),
        )
        try:
            orbax_save.save(self._manager, self.folder, step, items, {METRIC: dev_mean_iou})
        except OrbaxError as error:
            free = shutil.disk_usage(self.folder).free / 2**20
            raise CheckpointError(
                f"could not write checkpoint {step} to {self.folder} ({free:.1f} MiB free now): "
                f"{error}\n{self._last_good(step)} Mend this, such as a full disk or quota, and "
                "run the same command again."
            ) from None

    def check_room(self, state: TrainState) -> None:
        """Looks whether the disk takes a checkpoint of `state`.

        Raises:
          CheckpointError: it does not.
        """
        # A little more than the arrays, for what Orbax writes about them.
        size = 2**20 + sum(leaf.nbytes for leaf in jax.tree.leaves(state))
        free = shutil.disk_usage(self.folder).free
        if size > free:
            raise CheckpointError(
                f"no room for a checkpoint in {self.folder}: it takes {size / 2**20:.1f} MiB, "
                f"{free / 2**20:.1f} MiB are free.\n{self._last_good()} Make room and run the same "
                "command again."
            )

    def _last_good(self, failed: int | None = None) -> str:
        good = [step for step in self._manager.all_steps() if step != failed]
        return f"The last good one is step {max(good)}." if good else "There is no earlier one."

    def meta(self, step: int) -> Meta:
        """What the network of a checkpoint is."""
        found = self._restore(step, meta=ocp.args.JsonRestore())["meta"]
        return self._read(step, "meta", lambda: Meta.from_json(found))

    def restore(self, step: int, like: TrainState, mesh: Mesh) -> tuple[TrainState, dict[str, Any]]:
        """The whole state, replicated over the mesh, and the position in the data.

        Args:
          step: of a checkpoint.
          like: a state of the expected shapes; abstract values do.
          mesh: where to put it.

        Raises:
          CheckpointError: the checkpoint holds other arrays than `like`.
        """
        self._check_fits(step, "networks", {"networks": like.networks, "ema": like.ema})
        networks = _abstract({"networks": like.networks, "ema": like.ema}, mesh)
        training = _abstract(_training(like), mesh)
        items = self._restore(
            step,
            networks=ocp.args.StandardRestore(networks),
            training=ocp.args.StandardRestore(training),
            iterator=ocp.args.JsonRestore(),
        )
        return TrainState(**items["networks"], **items["training"]), items["iterator"]

    def restore_networks(
        self, step: int, like: dict[str, Network], mesh: Mesh
    ) -> dict[str, Network]:
        """The networks to evaluate, averaged ones if the run kept averages.

        Args:
          step: of a checkpoint.
          like: networks of the expected shapes, by name.
          mesh: where to put them.

        Raises:
          CheckpointError: the checkpoint holds other arrays than `like`.
        """
        averaged = bool(self._arrays(step, "networks").get("ema"))
        tree = {"networks": like, "ema": like if averaged else {}}
        self._check_fits(step, "networks", tree)
        items = self._restore(step, networks=ocp.args.StandardRestore(_abstract(tree, mesh)))
        return items["networks"]["ema"] if averaged else items["networks"]["networks"]

    def _restore(self, step: int, **items) -> Any:
        checked = {}
        if (self.folder / str(step) / "checksums").exists():  # older ones have none
            checked, items = items, items | {"checksums": ocp.args.JsonRestore()}
        args, names = ocp.args.Composite(**items), " or ".join(items)
        found = self._read(step, names, lambda: self._manager.restore(step, args=args))
        for name, how in checked.items():
            of_json = isinstance(how, ocp.args.JsonRestore)
            checksum = _checksum_of_json if of_json else _checksum_of_arrays
            stored = found["checksums"]
            if not isinstance(stored, dict) or stored.get(name) != checksum(found[name]):
                raise CheckpointError(
                    f"the {name} of checkpoint {step} of {self.folder} do not match their CRC-32.\n"
                    f"{self._without(step)}"
                )
        return found

    def _arrays(self, step: int, item: str) -> Any:
        """The tree of an item's arrays, as metadata."""

        def read() -> Any:
            found = self._manager.item_metadata(step)[item]
            if found is None:
                raise FileNotFoundError(f"{item}/_METADATA is missing")
            return found.tree

        return self._read(step, item, read)

    def _read(self, step: int, what: str, action: Callable[[], Any]) -> Any:
        try:
            return orbax_errors.run(action)
        except OrbaxError as error:
            raise CheckpointError(
                f"could not read {what} of checkpoint {step} of {self.folder}: {error}\n"
                f"{self._without(step)}"
            ) from None

    def _damaged_metrics(self) -> Path | None:
        """The first file of metrics, which Orbax reads all at the start, that is not JSON."""
        for path in sorted(self.folder.glob("*/metrics/metrics")):
            try:
                json.loads(path.read_text())
            except ValueError:
                return path
        return None

    def _without(self, step: int) -> str:
        """What to do about a checkpoint that cannot be used."""
        folder = self.folder / str(step)
        if not folder.is_dir():
            return "A running training may have replaced it: try again."
        others = sorted(set(self._manager.all_steps()) - {step}) or "none"
        return f"If it is damaged, remove {folder}; steps left: {others}."

    def _check_fits(self, step: int, item: str, expected: Any) -> None:
        """Compares by path: Orbax reports only the first difference and casts dtypes silently."""
        stored = _shapes(self._arrays(step, item))
        wanted = _shapes(expected)
        differing = sorted(
            path for path in stored.keys() | wanted.keys() if stored.get(path) != wanted.get(path)
        )
        if differing:
            shown = "\n  ".join(
                f"{path}: checkpoint {stored.get(path, 'nothing')}, network "
                f"{wanted.get(path, 'nothing')}"
                for path in differing[:5]
            )
            raise CheckpointError(
                f"checkpoint {step} of {self.folder} is of another architecture, {len(differing)} "
                f"arrays differ:\n  {shown}"
            )


def _score(metrics: Any) -> float:
    """What "best" compares: mIoU on dev, -inf where it was not measured or has no class."""
    value = (metrics or {}).get(METRIC)
    return -math.inf if value is None or math.isnan(value) else value


def _shapes(tree: Any) -> dict[str, str]:
    leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda leaf: hasattr(leaf, "shape"))
    return {
        "/".join(
            str(getattr(key, "key", getattr(key, "name", key))) for key in path
        ): f"{leaf.dtype}{tuple(leaf.shape)}"
        for path, leaf in leaves
    }


def _training(state: TrainState) -> dict[str, Any]:
    """What only training needs of a state."""
    return {
        "step": state.step,
        "optimizer": state.optimizer,
        "previous": state.previous,
        "target": state.target,
    }


def _abstract(tree: Any, mesh: Mesh) -> Any:
    placed = sharding.replicated(mesh)
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=placed), tree
    )


def _checksum_of_arrays(tree: Any) -> int:
    checksum = 0
    for leaf in jax.tree.leaves(jax.device_get(tree)):
        checksum = zlib.crc32(np.asarray(leaf).tobytes(), checksum)
    return checksum


def _checksum_of_json(values: Any) -> int:
    return zlib.crc32(json.dumps(values).encode())  # the same of what was read as of what was saved
