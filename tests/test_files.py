import pytest

from pals_jax.files import append_line, write_atomically


def test_a_failed_write_leaves_the_old_text_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    write_atomically(path, "old")

    def disk_is_full(self, text):
        with self.open("w") as file:
            file.write(text[:1])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_text", disk_is_full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_equal_file_is_not_written(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    write_atomically(path, "text")
    monkeypatch.delattr("pathlib.Path.write_text")
    write_atomically(path, "text")


def test_a_line_is_added_below_a_torn_one(tmp_path):
    path = tmp_path / "lines"
    append_line(path, "first")
    assert path.read_text() == "first\n"
    with path.open("a") as file:
        file.write("torn")
    append_line(path, "second")
    assert path.read_text() == "first\ntorn\nsecond\n"
