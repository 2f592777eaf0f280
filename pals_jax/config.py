"""The fields of a configuration with their defaults, and the checks that run before anything else.

`configs/*.py` start from `default_config()`. `resolve` turns what the user wrote into what the run
records: every option of the chosen target is filled in and everything that can be checked without
data is checked.
"""

import dataclasses
import difflib
import json
import math
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict, config_dict

from pals_jax.data.id_lists import is_list
from pals_jax.errors import ConfigError, OptionError
from pals_jax.files import write_atomically
from pals_jax.models import MODELS
from pals_jax.objectives import LABEL_DOWNSAMPLING, OBJECTIVES
from pals_jax.targets import TARGETS, Target

# Fields that may differ between the parts of an interrupted run, because they do not alter what it
# learns.
_FREE_SECTIONS = ("log", "checkpoint", "eval", "predict", "export", "num_devices")
_FREE_FIELDS = ("data.root", "data.data_dir", "data.workers")

SUBMISSIONS = ("cityscapes", "voc2012")  # see pals_jax/submissions.py

_LISTS = ("subset", "dev")  # fields of `data` that may name a .txt list of ids

_AT_LEAST_ONE = (
    "total_steps",
    "batch_size",
    "accumulation",
    "log.every",
    "log.panels",
    "checkpoint.every",
    "eval.every",
    "eval.batch_size",
    "eval.max_shapes",
    "data.downsample",
    "model.width",
    "model.decoder_channels",
)
_MOST = 1e4
_AT_LEAST_ZERO = (
    "seed",
    "num_devices",
    "steps_per_epoch",
    "auxiliary_weight",
    "data.subset_seed",
    "data.workers",
    "log.panels_every",
    "optimizer.end_learning_rate",
    "optimizer.weight_decay",
)


def default_config() -> ConfigDict:
    """The configuration that every file in `configs/` starts from."""
    config = ConfigDict()
    config.seed = 0
    config.total_steps = 1000
    config.batch_size = 8  # images per optimiser step, over all devices and accumulated parts
    config.steps_per_epoch = 0  # for targets that act at its end; 0 = images / batch_size
    config.accumulation = 1  # parts that a batch is computed in, to save memory
    config.num_devices = 0  # 0 = all
    config.objective = "supervised"
    # Of parameters and BatchNorm statistics; 0 = no average, else evaluation uses the average.
    config.ema_decay = 0.0

    config.data = ConfigDict()
    config.data.name = "synthetic_streets"  # see pals_jax/data/catalog.py
    config.data.root = ""  # folder of the data set, or of the archives of Cityscapes and VOC
    config.data.images = ""  # layout below root, as "{split}/{id}.*"; "" = that of the catalogue
    config.data.masks = ""
    config.data.classes = ()  # names; () = those of the catalogue
    config.data.palette = ()  # one (r, g, b) per class; () = that of the catalogue
    config.data.ignore = -1  # mask value of pixels without a label; -1 = that of the catalogue
    config.data.palette_masks = False  # read the indices of palette PNGs as classes
    config.data.data_dir = ""  # where prepared data is kept; "" = the default of TFDS
    config.data.train_split = "train"
    # Labelled images to train on: a fraction, "prefix:…", a .txt list of ids, or one of the field's
    # lists, as "voc_classic/92"; "" = all.
    config.data.subset = ""
    # Held out of train_split to choose on, before the subset is taken, or beside the ids of a list;
    # "" = none.
    config.data.dev = ""
    config.data.subset_seed = 0
    config.data.crop_size = (256, 256)  # height, width
    config.data.scale = (0.5, 2.0)  # range of the random scale
    config.data.flip = True
    config.data.photometric = True
    # Whole factor by which crops are down-sampled last; options of targets that count pixels count
    # those that are left. Evaluation stays at full resolution.
    config.data.downsample = 1
    config.data.label_downsampling = "soft"  # shares of the classes, or nearest
    config.data.workers = 0  # processes that load and augment; 0 = threads of this one

    # File of a ResNet with the names of torchvision, .pth or .safetensors, that the backbone starts
    # from; "" = random. See pals_jax/models/weights.py.
    config.weights = ""

    config.model = ConfigDict()
    config.model.name = "deeplabv3plus_resnet50"
    config.model.output_stride = 16
    config.model.decoder_channels = 256
    config.model.width = 64  # channels of the stem; 64 is the published network
    config.model.auxiliary = False  # an auxiliary head during training
    config.model.dtype = "float32"  # or bfloat16, of the computation; parameters stay float32
    config.model.freeze_batch_norm = False
    config.model.mean = (0.485, 0.456, 0.406)  # of RGB in [0, 1]: that of torchvision's weights
    config.model.std = (0.229, 0.224, 0.225)

    config.target = ConfigDict()
    config.target.name = "label_smoothing"  # see pals_jax/targets
    config.target.options = _option_placeholders()  # unset = the target's own default
    config.auxiliary_weight = 0.4

    config.optimizer = ConfigDict()
    config.optimizer.learning_rate = 0.01
    config.optimizer.end_learning_rate = 1e-4  # or learning_rate, if that is lower
    config.optimizer.power = 0.9  # of the polynomial decay
    config.optimizer.momentum = 0.9
    config.optimizer.weight_decay = 5e-4
    # Learning rate of everything but the backbone, relative to it.
    config.optimizer.head_multiplier = 1.0

    config.log = ConfigDict()
    config.log.every = 20  # steps between log lines
    config.log.panels_every = 200  # steps between pictures and diagnostics of the target; 0 = never
    config.log.panels = 3  # images per picture

    config.checkpoint = ConfigDict()
    config.checkpoint.every = 200  # steps

    config.eval = ConfigDict()
    config.eval.split = "val"  # a split of the data set, or "dev"
    # Steps between evaluations on dev, if there is one; each is saved and may become the best.
    config.eval.every = 200
    config.eval.checkpoint = "latest"  # "latest", "best" (on dev) or a step
    config.eval.batch_size = 4  # images at once; rounded up to a multiple of the devices
    config.eval.max_shapes = 4  # images of more sizes than this are padded to this many shapes
    # Probabilities are averaged over views: sliding windows (height, width), () = the whole image;
    # their stride, () = two thirds of them; scales; and the mirror image. Also in prediction.
    config.eval.window = ()
    config.eval.stride = ()
    config.eval.scales = (1.0,)
    config.eval.flip = False

    config.predict = ConfigDict()
    config.predict.images = ""  # folder of images; "" = those of eval.split
    config.predict.output = ""  # "" = WORKDIR/predictions/NAME
    config.predict.opacity = 0.5  # of the colours in an overlay
    config.predict.submission = ""  # also an archive for the server of cityscapes or voc2012

    config.export = ConfigDict()
    config.export.path = ""  # a .safetensors file; "" = WORKDIR/network_STEP.safetensors
    return config


def _option_placeholders() -> ConfigDict:
    """One typed, unset field per option of any target, so that the command line can set it."""
    options = ConfigDict()
    for target in TARGETS.values():
        for name, default in _options_of(target).items():
            options[name] = config_dict.placeholder(type(default))
    return options


def _options_of(target: type[Target]) -> dict[str, Any]:
    """The defaults of a target's options, by name."""
    fields = dataclasses.fields(target)
    return {field.name: field.default for field in fields if field.name != "num_classes"}


def resolve(config: ConfigDict) -> ConfigDict:
    """Checks a configuration and fills in the options of its target.

    Returns:
      A locked copy, in which `target.options` holds exactly the options of the chosen target and
      the paths of data and weights are absolute.

    Raises:
      ConfigError: naming the field, what was found and what fits.
    """
    config = ConfigDict(config.to_dict())
    _check_fields(config.to_dict(), default_config().to_dict())
    _check_values(config)
    # Evaluation may be started from another folder than training was.
    for field in ("root", "data_dir", *filter(lambda field: is_list(config.data[field]), _LISTS)):
        if path := config.data[field]:
            config.data[field] = _absolute(path, f"data.{field}")
    if config.weights:
        config.weights = _absolute(config.weights, "weights")
    name = config.target.name
    if name not in TARGETS:
        raise ConfigError(f"config.target.name must be one of {sorted(TARGETS)}, found {name!r}")
    known = _options_of(TARGETS[name])
    given = {key: value for key, value in config.target.options.items() if value is not None}
    for option in given:
        if option not in known:
            owners = sorted(other for other in TARGETS if option in _options_of(TARGETS[other]))
            raise ConfigError(
                f"config.target.options.{option} is not an option of config.target.name={name!r}, "
                f"which has {sorted(known)}; targets that have it: {owners}"
            )
    config.target.options = ConfigDict({**known, **given})
    try:
        TARGETS[name](2, **config.target.options)
    except OptionError as error:
        raise ConfigError(f"config.target.options: {error}") from error
    return config.lock()


def _absolute(path: str, field: str) -> str:
    try:
        return str(Path(path).expanduser().absolute())
    except RuntimeError:
        raise ConfigError(
            f"config.{field}={path!r}: there is no user of this name; ~/ is your own home folder"
        ) from None


def _check_fields(found: dict, expected: dict, path: str = "config") -> None:
    """Every field is known and none is missing; options of targets are checked with the target."""
    for name, value in found.items():
        if name not in expected:
            close = difflib.get_close_matches(name, expected, n=1)
            hint = f"; did you mean {path}.{close[0]}?" if close else f"; known: {sorted(expected)}"
            raise ConfigError(f"unknown config field {path}.{name}{hint}")
        if isinstance(expected[name], dict) and path + "." + name != "config.target.options":
            if not isinstance(value, dict):
                raise ConfigError(
                    f"{path}.{name} must hold fields {sorted(expected[name])}, found {value!r}"
                )
            _check_fields(value, expected[name], f"{path}.{name}")
        elif not isinstance(expected[name], dict) and not _same_type(value, expected[name]):
            example = f", as {expected[name]!r}" if expected[name] else ""
            raise ConfigError(
                f"{path}.{name} must be of type {type(expected[name]).__name__}{example}, found "
                f"{value!r}"
            )
    for name in expected:
        if name not in found:
            raise ConfigError(f"config field {path}.{name} is missing: start from default_config()")


def _same_type(value: Any, default: Any) -> bool:
    """An int does for a float and a list for a tuple; True is no int, and inf and NaN no float."""
    accepted = {float: (float, int), tuple: (tuple, list)}.get(type(default), (type(default),))
    if type(value) not in accepted:
        return False
    if isinstance(default, tuple) and default:
        return all(_same_type(entry, default[0]) for entry in value)
    return not isinstance(value, float) or math.isfinite(value)


def _check_values(config: ConfigDict) -> None:
    def require(holds: bool, field: str, expected: str) -> None:
        if not holds:
            raise ConfigError(f"config.{field} must be {expected}, found {value_of(field)!r}")

    def value_of(field: str) -> Any:
        section, _, name = field.rpartition(".")
        return (config[section] if section else config)[name]

    for field in _AT_LEAST_ONE:
        require(value_of(field) >= 1, field, "at least 1")
    for field in _AT_LEAST_ZERO:
        require(value_of(field) >= 0, field, "at least 0")
    for field in ("seed", "data.subset_seed"):
        require(value_of(field) < 2**31, field, "below 2³¹")
    for field in ("optimizer.learning_rate", "optimizer.power", "optimizer.head_multiplier"):
        require(value_of(field) > 0, field, "above 0")
    # So that one step from parameters and gradients of any usual size stays in float32, see `step`.
    for field in (
        "optimizer.learning_rate",
        "optimizer.head_multiplier",
        "optimizer.weight_decay",
    ):
        require(value_of(field) <= _MOST, field, f"at most {_MOST:g}")
    require(0 <= config.optimizer.momentum < 1, "optimizer.momentum", "in [0, 1)")
    mean, std = config.model.mean, config.model.std
    require(len(mean) == 3 and all(0 <= m <= 1 for m in mean), "model.mean", "of RGB in [0, 1]")
    require(len(std) == 3 and all(s > 0 for s in std), "model.std", "of RGB, each above 0")
    require(config.batch_size % config.accumulation == 0, "batch_size",
          f"a multiple of config.accumulation = {config.accumulation}")  # fmt: skip
    require(config.objective in OBJECTIVES, "objective", f"one of {sorted(OBJECTIVES)}")
    require(0 <= config.ema_decay < 1, "ema_decay", "in [0, 1)")
    require(config.model.name in MODELS, "model.name", f"one of {sorted(MODELS)}")
    require(config.model.dtype in ("float32", "bfloat16"), "model.dtype", "float32 or bfloat16")
    require(config.model.output_stride in (8, 16), "model.output_stride", "8 or 16")
    crop = config.data.crop_size
    require(len(crop) == 2 and all(side >= 1 for side in crop),
          "data.crop_size", "(height, width) in whole pixels")  # fmt: skip
    stride, factor = config.model.output_stride, config.data.downsample
    unit = stride * factor
    fitting = tuple(unit * max(1, round(side / unit)) for side in crop)
    times = f" times config.data.downsample = {factor}" if factor > 1 else ""
    require(not any(side % unit for side in crop), "data.crop_size",
          f"multiples of config.model.output_stride = {stride}{times}, as {fitting}")  # fmt: skip
    require(config.data.label_downsampling in LABEL_DOWNSAMPLING, "data.label_downsampling",
          f"one of {LABEL_DOWNSAMPLING}")  # fmt: skip
    scale = config.data.scale
    require(
        len(scale) == 2 and 0 < scale[0] <= scale[1],
        "data.scale",
        "(low, high) with 0 < low <= high",
    )
    require(config.predict.submission in ("", *SUBMISSIONS), "predict.submission",
          f"empty or one of {SUBMISSIONS}")  # fmt: skip
    require(0 <= config.predict.opacity <= 1, "predict.opacity", "in [0, 1]")
    window, stride, scales = config.eval.window, config.eval.stride, config.eval.scales
    for field, value in (("window", window), ("stride", stride)):
        whole = all(type(length) is int and length >= 1 for length in value)
        require(len(value) in (0, 2) and whole, f"eval.{field}", "() or (height, width) in pixels")
    require(len(window) == 2 or not stride, "eval.stride", "empty without config.eval.window")
    require(all(s <= w for s, w in zip(stride, window, strict=False)), "eval.stride",
          f"at most config.eval.window = {tuple(window)}, to leave no pixel out")  # fmt: skip
    numbers = all(type(scale) in (int, float) and 0.1 <= scale <= 10 for scale in scales)
    require(bool(scales) and numbers, "eval.scales", "numbers from 0.1 to 10")
    checkpoint = config.eval.checkpoint
    require(checkpoint in ("latest", "best") or checkpoint.isdecimal(), "eval.checkpoint",
          '"latest", "best" or a step')  # fmt: skip


def changes(saved: ConfigDict, config: ConfigDict) -> dict[str, tuple[Any, Any]]:
    """Fields that differ, by their path, with the saved and the new value; None where missing.

    Of two targets, whose options have little in common, the names alone.
    """
    return differences(fields(saved), fields(config))


def differences(old: dict[str, Any], new: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """`changes` of configurations that are given as fields by their path."""
    different = {
        field: (old.get(field), new.get(field))
        for field in sorted(old.keys() | new.keys())
        if old.get(field) != new.get(field)
    }
    if "target.name" in different:
        return {k: v for k, v in different.items() if not k.startswith("target.options.")}
    return different


def check_same_training(saved: ConfigDict, config: ConfigDict, workdir: Path) -> None:
    """Refuses to resume a run whose configuration differs in a field that alters training.

    Raises:
      ConfigError: naming the fields, their saved and their new values.
    """
    different = changes(saved, config)
    changed = [
        f"config.{field}: {workdir} was trained with {old!r}, now {new!r}"
        for field, (old, new) in different.items()
        if field.split(".")[0] not in _FREE_SECTIONS
        and field not in _FREE_FIELDS
        and not _moved(field, old, new)
    ]
    if changed:
        raise ConfigError(
            "cannot resume, training would change:\n  "
            + "\n  ".join(changed)
            + "\nUse the saved values, or another --workdir."
        )


def _moved(field: str, old: Any, new: Any) -> bool:
    """Whether a file has another folder only. The ids that a list names are compared, see
    `workdir`; the weights of a resumed run are those of its checkpoint.
    """
    both_files = field == "weights" or (
        field in ("data.subset", "data.dev") and all(v and is_list(v) for v in (old, new))
    )
    return bool(both_files and old and new) and Path(old).name == Path(new).name


def fields(config: ConfigDict) -> dict[str, Any]:
    """All fields by their path, as "optimizer.learning_rate"."""
    return _flatten(config.to_dict())


def _flatten(tree: dict, prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def save(config: ConfigDict, path: Path) -> None:
    """Writes a resolved configuration as JSON."""
    write_atomically(path, json.dumps(config.to_dict(), indent=2) + "\n")


def load(path: Path) -> ConfigDict:
    """Reads a configuration that `save` wrote.

    What it lacks, because a later version added the field, is filled in: a new field has the
    default that changes nothing.

    Raises:
      ConfigError: the file is missing or is not a JSON object.
    """
    try:
        fields = json.loads(path.expanduser().read_text())
    except FileNotFoundError:
        raise ConfigError(
            f"{path} is missing: is {path.parent} the --workdir of a training run?"
        ) from None
    except ValueError as error:  # of the encoding, too
        raise ConfigError(f"{path} is not valid JSON ({error}): restore it") from error
    if not isinstance(fields, dict):
        raise ConfigError(f"{path} must hold the fields of a configuration, found {fields!r:.80}")
    defaults = default_config().to_dict()
    defaults["target"]["options"] = {}  # those of the target at hand, filled in by `resolve`
    return from_dict(_filled(fields, defaults))


def _filled(fields: Any, defaults: Any) -> Any:
    """`fields` with the entries of `defaults` that they lack."""
    if not isinstance(fields, dict) or not isinstance(defaults, dict):
        return fields
    return defaults | {name: _filled(value, defaults.get(name)) for name, value in fields.items()}


def from_dict(fields: dict) -> ConfigDict:
    """A configuration from plain JSON values; lists become tuples, as `default_config` has them."""

    def tuples(value):
        if isinstance(value, dict):
            return {name: tuples(item) for name, item in value.items()}
        return tuple(tuples(item) for item in value) if isinstance(value, list) else value

    return ConfigDict(tuples(fields))
