"""The training loop: `train_and_evaluate(config, workdir)`.

A run is a work directory. The same command on the same directory starts it, resumes it, or says
that it is finished.
"""

import contextlib
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict
from PIL import Image

from pals_jax import config as configs
from pals_jax import data, evaluate, networks, sharding, state, visualize, writers
from pals_jax.checkpoints import Checkpoints, Meta
from pals_jax.errors import ConfigError
from pals_jax.files import replacing
from pals_jax.interrupt import Interrupted, StopSignal, tell
from pals_jax.models import Apply
from pals_jax.objectives import OBJECTIVES, Supervised
from pals_jax.progress import Progress
from pals_jax.run_data import (
    RunData,
    check_evaluated,
    check_iterator,
    check_stream,
    check_streams,
    open_data,
)
from pals_jax.state import TrainState
from pals_jax.step import Batch, check_parts, make_inspection, make_train_step
from pals_jax.workdir import already_finished, check_classes, check_ids, exclusive


class NonFiniteError(RuntimeError):
    """A training step produced NaN or inf; the state was not changed by it."""


def train_and_evaluate(
    config: ConfigDict, workdir: str | Path, run_data: RunData | None = None
) -> dict[str, Any]:
    """Trains to `config.total_steps` and evaluates on `config.eval.split`.

    Args:
      config: see `pals_jax.config.default_config`.
      workdir: where everything is written; an interrupted run there is resumed.
      run_data: batches and examples from elsewhere; by default the configuration's own data set.

    Returns:
      What `result.json` holds, see `pals_jax.evaluate.result`.

    Raises:
      ConfigError: a field is wrong, or differs from the run that `workdir` holds.
      DataError: the data is not what the configuration says.
      CheckpointError: a checkpoint does not fit or could not be written.
      WeightsError: `config.weights` is damaged, or of another network.
      NonFiniteError: a step produced NaN or inf.
      Interrupted: SIGINT or SIGTERM; the state was saved.
    """
    config = configs.resolve(config)
    workdir = Path(workdir).expanduser()
    mesh = sharding.data_mesh(config.num_devices)
    check_parts(config, mesh)
    if run_data is None:
        data.dataset_info(config.data)
    with contextlib.ExitStack() as stack:
        stack.enter_context(exclusive(workdir))
        checkpoints = stack.enter_context(Checkpoints(workdir))
        saved_config = workdir / "config.json"
        if checkpoints.latest is not None:
            saved = configs.load(saved_config)
            configs.check_same_training(saved, config, workdir)
            if checkpoints.latest == config.total_steps and (workdir / "result.json").exists():
                return already_finished(workdir, configs.changes(saved, config))
        elif config.weights:
            networks.check_weights(config)  # preparing data may take an hour
        if run_data is None:
            run_data = open_data(config)
            stack.callback(run_data.close)
        check_iterator(run_data.batches)
        _check_reported(config, run_data)
        check_evaluated(run_data, config.eval.split)
        if checkpoints.latest is not None:
            check_classes(checkpoints.meta(checkpoints.latest), run_data.dataset)
        check_ids(run_data, workdir, resuming=checkpoints.latest is not None)
        run = _Run(config, workdir, run_data, checkpoints, mesh)
        configs.save(config, saved_config)
        run.train()
        return run.report()


def _check_reported(config: ConfigDict, run_data: RunData) -> None:
    """Refuses to train towards a checkpoint that there will not be."""
    which = config.eval.checkpoint
    if which == "best" and not len(run_data.dev):
        raise ConfigError(
            'config.eval.checkpoint is "best", but config.data.dev, to choose on, is empty'
        )
    if which.isdecimal() and int(which) != config.total_steps:
        raise ConfigError(
            f"config.eval.checkpoint is {which}, but training keeps only the latest, which will be "
            f"{config.total_steps}, and the best: use latest or best"
        )


def _steps_per_epoch(config: ConfigDict, objective: Supervised, run_data: RunData) -> int:
    """How many batches make an epoch: as many as the images fill, at least one."""
    if not len(run_data.ids) and objective.has_epochs and not config.steps_per_epoch:
        raise ConfigError(
            f"target {config.target.name!r} needs to know when an epoch ends: run_data.ids is "
            "empty, so set config.steps_per_epoch"
        )
    return config.steps_per_epoch or max(1, len(run_data.ids) // config.batch_size)


class _Run:
    """One run in one process: networks, state and the loop over them."""

    def __init__(
        self,
        config: ConfigDict,
        workdir: Path,
        run_data: RunData,
        checkpoints: Checkpoints,
        mesh: Mesh,
    ):
        dataset = run_data.dataset
        self.config, self.workdir, self.data = config, workdir, run_data
        self.checkpoints, self.mesh = checkpoints, mesh
        self.meta = Meta(
            config.model.to_dict(),
            dataset.name,
            dataset.classes,
            dataset.palette,
            dataset.ignore,
            config.data.downsample,
        )
        self.objective: Supervised = OBJECTIVES[config.objective].create(
            config, len(dataset.classes), dataset.ignore
        )
        self.apply: dict[str, Apply] = {}
        initial = {}
        for name in self.objective.networks:
            self.apply[name], initial[name] = networks.create(
                config.model, len(dataset.classes), config.seed
            )
            if config.weights and checkpoints.latest is None:
                initial[name] = networks.with_weights(initial[name], config)
        optimizer, self.train_step = make_train_step(
            config,
            self.objective,
            self.apply,
            mesh,
            _steps_per_epoch(config, self.objective, run_data),
        )
        self.inspect = make_inspection(config, self.objective, self.apply)
        fresh = state.create(
            initial,
            optimizer,
            self.objective.init(),
            average=config.ema_decay > 0,
            previous=self.objective.needs_previous,
        )
        self.state: TrainState = self._resume(fresh)
        self.step = int(self.state.step)
        if self.step < config.total_steps:
            checkpoints.check_room(self.state)

    def _resume(self, fresh: TrainState) -> TrainState:
        latest = self.checkpoints.latest
        writers.drop_after(self.workdir, latest or 0)
        if latest is None:
            return jax.device_put(fresh, sharding.replicated(self.mesh))
        restored, position = self.checkpoints.restore(latest, fresh, self.mesh)
        if latest < self.config.total_steps:
            if hasattr(self.data.batches, "set_state"):
                self.data.batches.set_state(position)
            else:
                for _ in range(latest):
                    next(self.data.batches, None)
        print(f"resuming {self.workdir} at step {latest} of {self.config.total_steps}", flush=True)
        return restored

    def train(self) -> None:
        """Runs the remaining steps, each: step, log, evaluate on dev, save, picture."""
        config, total = self.config, self.config.total_steps
        first, progress = self.step + 1, Progress(self.step, total)
        pending: list[tuple[list[str], dict[str, jax.Array]]] = []
        if first <= total:
            print(
                f"training {config.model.name} with {config.target.name} on "
                f"{len(self.data.ids) or 'batches of'} images, devices: {self.mesh.size} × "
                f"{self.mesh.devices.flat[0].device_kind}; the first step compiles",
                flush=True,
            )
        with StopSignal() as stop, writers.Writer(self.workdir) as writer:
            while self.step < total:
                try:
                    streams = next(self.data.batches, None)
                except Exception:
                    # A SIGTERM to the whole group of processes also ends those that load.
                    if stop.signum is None:
                        raise
                    self._collect(pending)
                    self._save(None)
                    raise self._stopped(stop.signum) from None
                if streams is None:
                    self._collect(pending)
                    self._save(None)
                    raise data.DataError(
                        f"the batches ended after step {self.step} of {total}, which was saved; "
                        "they must be endless"
                    )
                batch, ids = self._on_devices(streams)
                self.state, metrics = self.train_step(self.state, batch)
                self.step += 1
                pending.append((ids, metrics))
                if self.step == first:
                    # Compilation is over with the first step; it would spoil the rate and the ETA.
                    jax.block_until_ready(metrics)
                    progress.start(self.step)
                last, stopping = self.step == total, stop.signum is not None
                log = last or self.step % config.log.every == 0
                choose = len(self.data.dev) > 0 and (last or self.step % config.eval.every == 0)
                save = last or stopping or choose or self.step % config.checkpoint.every == 0
                draw = config.log.panels_every and (
                    last or self.step % config.log.panels_every == 0
                )
                if log or save or draw:
                    scalars = self._collect(pending)
                    pending = []
                if log:
                    rate = progress.advance(self.step)
                    writer.scalars(self.step, scalars | {"steps_per_second": rate})
                    tell(
                        f"step {self.step}/{total}  loss {scalars['loss']:.4f}  "
                        f"{progress.describe(self.step, rate)}"
                    )
                # Also when stopping: else a resumed run might keep another best than one that
                # was not stopped.
                dev_mean_iou = self._choose(writer) if choose else None
                if save:
                    self._save(dev_mean_iou)
                if draw:
                    self._draw(batch, writer)
                if log or save or draw:
                    progress.start(self.step)
                if save and stop.signum is not None:
                    raise self._stopped(stop.signum)
        if stop.signum is not None:  # where no step was left, or behind the last
            raise self._stopped(stop.signum)

    def report(self) -> dict[str, Any]:
        """Evaluates the checkpoint that `config.eval.checkpoint` names and writes the result."""
        config = self.config
        step = self.checkpoints.find(config.eval.checkpoint)
        evaluate.announce(step, self.data.evaluation, config.eval.split)
        _, network, meta = networks.restore(self.checkpoints, step, self.mesh)
        apply = self.apply["student"]  # compiled already if there is a dev part
        evaluation = evaluate.evaluate_network(
            apply, network, self.data.evaluation, meta, config.eval, self.mesh
        )
        result = evaluate.result(evaluation, meta, config, step)
        result |= {
            "train_images": len(self.data.ids),
            "train_ids_hash": data.ids_hash(self.data.ids),
            "train_data_hash": self.data.data_hash,
        }
        evaluate.write(result, evaluation, self.workdir)
        print(evaluate.table(result))
        files = ("result.json", "per_image.jsonl", "metrics.jsonl")
        written = (*files, "panels", "tensorboard", "checkpoints")
        print(
            "wrote "
            + ", ".join(str(self.workdir / n) for n in written if (self.workdir / n).exists())
        )
        print(
            f"next: {sys.executable} -m pals_jax.main --mode=predict --workdir={self.workdir} "
            "--config.predict.images=FOLDER_OF_PHOTOS"
        )
        return result

    def _on_devices(self, streams: Batch) -> tuple[Batch, list[str]]:
        """A checked batch on the devices as [parts, batch / parts, ...], and its ids."""
        dataset = self.data.dataset
        check_streams(f"batch {self.step + 1}", streams)
        ids = [str(name) for stream in streams.values() for name in stream.get("id", ())]
        for name, stream in streams.items():
            where = f"batch {self.step + 1}, {name}"
            check_stream(where, stream, dataset.num_classes, dataset.ignore)
        parts = self.config.accumulation

        def in_parts(array: np.ndarray) -> np.ndarray:
            if len(array) != self.config.batch_size:
                raise data.DataError(
                    f"the data gave a batch of {len(array)} images, config.batch_size is "
                    f"{self.config.batch_size}"
                )
            return array.reshape(parts, -1, *array.shape[1:])

        arrays = {
            name: {key: in_parts(np.asarray(value)) for key, value in stream.items() if key != "id"}
            for name, stream in streams.items()
        }
        return sharding.shard_batch(arrays, self.mesh, axis=1), ids

    def _stopped(self, signum: int) -> Interrupted:
        return Interrupted(
            signum,
            f"stopped and saved at step {self.step}; the same command resumes {self.workdir}",
        )

    def _save(self, dev_mean_iou: float | None) -> None:
        batches = self.data.batches
        position = batches.get_state() if hasattr(batches, "get_state") else {}
        self.checkpoints.save(self.state, position, self.meta, dev_mean_iou)

    def _collect(self, pending: list[tuple[list[str], dict[str, jax.Array]]]) -> dict[str, float]:
        """Means over the pending steps, nothing without any.

        Raises:
          NonFiniteError: naming the images of the first step that was not finite.
        """
        steps = [(ids, jax.device_get(metrics)) for ids, metrics in pending]
        for number, (ids, metrics) in enumerate(steps, self.step - len(steps) + 1):
            if not metrics["finite"]:
                shown = ", ".join(
                    f"{name} {value:.4g}" for name, value in metrics.items() if name != "finite"
                )
                if np.isfinite(list(metrics.values())).all():
                    shown += "; BatchNorm's statistics or the target's state are not finite"
                latest = self.checkpoints.latest
                saved = f"the last good checkpoint is step {latest} in {self.checkpoints.folder}"
                raise NonFiniteError(
                    f"step {number} gave NaN or inf ({shown}); its images: "
                    f"{', '.join(ids) or 'without ids'}.\nIt changed nothing; "
                    f"{'no checkpoint was written yet' if latest is None else saved}. Check these "
                    "images for NaN; else train with a lower config.optimizer.learning_rate in "
                    "another --workdir."
                )
        return {
            name: float(np.mean([metrics[name] for _, metrics in steps]))
            for name in (steps[0][1] if steps else ())
            if name != "finite"
        }

    def _draw(self, batch: Batch, writer: writers.Writer) -> None:
        """Writes a picture of a batch's first part and the diagnostics of the target on it."""
        part = jax.tree.map(lambda array: array[0], batch)
        soft, probs, diagnostics = jax.device_get(self.inspect(self.state, part))
        writer.scalars(self.step, {f"target/{name}": value for name, value in diagnostics.items()})
        shown = slice(self.config.log.panels)
        picture = visualize.training_panel(
            np.asarray(part["labeled"]["image"][shown]),
            np.asarray(part["labeled"]["label"][shown]),
            probs[shown].argmax(-1),
            # Of a pixel that is labelled in part, the label as such.
            (soft.probs / np.maximum(soft.mass, 1e-12)[..., None])[shown],
            self.meta.classes,
            self.meta.palette,
            self.meta.downsample,
        )
        writer.images(self.step, {"training": picture})
        path = self.workdir / writers.PANELS / f"step_{self.step:06d}.png"
        path.parent.mkdir(exist_ok=True)
        with replacing(path) as written:
            Image.fromarray(picture).save(written)

    def _choose(self, writer: writers.Writer) -> float:
        """mIoU on dev."""
        evaluation = evaluate.evaluate_network(
            self.apply["student"],
            self.state.evaluated()["student"],
            self.data.dev,
            self.meta,
            self.config.eval,
            self.mesh,
        )
        score = evaluation.mean_iou
        writer.scalars(self.step, {"dev/mean_iou": score})
        tell(f"step {self.step}: mIoU on dev {100 * score:.1f} %")
        return score
