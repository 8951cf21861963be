"""A process that only calls spglib: cells in, space groups out, as plain binary records.

spglib holds the interpreter's lock and cannot be interrupted from inside, so it runs in a process
that can be ended. Started as a file by `nanh2lib.validation.symmetry`: it imports nothing of this
package. Numbers are little-endian.

Request: int32 n, float64 symprec, float64 lattice (3, 3), float64 frac_coords (n, 3), int32 numbers (n).
Answer: int32 status (1 found, 0 nothing found), number, hall_number, m; int8 rotations (m, 3, 3),
float64 translations (m, 3).
"""

from __future__ import annotations

import struct
import sys
from typing import BinaryIO

import numpy as np
import spglib
from spglib.error import SpglibError

READY = b"R"
REQUEST = struct.Struct("<id")
ANSWER = struct.Struct("<iiii")


def answer(cell: tuple[np.ndarray, np.ndarray, np.ndarray], symprec: float) -> bytes:
    """Answer record of one cell."""
    try:
        dataset = spglib.get_symmetry_dataset(cell, symprec=symprec)
    except SpglibError:  # what an older convention of spglib returns as None
        dataset = None
    if dataset is None:
        return ANSWER.pack(0, 0, 0, 0)
    rotations = np.ascontiguousarray(dataset.rotations, dtype=np.int8)
    translations = np.ascontiguousarray(dataset.translations, dtype="<f8")
    head = ANSWER.pack(1, int(dataset.number), int(dataset.hall_number), len(rotations))
    return head + rotations.tobytes() + translations.tobytes()


def serve(source: BinaryIO, target: BinaryIO) -> None:
    """Answer request after request until the input ends."""
    target.write(READY)
    target.flush()
    while True:
        head = source.read(REQUEST.size)
        if len(head) < REQUEST.size:
            return
        n, symprec = REQUEST.unpack(head)
        body = source.read(72 + 28 * n)
        lattice = np.frombuffer(body, "<f8", 9).reshape(3, 3)
        coords = np.frombuffer(body, "<f8", 3 * n, 72).reshape(n, 3)
        numbers = np.frombuffer(body, "<i4", n, 72 + 24 * n)
        target.write(answer((lattice, coords, numbers), symprec))
        target.flush()


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
