"""Base of all stage settings: pydantic models that refuse unknown keys and know their hash."""

from __future__ import annotations

import difflib
import hashlib
import json
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from nanh2lib.errors import InputError

SettingsT = TypeVar("SettingsT", bound="StageSettings")


class StageSettings(BaseModel):
    """Frozen pydantic model; each stage defines its own subclass beside its code."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def from_mapping(cls: type[SettingsT], data: Any, source: str = "settings") -> SettingsT:
        """Validate a mapping.

        Parameters
        ----------
        data : mapping
            Keys and values, usually from YAML.
        source : str
            Where they come from, for the error message.

        Raises
        ------
        InputError
            A key is unknown (the nearest valid one is named) or a value is out of range.
        """
        if data is None:
            data = {}
        if not isinstance(data, dict):
            raise InputError(f"{source}: expected a mapping of settings, got {type(data).__name__}")
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise InputError(_one_line(cls, error, source)) from error


def _fields_at(model: type[BaseModel], location: tuple[Any, ...]) -> dict[str, Any]:
    """Fields of the (nested) model in which the last element of ``location`` was looked up."""
    current: type[BaseModel] = model
    for part in location[:-1]:
        field = current.model_fields.get(str(part))
        annotation = field.annotation if field else None
        # A section that may be absent is annotated ``Section | None``.
        for choice in get_args(annotation) or (annotation,):
            if isinstance(choice, type) and issubclass(choice, BaseModel):
                current = choice
    return dict(current.model_fields)


def _one_line(model: type[BaseModel], error: ValidationError, source: str) -> str:
    first = error.errors()[0]
    location = tuple(first["loc"])
    place = ".".join(str(part) for part in location) or "(top level)"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if first["type"] == "extra_forbidden":
        valid = sorted(_fields_at(model, location))
        near = difflib.get_close_matches(str(location[-1]), valid, n=1, cutoff=0.0)
        hint = f"did you mean {near[0]!r}?" if near else "it takes no settings"
        return f"{source}: unknown key {place!r}; {hint} (valid keys: {', '.join(valid)}){more}"
    return f"{source}: {place} = {first.get('input')!r}: {first['msg']}{more}"


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML mapping with the safe loader.

    Raises
    ------
    InputError
        The file is missing, is not YAML, or is not a mapping.
    """
    path = Path(path)
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; give the path of a YAML file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise InputError(f"{path}: expected 'key: value' lines, got {type(data).__name__}")
    return data


def config_hash(settings: BaseModel) -> str:
    """First 16 hex digits of the SHA-256 of the settings as canonical JSON."""
    text = json.dumps(settings.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def package_version() -> str:
    """Version of the installed nanh2lib, ``"unknown"`` when it runs from a plain source tree."""
    try:
        return version("nanh2lib")
    except PackageNotFoundError:
        return "unknown"


def processor() -> str:
    """Name of this machine's processor: numbers in single precision may differ between two of them."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
