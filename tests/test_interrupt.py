"""What is told on an interruption."""

import subprocess
import sys

PROGRAM = """
import sys
from pals_jax.interrupt import tell
sys.stdin.read()
tell("saving")
tell("saved")
print("and more", flush=True)
sys.exit(7)
"""


def test_a_reader_that_is_gone_stops_nothing():
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=pipe, stdout=pipe, stderr=pipe
    ) as process:
        process.stdout.close()  # as `tee` after Ctrl-C
        process.stdin.close()
        assert process.stderr.read() == b""
    assert process.returncode == 7
