"""The loop as a whole: resuming, stopping, refusing, failing."""

import itertools
import json
import os
import resource
import shutil
import signal

import jax
import numpy as np
import pytest
from PIL import Image
from toy import CLASSES, draw_batch, draw_example

from pals_jax import config as configs
from pals_jax import data, networks, sharding, writers
from pals_jax.checkpoints import CheckpointError, Checkpoints
from pals_jax.errors import ConfigError
from pals_jax.interrupt import Interrupted
from pals_jax.run_data import open_data
from pals_jax.train import NonFiniteError, train_and_evaluate


def stored_networks(workdir, which="latest"):
    with Checkpoints(workdir) as checkpoints:
        step = checkpoints.find(which)
        _, network, _ = networks.restore(checkpoints, step, sharding.data_mesh(1))
    return jax.device_get(network)


def assert_equal_bit_for_bit(first, second):
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_array_equal(a, b)


def interrupted_after(batches, step, signum=signal.SIGTERM):
    """Sends a signal to this process while batch number `step` is fetched."""
    for number, batch in enumerate(batches, 1):
        if number == step:
            os.kill(os.getpid(), signum)
        yield batch


def test_steps_neither_compile_nor_wait_for_the_device(
    config, run_data, tmp_path, compilations, monkeypatch
):
    config.update(total_steps=12)
    config.log.every = config.checkpoint.every = 6
    waits, compiled_before = [], []

    def counted(function):
        def wrapper(*arguments):
            waits.append(function.__name__)
            return function(*arguments)

        return wrapper

    for name in ("device_get", "block_until_ready"):
        monkeypatch.setattr(jax, name, counted(getattr(jax, name)))

    def watched(batches):
        for number, batch in enumerate(batches, 1):
            if number in (3, 12):  # the second and the last step are to be taken
                compiled_before.append(len(compilations))
                waits.append(number)
            yield batch

    data = run_data()
    train_and_evaluate(config, tmp_path, data._replace(batches=watched(data.batches)))
    assert compiled_before[0] == compiled_before[1] > 0
    steps = waits[waits.index(3) + 1 : waits.index(12)]
    assert set(steps) == {"device_get"}
    assert len(steps) <= 12  # once per metrics of the six steps up to the one log in between


def test_a_run_writes_what_the_contract_names(config, run_data, tmp_path, capsys):
    config.log.panels_every = 2
    result = train_and_evaluate(config, tmp_path, run_data())
    assert (tmp_path / "ids.txt").read_text() == "a\nb\n"
    assert json.loads((tmp_path / "result.json").read_text()) == result
    assert json.loads((tmp_path / "config.json").read_text())["total_steps"] == 4
    assert result["images"] == 3
    assert sum(map(sum, result["confusion"])) == sum(
        (draw_example(seed)["label"] != 255).sum() for seed in range(3)
    )
    images = [json.loads(line) for line in (tmp_path / "per_image.jsonl").read_text().splitlines()]
    assert [image["id"] for image in images] == ["image0", "image1", "image2"]
    _, truth, predicted = np.sum([image["areas"] for image in images], axis=0)
    assert truth.tolist() == np.sum(result["confusion"], 1).tolist()
    assert predicted.tolist() == np.sum(result["confusion"], 0).tolist()
    assert set(result["iou"]) == {"ground", "wall", "sky"}
    assert {"mean_iou", "pixel_accuracy", "ece", "split", "checkpoint_step", "seed"} <= set(result)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [2, 4]
    assert any("target/effective_sources" in line for line in lines)
    assert sorted(p.name for p in (tmp_path / "panels").iterdir()) == [
        "step_000002.png",
        "step_000004.png",
    ]
    assert list((tmp_path / "tensorboard").iterdir())
    shown = capsys.readouterr().out
    assert "step 4/4  loss" in shown
    assert "ETA" in shown
    assert "mIoU" in shown


@pytest.mark.parametrize(
    ("target", "options"), [("pals", {"prior": "dataset"}), ("ols", {}), ("ps_kd", {})]
)
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(
    config, run_data, tmp_path, target, options
):
    config.ema_decay = 0.9
    config.target.name, config.target.options = target, options  # all with a state of their own
    config.steps_per_epoch = 2
    whole = train_and_evaluate(config, tmp_path / "whole", run_data())
    parts = run_data()
    stopped = parts._replace(batches=interrupted_after(parts.batches, 3))
    with pytest.raises(Interrupted, match="step 3") as stop:
        train_and_evaluate(config, tmp_path / "parts", stopped)
    assert stop.value.exit_code == 128 + signal.SIGTERM
    resumed = train_and_evaluate(config, tmp_path / "parts", run_data())
    assert resumed == whole
    assert_equal_bit_for_bit(
        stored_networks(tmp_path / "whole"), stored_networks(tmp_path / "parts")
    )
    lines = (tmp_path / "parts/metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [2, 4]


class SignalAt:
    """A pipeline during whose batch number `step` this process gets a signal."""

    def __init__(self, batches, step):
        self.batches, self.step = batches, step

    def __next__(self):
        self.step -= 1
        if self.step == 0:
            os.kill(os.getpid(), signal.SIGTERM)
        return next(self.batches)

    def __getattr__(self, name):
        return getattr(self.batches, name)


def test_the_pipeline_goes_on_where_it_stood(config, tmp_path):
    for split, seeds in (("train", range(7)), ("val", range(7, 9))):
        for folder, entry in (("images", "image"), ("masks", "label")):
            (tmp_path / "data" / folder / split).mkdir(parents=True)
            for seed in seeds:
                pixels = draw_example(seed)[entry].astype(np.uint8)
                Image.fromarray(pixels).save(tmp_path / "data" / folder / split / f"{seed}.png")
    config.data.update(name="segmentation_folder", root=str(tmp_path / "data"), classes=CLASSES)
    config.data.data_dir = str(tmp_path / "prepared")
    whole = train_and_evaluate(config, tmp_path / "whole")
    parts = open_data(configs.resolve(config))
    with pytest.raises(Interrupted, match="step 3"):
        train_and_evaluate(
            config, tmp_path / "parts", parts._replace(batches=SignalAt(parts.batches, 3))
        )
    # One pixel of one mask is another.
    mask = tmp_path / "data/masks/train/0.png"
    before, pixels = mask.read_bytes(), np.array(Image.open(mask))
    pixels[0, 0] = (pixels[0, 0] + 1) % len(CLASSES)
    Image.fromarray(pixels).save(mask)
    with pytest.raises(data.DataError, match="labels of the training split are others than before"):
        train_and_evaluate(config, tmp_path / "parts")
    mask.write_bytes(before)
    assert train_and_evaluate(config, tmp_path / "parts") == whole
    assert_equal_bit_for_bit(
        stored_networks(tmp_path / "whole"), stored_networks(tmp_path / "parts")
    )


def test_a_signal_where_no_step_is_left(config, run_data, tmp_path, monkeypatch):
    train_and_evaluate(config, tmp_path, run_data())
    (tmp_path / "result.json").unlink()

    class Interrupting(writers.Writer):
        def __enter__(self):
            os.kill(os.getpid(), signal.SIGTERM)
            return super().__enter__()

    monkeypatch.setattr(writers, "Writer", Interrupting)
    with pytest.raises(Interrupted, match="stopped and saved at step 4"):
        train_and_evaluate(config, tmp_path, run_data())
    assert not (tmp_path / "result.json").exists()


def test_a_second_ctrl_c_stops_at_once(config, run_data, tmp_path):
    parts = run_data()
    twice = interrupted_after(interrupted_after(parts.batches, 3, signal.SIGINT), 3, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train_and_evaluate(config, tmp_path, parts._replace(batches=twice))
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest == 2


def test_a_changed_field_that_alters_training_is_refused(config, run_data, tmp_path):
    train_and_evaluate(config, tmp_path, run_data())
    config.log.every = 1
    config.eval.batch_size = 1
    train_and_evaluate(config, tmp_path, run_data())  # these do not alter training
    config.optimizer.learning_rate = 0.5
    config.target.options.alpha = 0.2
    with pytest.raises(ConfigError) as refusal:
        train_and_evaluate(config, tmp_path, run_data())
    assert "config.optimizer.learning_rate" in str(refusal.value)
    assert "0.01, now 0.5" in str(refusal.value)
    assert "config.target.options.alpha" in str(refusal.value)


def test_a_checkpoint_of_another_architecture_is_refused(config, run_data, tmp_path):
    train_and_evaluate(config, tmp_path, run_data())
    config.model.decoder_channels = 8
    with pytest.raises(ConfigError, match=r"config\.model\.decoder_channels.*16.*8"):
        train_and_evaluate(config, tmp_path, run_data())
    (tmp_path / "result.json").unlink()
    configs.save(configs.resolve(config), tmp_path / "config.json")
    with pytest.raises(CheckpointError, match=r"another architecture.*\n.*checkpoint float32"):
        train_and_evaluate(config, tmp_path, run_data())


def test_a_run_that_does_not_know_its_configuration_is_not_resumed(config, run_data, tmp_path):
    train_and_evaluate(config, tmp_path, run_data())
    (tmp_path / "config.json").unlink()
    with pytest.raises(ConfigError, match=r"config\.json is missing"):
        train_and_evaluate(config, tmp_path, run_data())


def test_nan_in_the_input_is_named_and_nothing_is_lost(config, run_data, tmp_path):
    config.log.every = 4

    def poisoned():
        for seed in itertools.count():
            batch = draw_batch(seed, 4)
            batch["labeled"]["image"] = batch["labeled"]["image"] / np.float32(255)
            if seed == 2:
                batch["labeled"]["image"][1, 3, 3] = np.nan
            yield batch

    with pytest.raises(NonFiniteError) as failure:
        train_and_evaluate(config, tmp_path, run_data()._replace(batches=poisoned()))
    told = str(failure.value)
    assert "step 3" in told
    assert "image2001" in told
    assert "image3001" not in told
    assert "step 2 in" in told  # the last good checkpoint
    for leaf in jax.tree.leaves(stored_networks(tmp_path)):
        assert np.isfinite(leaf).all()


def test_a_failing_write_leaves_the_previous_checkpoint(config, run_data, tmp_path, caplog):
    config.model.decoder_channels = 256  # arrays of 74 kB
    good = run_data()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)

    def disk_fills_up(batches):
        for number, batch in enumerate(batches, 1):
            if number == 3:
                # No file may grow beyond 10 kB, which fails writes as a full disk does.
                resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limit[1]))
            yield batch

    try:
        with pytest.raises(CheckpointError, match=r"checkpoint 4.*MiB free") as failure:
            train_and_evaluate(config, tmp_path, good._replace(batches=disk_fills_up(good.batches)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert "last good one is step 2" in str(failure.value)
    assert not caplog.records  # the failures of Orbax's other threads
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["2"]
    stored_networks(tmp_path)
    result = train_and_evaluate(config, tmp_path, run_data())
    assert result["checkpoint_step"] == 4


def test_a_full_disk_is_noticed_before_writing(config, run_data, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    full = usage._replace(free=1000)
    monkeypatch.setattr("shutil.disk_usage", lambda _: full)
    told = r"no room for a checkpoint.*takes .* MiB, 0\.0 MiB are free.*\n.*{}"
    with pytest.raises(CheckpointError, match=told.format("no earlier one")):
        train_and_evaluate(config, tmp_path, run_data())
    full_at_step_4 = iter([usage, usage, full])  # at the start, at step 2, at step 4
    monkeypatch.setattr("shutil.disk_usage", lambda _: next(full_at_step_4))
    with pytest.raises(CheckpointError, match=told.format("step 2")):
        train_and_evaluate(config, tmp_path, run_data())
    monkeypatch.setattr("shutil.disk_usage", lambda _: full)
    with pytest.raises(CheckpointError, match=told.format("step 2")):
        train_and_evaluate(config, tmp_path, run_data())  # before it resumes
    stored_networks(tmp_path)


def test_best_and_latest_are_kept_apart(config, run_data, tmp_path, monkeypatch):
    config.total_steps = 3
    config.eval.every = 1
    scores = iter([0.2, 0.9, 0.5])
    monkeypatch.setattr("pals_jax.evaluate.Evaluation.mean_iou", property(lambda _: next(scores)))
    monkeypatch.setattr("pals_jax.evaluate.result", lambda *_: {})
    monkeypatch.setattr("pals_jax.evaluate.table", lambda _: "")
    train_and_evaluate(config, tmp_path, run_data(dev=2))
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.best == checkpoints.find("best") == 2
        assert checkpoints.latest == 3
        with pytest.raises(CheckpointError, match=r"'1'.*\[2, 3\]"):
            checkpoints.find("1")
    assert_equal_bit_for_bit(stored_networks(tmp_path, "3"), stored_networks(tmp_path, "latest"))


def test_a_signal_costs_no_score(config, run_data, tmp_path):
    config.eval.every = 1
    config.eval.checkpoint = "best"
    parts = run_data(dev=2)
    with pytest.raises(Interrupted, match="step 4"):
        train_and_evaluate(
            config, tmp_path, parts._replace(batches=interrupted_after(parts.batches, 4))
        )
    resumed = train_and_evaluate(config, tmp_path, run_data(dev=2))
    assert resumed == train_and_evaluate(config, tmp_path / "whole", run_data(dev=2))


def test_workers_that_end_by_the_same_signal_cost_no_steps(config, run_data, tmp_path):
    def batches_ended_after(step):
        yield from itertools.islice(run_data().batches, step)
        os.kill(os.getpid(), signal.SIGTERM)
        raise RuntimeError("a worker was terminated")

    with pytest.raises(Interrupted, match="stopped and saved at step 3"):
        train_and_evaluate(config, tmp_path, run_data()._replace(batches=batches_ended_after(3)))
    resumed = train_and_evaluate(config, tmp_path, run_data())
    assert resumed == train_and_evaluate(config, tmp_path / "whole", run_data())


class Drawn:
    """Batches by a generator of NumPy, whose state holds integers of 128 bits."""

    def __init__(self, stop_at=None):
        self.bits = np.random.PCG64(0)
        self.before_stop = stop_at

    def __next__(self):
        if self.before_stop is not None:
            self.before_stop -= 1
            if self.before_stop == 0:
                os.kill(os.getpid(), signal.SIGTERM)
        return draw_batch(int(np.random.Generator(self.bits).integers(1000)), 4)

    def get_state(self):
        return self.bits.state

    def set_state(self, state):
        self.bits.state = state


def test_own_iterators_keep_their_position(config, run_data, tmp_path):
    parts = run_data()._replace(batches=Drawn())
    whole = train_and_evaluate(config, tmp_path / "whole", parts)
    with pytest.raises(Interrupted):
        train_and_evaluate(config, tmp_path / "cut", parts._replace(batches=Drawn(stop_at=3)))
    resumed = train_and_evaluate(config, tmp_path / "cut", parts._replace(batches=Drawn()))
    assert resumed == whole


@pytest.mark.parametrize(
    "damaged", ["networks/_METADATA", "networks/manifest.ocdbt", "networks/d/*", "metrics/metrics"]
)
def test_a_damaged_checkpoint_is_told(config, run_data, tmp_path, damaged):
    train_and_evaluate(config, tmp_path, run_data())
    found = list((tmp_path / "checkpoints/4").glob(damaged))
    assert found
    for path in found:
        path.write_bytes(path.read_bytes()[:5])
    with pytest.raises(CheckpointError, match=r"could not .*\n.*damaged.*remove .*/4") as failure:
        stored_networks(tmp_path)
    assert str(failure.value).count("\n") == 1


def test_a_checkpoint_without_one_of_its_parts_is_told(config, run_data, tmp_path):
    train_and_evaluate(config, tmp_path, run_data())
    shutil.rmtree(tmp_path / "checkpoints/4/networks")
    with pytest.raises(CheckpointError, match=r"networks.*\n.*left: none"):
        stored_networks(tmp_path)


def test_other_values_than_were_written_are_told(config, run_data, tmp_path):
    config.checkpoint.every = 2
    train_and_evaluate(config, tmp_path / "other", run_data())
    config.seed = 1
    train_and_evaluate(config, tmp_path, run_data())
    networks = tmp_path / "checkpoints/4/networks"
    shutil.rmtree(networks)
    shutil.copytree(tmp_path / "other/checkpoints/4/networks", networks)
    with pytest.raises(CheckpointError, match=r"networks of checkpoint 4 .*CRC-32\.\n"):
        stored_networks(tmp_path)
    (tmp_path / "result.json").unlink()
    with pytest.raises(CheckpointError, match=r"networks of checkpoint 4 .*CRC-32\.\n"):
        train_and_evaluate(config, tmp_path, run_data())
    for damaged in ("[]", "{}"):
        (tmp_path / "checkpoints/4/checksums/metadata").write_text(damaged)
        with pytest.raises(CheckpointError, match=r"meta of checkpoint 4 .*CRC-32\.\n"):
            stored_networks(tmp_path)
    shutil.rmtree(tmp_path / "checkpoints/4/checksums")  # as older checkpoints were
    stored_networks(tmp_path)
    meta = tmp_path / "other/checkpoints/4/meta/metadata"
    meta.write_text(meta.read_text().replace("255", "254"))
    with pytest.raises(CheckpointError, match=r"meta of checkpoint 4 .*CRC-32\.\n"):
        stored_networks(tmp_path / "other")


def test_a_checkpoint_replaced_while_it_is_read_is_told(config, run_data, tmp_path):
    train_and_evaluate(config, tmp_path, run_data())
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        shutil.rmtree(tmp_path / "checkpoints/4")
        with pytest.raises(CheckpointError, match=r"training may have replaced it: try again"):
            checkpoints.meta(4)


def test_looking_at_a_run_changes_nothing(config, run_data, tmp_path):
    train_and_evaluate(config, tmp_path, run_data())
    saving = tmp_path / "checkpoints/5.orbax-checkpoint-tmp"
    saving.mkdir()
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        assert checkpoints.find("latest") == 4
    assert saving.exists()
    with (
        Checkpoints(tmp_path / "nowhere", read_only=True) as checkpoints,
        pytest.raises(CheckpointError, match="has no checkpoint"),
    ):
        checkpoints.find("latest")
    assert not (tmp_path / "nowhere").exists()


def test_a_crash_before_the_first_checkpoint_leaves_no_double_lines(config, run_data, tmp_path):
    config.log.every = 1
    config.checkpoint.every = 4
    parts = run_data()
    crash = itertools.chain(itertools.islice(parts.batches, 3), (1 / 0 for _ in (1,)))
    with pytest.raises(ZeroDivisionError):
        train_and_evaluate(config, tmp_path, parts._replace(batches=crash))
    train_and_evaluate(config, tmp_path, run_data())
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4]


def test_only_checkpoints_that_are_kept_can_be_reported(config, run_data, tmp_path):
    config.eval.checkpoint = "2"
    with pytest.raises(ConfigError, match=r"eval\.checkpoint is 2.*latest or best"):
        train_and_evaluate(config, tmp_path, run_data())


def test_best_without_dev_is_refused_with_the_field(config, run_data, tmp_path):
    config.eval.checkpoint = "best"
    with pytest.raises(ConfigError, match=r"eval\.checkpoint.*data\.dev"):
        train_and_evaluate(config, tmp_path, run_data())


@pytest.mark.parametrize(
    ("devices", "batch_size", "accumulation", "told"),
    [
        (4, 6, 1, "6.*4 devices.*multiple of 4"),
        (4, 8, 4, "multiple of 16"),
        (1, 6, 4, "accumulation = 4"),
        (1, 4, 4, "1 image.*at least 2"),
    ],
)
def test_a_batch_that_does_not_divide(
    config, run_data, tmp_path, devices, batch_size, accumulation, told
):
    config.num_devices, config.batch_size, config.accumulation = devices, batch_size, accumulation
    with pytest.raises(ConfigError, match=told):
        train_and_evaluate(config, tmp_path, run_data())


def test_more_devices_than_there_are(config, run_data, tmp_path):
    config.num_devices = 5
    with pytest.raises(ConfigError, match=r"num_devices.*5.*4"):
        train_and_evaluate(config, tmp_path, run_data())


def test_a_batch_of_another_size_is_named(config, run_data, tmp_path):
    with pytest.raises(data.DataError, match=r"batch of 3.*batch_size is 4"):
        train_and_evaluate(config, tmp_path, run_data(batch_size=3))
