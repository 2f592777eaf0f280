"""Errors that end a run with an explanation instead of a traceback."""

import errno

_ROOM = "make room for --workdir, config.data.data_dir, config.predict.output and temporary files"
_MENDABLE = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EACCES: "let it be read and written, or take another folder",
    errno.EPERM: "let it be read and written, or take another folder",
    errno.EROFS: "let it be written to, or take another folder",
}


class ConfigError(ValueError):
    """A field of the configuration has a value that it cannot have."""


class OptionError(ValueError):
    """An option of a target has a value that it cannot have."""


class WeightsError(ValueError):
    """A file of weights is damaged, holds something else, or is of another network."""


def advice(error: OSError) -> str | None:
    """What to do about an error that the user can mend, as a full disk; None for others."""
    return _MENDABLE.get(error.errno or 0)
