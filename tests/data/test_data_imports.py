"""The package imports where TensorFlow, TFDS, clu and grain are missing."""

import subprocess
import sys

CODE = """
import sys
from importlib.machinery import PathFinder

class Finder(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            return None
        return super().find_spec(name, path, target)

sys.meta_path = [Finder if finder is PathFinder else finder for finder in sys.meta_path]
import pals_jax.data
for name in pals_jax.data.__all__:
    getattr(pals_jax.data, name)
""".format(blocked=("tensorflow", "tensorflow_datasets", "clu", "grain", "array_record"))


def test_the_package_imports_without_tensorflow_tfds_clu_and_grain():
    result = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
