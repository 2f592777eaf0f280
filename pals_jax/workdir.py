"""The work directory of a run: held by one process, resumed only on the same data, left alone when
finished.
"""

import contextlib
import fcntl
import json
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pals_jax import data, evaluate
from pals_jax.checkpoints import Meta
from pals_jax.errors import ConfigError
from pals_jax.files import write_atomically
from pals_jax.run_data import RunData


@contextlib.contextmanager
def exclusive(workdir: Path) -> Iterator[None]:
    """Makes the work directory and holds it, so that no second process trains in it.

    Raises:
      ConfigError: it cannot be a folder, or another process trains there.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--workdir={workdir} cannot be a folder: {error}") from error
    with (workdir / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"--workdir={workdir}: another process trains there; wait for it or take another"
            ) from None
        except OSError as error:  # some network drives have no locks
            warnings.warn(f"{workdir} cannot be locked ({error}): train there once", stacklevel=2)
        yield


def is_held(workdir: Path) -> bool:
    """Whether a process trains in a work directory."""
    path = workdir / ".lock"
    try:  # network drives lock only what may be written, others also what another user holds
        lock = path.open("r+" if os.access(path, os.W_OK) else "r")
    except OSError:  # nobody ever has, or nobody can tell
        return False
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:  # without locks nobody can tell
            return False
    return False


def already_finished(workdir: Path, changes: dict[str, tuple[Any, Any]]) -> dict[str, Any]:
    """Shows and returns the result of a finished run.

    Args:
      workdir: of the run.
      changes: fields that differ now, with what the run had and what is asked.

    Raises:
      ConfigError: result.json is damaged.
    """
    path = workdir / "result.json"
    try:
        result = json.loads(path.read_text())
        shown = evaluate.table(result)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{path} is damaged ({error!r}): remove it, and the same command evaluates again"
        ) from error
    print(shown)
    print(
        f"{workdir} is finished; nothing was done. --mode=evaluate evaluates it again; another "
        "--workdir trains anew."
    )
    for field, (old, new) in changes.items():
        print(f"config.{field} = {new!r} was not heeded: the above is of {old!r}")
    return result


def check_classes(stored: Meta, dataset: data.Dataset) -> None:
    """Refuses to resume where class indices mean something else than before.

    Args:
      stored: of the checkpoint to resume from.
      dataset: to go on with.

    Raises:
      DataError: the classes or the ignore index differ.
    """
    for field, before, now in (
        ("classes", stored.classes, tuple(dataset.classes)),
        ("ignore index", stored.ignore, dataset.ignore),
    ):
        if before != now:
            raise data.DataError(
                f"cannot resume: the {field} of the data set was {before}, now {now}. Restore it, "
                "or use another --workdir."
            )


def check_ids(run_data: RunData, workdir: Path, *, resuming: bool) -> None:
    """Writes ids.txt and dev_ids.txt, or refuses to resume on other images than before.

    Raises:
      DataError: the images are not those that are listed there.
    """
    lists = {"ids.txt": run_data.ids, "dev_ids.txt": getattr(run_data.dev, "ids", ())}
    texts = {workdir / file: "".join(f"{key}\n" for key in sorted(lists[file])) for file in lists}
    for path, text in texts.items():
        if resuming and path.exists() and path.read_text() != text:
            raise data.DataError(
                f"cannot resume: {path} lists {len(path.read_text().splitlines())} images, the "
                f"data set now gives {len(text.splitlines())}, or other ones. Restore the data, or "
                "use another --workdir."
            )
    for path, text in texts.items():
        write_atomically(path, text)
