"""Measures the input pipeline alone, in images per second of processor time, against a step.

Decoding, random scale, crop, flip and photometric changes of the embedded data set, as a training
run does them. Both sides are measured in processor time, because loading runs beside the step on
the same cores: the pipeline is no bottleneck where it takes a small share of the step's time.

    python -m benchmarks.pipeline [--quick] [--repeats=10] [--output=rows.jsonl]
"""

import contextlib
import time

from benchmarks import harness, step
from pals_jax.run_data import open_data


def processor_seconds(run, repeats: int) -> float:
    """Processor time of one call, over all threads of this process."""
    start = time.process_time()
    for _ in range(repeats):
        run()
    return (time.process_time() - start) / repeats


def main() -> None:
    """Measures and reports."""
    given = harness.arguments(__doc__, "ResNet-18 at 64×64").parse_args()
    backbone, size = ("resnet18", 64) if given.quick else ("resnet50", 256)
    repeats = given.repeats or (3 if given.quick else 10)
    config = step.configuration(backbone, size, "one_hot")
    with contextlib.closing(open_data(config)) as data:
        next(data.batches)
        loading = processor_seconds(lambda: next(data.batches), 5 * repeats)
    case, _ = step.ours("cross-entropy", config, step.random_batch(config))
    training = processor_seconds(case.run, repeats)
    row = {
        "network": backbone,
        "size": size,
        "pipeline_images_per_core_s": config.batch_size / loading,
        "step_images_per_core_s": config.batch_size / training,
        "share_of_the_step": loading / training,
    }
    harness.write("pipeline", [row], given.output)


if __name__ == "__main__":
    main()
