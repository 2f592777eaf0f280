"""Measurements: `python -m benchmarks.affinity`, `.step` and `.pipeline`, each with `--quick`."""
