"""JSON files that long computations left in the checkout: read if they are there, refused if they are damaged."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from nanh2lib.errors import InputError

T = TypeVar("T")


def read_committed(path: Path, what: str, parse: Callable[[Any], T], absent: T) -> T:
    """What a file says, or what counts where it was never made.

    Parameters
    ----------
    path : Path
    what : str
        What the file is, for the message: ``"a table of throughput"``.
    parse : callable
        From the file's JSON to the result; a KeyError, TypeError, ValueError or AttributeError in it means
        that the file is of another form.
    absent : object
        The result without a file.

    Raises
    ------
    InputError
        The file cannot be read or is of another form.
    """
    if not path.is_file():
        return absent
    try:
        return parse(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not {what} ({error!r}); restore the committed file") from error
