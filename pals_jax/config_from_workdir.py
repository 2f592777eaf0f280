"""The configuration of a work directory: `--config=pals_jax/config_from_workdir.py:DIR`."""

from pathlib import Path

from ml_collections import ConfigDict

from pals_jax import config


def get_config(workdir: str) -> ConfigDict:
    """Reads `workdir/config.json`."""
    return config.load(Path(workdir) / "config.json")
