"""One checkpoint through Orbax, whole or not at all."""

import shutil
import time
from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp

from pals_jax import orbax_errors


def save(
    manager: ocp.CheckpointManager, folder: Path, step: int, items: Any, metrics: dict[str, Any]
) -> None:
    """Writes one checkpoint, and removes what there is of it if that fails.

    Args:
      manager: of `folder`, without asynchronous saving.
      folder: of the checkpoints.
      step: of the checkpoint.
      items: what to write, an `ocp.args.Composite`.
      metrics: what "best" is chosen by.

    Raises:
      OrbaxError: it could not be written.
    """

    def remove() -> None:
        calm, deadline = 0, time.monotonic() + 10
        while calm < 5 and time.monotonic() < deadline:
            # Threads that nobody can join may go on writing, and make the folder anew.
            calm = 0 if remove_unfinished(folder, f"{step}.") else calm + 1
            time.sleep(0.1)

    orbax_errors.run(lambda: manager.save(step, args=items, metrics=metrics), remove)


def remove_unfinished(folder: Path, prefix: str = "*") -> int:
    """Removes what interrupted saves left; returns how many there were.

    Orbax's own clean-up runs in a thread that it does not join, and which fails loudly in a process
    that ends at once.
    """
    found = list(folder.glob(f"{prefix}orbax-checkpoint-tmp*"))
    for unfinished in found:
        shutil.rmtree(unfinished, ignore_errors=True)
    return len(found)
