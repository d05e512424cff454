"""Files that appear whole."""

import os

import pytest

from mamba_mm.datasets.hand_mesh.whole_file import whole_file


def test_a_file_appears_when_it_is_complete_and_others_may_read_it(tmp_path):
    path = tmp_path / "index.npz"
    before = os.umask(0o022)
    try:
        with whole_file(path) as file:
            file.write(b"new")
            assert not path.exists()
    finally:
        os.umask(before)
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [path]


def test_after_an_error_the_file_is_what_it_was(tmp_path):
    path = tmp_path / "index.npz"
    path.write_bytes(b"old")

    def write_half():
        with whole_file(path) as file:
            file.write(b"half")
            raise KeyError

    with pytest.raises(KeyError):
        write_half()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
