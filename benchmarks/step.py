"""Times a whole training step: label smoothing and PALS, in its plain form and with its default
options, against cross-entropy, and all against PyTorch.

The networks are DeepLabV3+ at output stride 16 with a ResNet-50 and with the narrow ResNet-18 of
`configs/camvid.py`, the step is forward, backward and SGD with momentum and weight decay, on one
batch of float32. PyTorch runs the same network, with the
same parameters and threads, in both of its memory formats, and its fused SGD. That losses
and updates agree is checked before anything is timed.

    python -m benchmarks.step [--quick] [--repeats=10] [--output=rows.jsonl]
"""

import importlib.util
import math
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np
import optax

from benchmarks import harness
from configs.sweeps.camvid_search import PLAIN
from pals_jax import networks, sharding, state
from pals_jax.config import default_config, resolve
from pals_jax.objectives import Supervised
from pals_jax.step import make_train_step, normalise

CLASSES, IGNORE = 19, 255


class Size(NamedTuple):
    """Of a network and its batch."""

    backbone: str
    width: int
    decoder_channels: int
    batch: int
    crop: int


LARGE = Size("resnet50", width=64, decoder_channels=256, batch=2, crop=256)
NARROW = Size("resnet18", width=16, decoder_channels=32, batch=4, crop=176)
QUICK = Size("resnet18", width=64, decoder_channels=256, batch=2, crop=64)


def configuration(size: Size, target: str, **options):
    """One training step of a run."""
    config = default_config()
    config.batch_size = size.batch
    config.num_devices = 1
    config.model.name = f"deeplabv3plus_{size.backbone}"
    config.model.width = size.width
    config.model.decoder_channels = size.decoder_channels
    config.data.crop_size = (size.crop, size.crop)
    config.target.name = target
    config.target.options.update(options)
    return resolve(config)


def random_batch(config):
    """Noise with labels in blocks of 16 pixels, a tenth of them ignored."""
    rng = np.random.default_rng(0)
    size = config.data.crop_size[0]
    blocks = rng.integers(0, CLASSES, (config.batch_size, size // 16, size // 16))
    blocks[rng.random(blocks.shape) < 0.1] = IGNORE
    label = blocks.repeat(16, 1).repeat(16, 2).astype(np.int32)
    image = rng.integers(0, 256, (*label.shape, 3)).astype(np.uint8)
    return {"image": image, "label": label}


class Step(NamedTuple):
    """A training step to time.

    Attributes:
      case: takes one step after the other and returns the loss of each.
      moved: ‖θ - θ₀‖ of the decoder. In the backbone, the gradients of the initial parameters are
          huge and magnify the rounding of what comes after it.
    """

    case: harness.Case
    moved: Callable[[], float]


def ours(name: str, config, batch) -> Step:
    """The step of this package."""
    mesh = sharding.data_mesh(1)
    objective = Supervised.create(config, CLASSES, IGNORE)
    apply, network = networks.create(config.model, CLASSES, config.seed)
    initial = jax.device_get(network.params["decoder"])
    optimizer, step = make_train_step(
        config, objective, {"student": apply}, mesh, steps_per_epoch=1
    )
    fresh = state.create(
        {"student": network}, optimizer, objective.init(), average=False, previous=False
    )
    current = [jax.device_put(fresh, sharding.replicated(mesh))]
    arrays = {key: array[None] for key, array in batch.items()}
    arrays = sharding.shard_batch({"labeled": arrays}, mesh, axis=1)
    program = step.lower(current[0], arrays).compile()

    def run():
        current[0], metrics = program(current[0], arrays)
        return float(jax.block_until_ready(metrics)["loss"])

    def moved():
        decoder = current[0].networks["student"].params["decoder"]
        return float(optax.tree.norm(jax.tree.map(np.subtract, decoder, initial)))

    memory = program.memory_analysis()
    temp = None if memory is None else memory.temp_size_in_bytes
    return Step(harness.Case(name, run, temp), moved)


def pytorch(name: str, config, batch, channels_last: bool) -> Step:
    """The same step in PyTorch."""
    import torch
    from torch.nn import functional

    from benchmarks import torch_deeplab

    torch.set_num_threads(harness.processors())
    _, initial = networks.create(config.model, CLASSES, config.seed)
    network = torch_deeplab.load(
        config.model.name.removeprefix("deeplabv3plus_"),
        CLASSES,
        initial.params,
        initial.statistics,
        output_stride=config.model.output_stride,
        channels=config.model.decoder_channels,
        width=config.model.width,
        auxiliary=False,
    )
    images = normalise(batch["image"], config.model.mean, config.model.std)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    images = torch_deeplab.to_nchw(np.asarray(images)).contiguous(memory_format=layout)
    network = network.to(memory_format=layout).train()
    labels = torch.tensor(batch["label"], dtype=torch.int64)
    settings = config.optimizer
    optimizer = torch.optim.SGD(
        network.parameters(),
        lr=settings.learning_rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        fused=True,
    )

    def run():
        logits = functional.interpolate(
            network(images)["logits"], labels.shape[1:], mode="bilinear", align_corners=False
        )
        loss = functional.cross_entropy(logits, labels, ignore_index=IGNORE)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    start = [parameter.detach().clone() for parameter in network.decoder.parameters()]

    def moved():
        pairs = zip(network.decoder.parameters(), start, strict=True)
        return math.sqrt(sum(float((now.detach() - old).square().sum()) for now, old in pairs))

    return Step(harness.Case(name, run), moved)


def run(size: Size, strides: Sequence[int], repeats: int) -> list[dict]:
    """Measures the steps of one network, with plain PALS on grids of these strides."""
    cross_entropy = configuration(size, "one_hot")
    batch = random_batch(cross_entropy)
    steps = {
        "cross-entropy": lambda name: ours(name, cross_entropy, batch),
        "PyTorch, NCHW": lambda name: pytorch(name, cross_entropy, batch, channels_last=False),
        "PyTorch, NHWC": lambda name: pytorch(name, cross_entropy, batch, channels_last=True),
    }
    # Of all strengths, which cost the same, those that start at cross-entropy: see the check below.
    softened = {
        "label smoothing": configuration(size, "label_smoothing", epsilon=1e-5),
        "PALS, defaults": configuration(size, "pals", ramp="linear"),
    }
    for stride in strides:
        plain = configuration(size, "pals", **{**PLAIN, "stride": stride})
        softened[f"PALS, stride {stride}"] = plain
    for case, config in softened.items():
        steps[case] = lambda name, config=config: ours(name, config, batch)
    built = {name: step(name) for name, step in steps.items()}
    # The ramp of PALS starts at 0; what it adds in two steps is less than the tolerances. Without
    # momentum the second step would move the decoder by a third less.
    for tolerance in (1e-3, 1e-1):
        losses = {name: step.case.run() for name, step in built.items()}
        assert np.allclose([*losses.values()], losses["cross-entropy"], rtol=tolerance), losses
        moved = {name: step.moved() for name, step in built.items()}
        assert np.allclose([*moved.values()], moved["cross-entropy"], rtol=tolerance, atol=0), moved
    cases = [step.case for step in built.values()]
    seconds = harness.measure(cases, repeats)

    def to_cross_entropy(name: str) -> float:
        return float(np.median(np.divide(seconds[name], seconds["cross-entropy"])))

    faster = min(("PyTorch, NCHW", "PyTorch, NHWC"), key=to_cross_entropy)
    network = size.backbone if size.width == 64 else f"{size.backbone}, width {size.width}"
    group = {"network": network, "size": size.crop}
    return [
        harness.row(group, cases[0], faster, seconds),
        *(harness.row(group, case, "cross-entropy", seconds) for case in cases[1:]),
    ]


def main() -> None:
    """Measures and reports."""
    given = harness.arguments(__doc__, "ResNet-18 at 64×64").parse_args()
    if importlib.util.find_spec("torch") is None:
        sys.exit("PyTorch, to compare with, is missing: pip install -r benchmarks/requirements.txt")
    if given.quick:
        rows = run(QUICK, (4,), given.repeats or 3)
    else:
        rows = [
            *run(LARGE, (8, 4), given.repeats or 10),
            *run(NARROW, (8, 4), given.repeats or 10),
        ]
    harness.write("step", rows, given.output)


if __name__ == "__main__":
    main()
