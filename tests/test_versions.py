import importlib.metadata
import subprocess
from pathlib import Path

import pytest

from pals_jax.versions import commit, versions


@pytest.fixture
def checkout(tmp_path):
    """A git work tree that holds a package; git's own settings do not matter."""
    module = tmp_path / "package/__init__.py"
    module.parent.mkdir()
    module.write_text("")
    name = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
    for command in (("init", "-q"), ("add", "."), (*name, "commit", "-qm", "All")):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    return module


def test_versions_of_what_decides_a_result():
    found = versions()
    assert {"python", "device", "pals_jax", "commit", "jax", "numpy"} <= set(found)
    assert found["jax"] == importlib.metadata.version("jax")


def test_the_commit_is_that_of_the_checkout(checkout):
    head = ["git", "-C", str(checkout.parent), "rev-parse", "--short=12", "HEAD"]
    expected = subprocess.check_output(head, text=True).strip()
    assert commit(checkout) == expected
    checkout.write_text("changed")
    assert commit(checkout) == f"{expected}-dirty"


def test_there_is_no_commit_without_a_checkout_of_the_package(checkout, tmp_path, monkeypatch):
    installed = tmp_path / "environment/package/__init__.py"  # in the checkout of something else
    installed.parent.mkdir(parents=True)
    installed.write_text("")
    assert commit(installed) is None
    assert commit(Path("/nowhere/package/__init__.py")) is None
    monkeypatch.setenv("PATH", "")  # there is no git
    assert commit(checkout) is None
