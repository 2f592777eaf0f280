"""A trained network as a state dict for PyTorch: `python -m pals_jax.main --mode=export`."""

from pathlib import Path

from ml_collections import ConfigDict

from pals_jax import networks, sharding
from pals_jax.errors import ConfigError
from pals_jax.models import weights


def export(config: ConfigDict, workdir: str | Path) -> Path:
    """Writes the network of a checkpoint as a .safetensors file with PyTorch's names and layout.

    Its metadata hold the input normalisation, the classes and their colours, as JSON.
    `safetensors.torch.load_file` reads it; what stands behind "backbone." fits torchvision's
    ResNet. `config.weights` takes it, too.

    Args:
      config: resolved; `config.eval.checkpoint` says which checkpoint, `config.export.path` where
          to, by default WORKDIR/network_STEP.safetensors.
      workdir: of a training run.

    Returns:
      The path of the file.

    Raises:
      CheckpointError: there is no such checkpoint, or it cannot be read.
      ConfigError: the path is none of a .safetensors file.
    """
    workdir = Path(workdir).expanduser()
    path = Path(config.export.path).expanduser()
    if config.export.path and path.suffix != ".safetensors":
        raise ConfigError(f"config.export.path={path} must end in .safetensors")
    mesh = sharding.data_mesh(config.num_devices)
    step, _, network, meta = networks.restore_chosen(config, workdir, mesh)
    if not config.export.path:
        path = workdir / f"network_{step}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {
        "mean": meta.model["mean"],
        "std": meta.model["std"],
        "classes": meta.classes,
        "palette": meta.palette,
        "model": meta.model,
        "downsample": meta.downsample,
    }
    weights.save(path, network.params, network.statistics, metadata)
    print(f"wrote {path}")
    return path
