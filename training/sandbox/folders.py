"""Folders of programs: how full they are, and how they become empty again whatever a program built in them."""

import os
import stat

_MAX_SCANNED = 4096


def measure_folder(folder: str) -> tuple[int, int]:
    """Bytes and entries in a folder, counting at most some thousands of entries.

    A folder that is a file system of its own is asked for its totals, which costs the same however much it holds.

    Parameters
    ----------
    folder : str
        The folder.

    Returns
    -------
    n_bytes, n_entries : int
    """
    if os.path.ismount(folder):
        totals = os.statvfs(folder)
        used = (totals.f_blocks - totals.f_bfree) * totals.f_frsize
        return used, max(0, totals.f_files - totals.f_ffree - 1)
    return _scan_folder(folder)


def _scan_folder(folder: str) -> tuple[int, int]:
    n_bytes = n_entries = 0
    waiting = [folder]
    while waiting and n_entries < _MAX_SCANNED:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    n_entries += 1
                    if n_entries >= _MAX_SCANNED:
                        break
                    status = entry.stat(follow_symlinks=False)
                    n_bytes += 512 * status.st_blocks
                    if stat.S_ISDIR(status.st_mode):
                        waiting.append(entry.path)
        except FileNotFoundError:
            # Removed meanwhile.
            continue
        except OSError:
            # Too deep, or closed to us: built to hide what it holds, so it counts as full.
            return n_bytes, _MAX_SCANNED
    return n_bytes, n_entries


def empty_folder(folder: str) -> bool:
    """Remove everything in a folder.

    Symbolic links are removed, never followed; a chain of folders deeper than a path can name is taken apart from its
    top, by moving what lies below up. Nothing may be running that could exchange a folder for a link meanwhile.

    Parameters
    ----------
    folder : str
        The folder, which stays.

    Returns
    -------
    bool
        Whether it is empty now.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        counter = 0
        while names := os.listdir(descriptor):
            for name in names:
                counter = _remove_entry(descriptor, name, counter)
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)


def _remove_entry(parent: int, name: str, counter: int) -> int:
    if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
        os.unlink(name, dir_fd=parent)
        return counter
    os.chmod(name, 0o700, dir_fd=parent)
    inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    try:
        for child in os.listdir(inner):
            if stat.S_ISDIR(os.stat(child, dir_fd=inner, follow_symlinks=False).st_mode):
                counter += 1
                os.chmod(child, 0o700, dir_fd=inner)
                os.rename(child, f".moved-{os.getpid()}-{counter}", src_dir_fd=inner, dst_dir_fd=parent)
            else:
                os.unlink(child, dir_fd=inner)
    finally:
        os.close(inner)
    os.rmdir(name, dir_fd=parent)
    return counter
