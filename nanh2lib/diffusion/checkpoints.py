"""Files of trained models and of interrupted training runs: safetensors for numbers, JSON for the rest.

A checkpoint ``NAME`` is two files, ``NAME.json`` (format version, kind, settings, statistics,
templates ...) and ``NAME.safetensors``. Nothing in them can run code. The JSON holds the SHA-256 of
the weights and is written last, so a torn write is seen.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from nanh2lib.errors import CheckpointError
from nanh2lib.files import write_atomically
from nanh2lib.settings import package_version

FORMAT = "nanh2lib-checkpoint"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint as read from disk.

    Attributes
    ----------
    path : Path
        The JSON file.
    kind : str
        What it holds, e.g. ``"paper"`` or ``"geometric"``.
    payload : mapping
        Everything that is not a tensor.
    tensors : mapping of str to Tensor
    """

    path: Path
    kind: str
    payload: Mapping[str, Any]
    tensors: Mapping[str, Tensor]


def _json_path(path: str | Path) -> Path:
    path = Path(path)
    if path.suffix in {".json", ".safetensors"}:
        return path.with_suffix(".json")
    return path.with_name(path.name + ".json")


def write_checkpoint(
    path: str | Path,
    kind: str,
    payload: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    weights_name: str | None = None,
) -> Path:
    """Write a checkpoint.

    Parameters
    ----------
    path : path
        With or without ``.json`` or ``.safetensors``.
    kind : str
    payload : mapping
        JSON values only.
    tensors : mapping of str to Tensor
    weights_name : str, optional
        File name of the weights; default: that of the JSON file with ``.safetensors``. A new
        name each time keeps the old pair whole until the new JSON is in place.

    Returns
    -------
    Path
        The JSON file.
    """
    from safetensors.torch import save

    target = _json_path(path)
    weights = weights_name or target.with_suffix(".safetensors").name
    data = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    header = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "package_version": package_version(),
        "kind": kind,
        "weights": weights,
        "weights_sha256": hashlib.sha256(data).hexdigest(),
    }
    text = json.dumps({**header, "payload": dict(payload)}, indent=1, allow_nan=False)
    write_atomically(target.parent / weights, data)
    write_atomically(target, text.encode())
    return target


def read_checkpoint(path: str | Path, kind: str) -> Checkpoint:
    """Read and verify a checkpoint.

    Parameters
    ----------
    path : path
        With or without ``.json`` or ``.safetensors``.
    kind : str
        What is expected.

    Raises
    ------
    CheckpointError
        A file is missing, truncated or changed, is not ours, comes from a newer version, or
        holds another kind of model; the message says how to go on.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    target = _json_path(path)
    header = _read_header(target)
    if header.get("kind") != kind:
        raise CheckpointError(
            f"{target}: holds a model of kind {header.get('kind')!r}, not {kind!r}; "
            "give a checkpoint of that kind or change the setting `model`"
        )
    weights = target.parent / Path(str(header["weights"])).name
    try:
        data = weights.read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"{weights}: the weights of {target.name} cannot be read ({error.strerror}); "
            "copy both files of the checkpoint or train again"
        ) from error
    if hashlib.sha256(data).hexdigest() != header["weights_sha256"]:
        raise CheckpointError(
            f"{weights}: {len(data)} bytes whose SHA-256 is not the one in {target.name}; "
            "the file is truncated or from another training: copy both files again or train again"
        )
    try:
        tensors = load(data)
    except SafetensorError as error:
        raise CheckpointError(f"{weights}: not a safetensors file ({error}); train again") from error
    return Checkpoint(target, kind, header["payload"], tensors)


def _read_header(target: Path) -> dict[str, Any]:
    try:
        header = json.loads(target.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{target}: no such checkpoint; train a model first or give its path") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{target}: not readable as JSON ({error}); it is truncated or foreign") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise CheckpointError(f"{target}: not a checkpoint of nanh2lib (no format {FORMAT!r}); give another file")
    found = header.get("format_version")
    if not isinstance(found, int) or found > FORMAT_VERSION:
        raise CheckpointError(
            f"{target}: checkpoint format {found}, written by nanh2lib {header.get('package_version')}, is newer "
            f"than format {FORMAT_VERSION} of this version ({package_version()}); upgrade nanh2lib or train again"
        )
    missing = [key for key in ("weights", "weights_sha256", "payload") if key not in header]
    if missing:
        raise CheckpointError(f"{target}: lacks {', '.join(missing)}; it is truncated: train again")
    return header


def weights_path(path: str | Path) -> Path:
    """The safetensors file that a checkpoint's JSON file names.

    Raises
    ------
    CheckpointError
        The JSON file is missing, damaged or foreign.
    """
    target = _json_path(path)
    header = _read_header(target)
    return target.parent / Path(str(header["weights"])).name


def prefixed(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors under new names ``prefix.name``."""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def with_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Those whose name starts with ``prefix.``, without it."""
    start = f"{prefix}."
    return {name[len(start) :]: tensor for name, tensor in tensors.items() if name.startswith(start)}


def load_weights(network: nn.Module, checkpoint: Checkpoint, prefix: str) -> None:
    """Put the tensors ``prefix.*`` of a checkpoint into a network.

    Raises
    ------
    CheckpointError
        Names or shapes are those of another architecture (the first difference is named).
    """
    given = with_prefix(checkpoint.tensors, prefix)
    wanted = network.state_dict()
    for name in sorted(set(wanted) | set(given)):
        have = tuple(given[name].shape) if name in given else "absent"
        need = tuple(wanted[name].shape) if name in wanted else "absent"
        if have != need:
            raise CheckpointError(
                f"{checkpoint.path}: tensor {prefix}.{name} is {have} in the file and {need} in the network; "
                "the checkpoint is of another architecture: use its own settings or train again"
            )
    network.load_state_dict(given)
