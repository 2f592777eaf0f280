"""Many runs of one configuration with some fields changed, and a report that compares them."""

from pals_jax.sweep.plan import Grid, Run, Sweep, expand

__all__ = ["Grid", "Run", "Sweep", "expand"]
