"""How torch runs a potential on this machine: number of threads, reuse of freed memory."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

from nanh2lib.errors import InputError

_M_TRIM_THRESHOLD = -1  # numbers of glibc's malloc.h
_M_MMAP_THRESHOLD = -3
_KEEP_BELOW = 1 << 30  # bytes


@contextmanager
def torch_threads(n: int | None) -> Iterator[None]:
    """Run torch with ``n`` threads inside the block, then go back.

    Parameters
    ----------
    n : int or None
        At least 1; None leaves the number as it is.

    Raises
    ------
    InputError
        ``n`` is below 1.
    """
    if n is not None and n < 1:
        raise InputError(f"threads = {n}: give 1 or more, or nothing to leave torch's own number")
    import torch

    before = torch.get_num_threads()
    if n is not None:
        torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@lru_cache(maxsize=1)
def keep_freed_memory() -> bool:
    """Let this process reuse large freed blocks instead of returning each to the system.

    A potential allocates the same tens of megabytes in every call; glibc hands blocks of that size
    back at once, and the system clears them page by page the next time: a quarter of SevenNet-0's
    time for 64 atoms. Does nothing where there is no glibc.

    Returns
    -------
    bool
        True where the allocator took the setting.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _KEEP_BELOW)) and bool(mallopt(_M_TRIM_THRESHOLD, _KEEP_BELOW))
