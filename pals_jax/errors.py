"""Errors that end a run with an explanation instead of a traceback."""


class ConfigError(ValueError):
    """A field of the configuration has a value that it cannot have."""


class OptionError(ValueError):
    """An option of a target has a value that it cannot have."""
