import os

import pytest

from training.sandbox.python import empty_folder, measure_folder


@pytest.fixture
def folder(tmp_path):
    inner = tmp_path / "inner"
    inner.mkdir()
    return inner


def make_chain(folder, depth, name="d" * 50):
    """Folders in folders, deeper than any path can name."""
    descriptor = os.open(folder, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=descriptor)
        below = os.open(name, os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(descriptor)


def test_deep_closed_and_linked_folders_are_removed_and_links_not_followed(folder, tmp_path):
    make_chain(folder, 2000)
    (folder / "closed" / "inner").mkdir(parents=True)
    (folder / "closed" / "inner" / "file").touch()
    (folder / "closed" / "inner").chmod(0)
    (folder / "closed").chmod(0)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").touch()
    (folder / "link").symlink_to(outside)
    (folder / "loop").symlink_to("loop")
    (folder / "inner").mkdir()
    (folder / "inner" / "link").symlink_to(outside)
    assert empty_folder(str(folder))
    assert list(folder.iterdir()) == []
    assert (outside / "file").exists()


def test_what_is_in_a_folder_is_measured(folder):
    (folder / "a").write_bytes(b"x" * 10_000)
    (folder / "b").mkdir()
    (folder / "b" / "c").write_bytes(b"x" * 20_000)
    n_bytes, n_entries = measure_folder(str(folder))
    assert n_entries == 3
    assert 30_000 <= n_bytes < 60_000


def test_what_is_too_deep_to_measure_counts_as_full(folder):
    make_chain(folder, 200)
    assert measure_folder(str(folder))[1] > 1000
