"""Versions of what decides a result."""

import importlib.metadata
import platform
import subprocess
from pathlib import Path

import jax

import pals_jax

_REPORTED_PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "numpy")


def versions() -> dict[str, str | None]:
    """Of Python, the device, this package and what it builds on; "commit" as in `commit`."""
    return {
        "python": platform.python_version(),
        "device": jax.devices()[0].device_kind,
        "pals_jax": pals_jax.__version__,
        "commit": commit(Path(pals_jax.__file__)),
        **{package: importlib.metadata.version(package) for package in _REPORTED_PACKAGES},
    }


def commit(module: Path) -> str | None:
    """The commit of the git checkout that a package runs from, "-dirty" if files differ from it.

    Args:
      module: the package's `__init__.py`.

    Returns:
      None if git does not know the file, as in an installed package, or if there is no git.
    """
    folder = module.parent.parent

    def git(*command: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(folder), *command], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    try:
        # An environment may lie in the checkout of something else.
        git("ls-files", "--error-unmatch", str(module))
        return git("describe", "--always", "--dirty", "--abbrev=12")
    except (OSError, subprocess.CalledProcessError):
        return None
