"""Potentials by name: one registry, one function that gives an ASE calculator.

The weights of the universal potentials are files inside their wheels and are named here by path,
so that nothing is ever looked up or fetched at run time.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import importlib
import io
import json
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial, wraps
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any, ParamSpec, TypeVar

from ase.calculators.calculator import Calculator

from nanh2lib.energy.chgnet_calculator import ChgnetCalculator
from nanh2lib.energy.gpaw_calculator import GpawCalculator, GpawSettings
from nanh2lib.energy.sevennet_convolution import use_lean_convolutions
from nanh2lib.energy.sevennet_orbits import sevennet_orbit_gradient, supports_orbits
from nanh2lib.energy.torch_runtime import keep_freed_memory
from nanh2lib.errors import InputError, MissingDependencyError

DEFAULT_POTENTIAL = "sevennet-0"

P = ParamSpec("P")
T = TypeVar("T")
_in_use = threading.RLock()


@dataclass(frozen=True)
class Potential:
    """A named way to compute energies.

    Attributes
    ----------
    name : str
    package : str
        Distribution that must be installed; also a module of that name.
    weights : str or None
        File inside the package, "/" between its parts.
    install : str
        What to type when the package is missing.
    description : str
    factory : callable
        Makes the calculator from the path of the weights and the options.
    """

    name: str
    package: str
    weights: str | None
    install: str
    description: str
    factory: Callable[[Path | None, Mapping[str, Any]], Calculator]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Swallow what third-party packages print and warn while they load."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def _make_sevennet(weights: Path | None, options: Mapping[str, Any]) -> Calculator:
    with _quiet():
        from sevenn.calculator import SevenNetCalculator

        calculator = SevenNetCalculator(model=str(weights), file_type="checkpoint", device="cpu")
    calculator.model.requires_grad_(False)
    use_lean_convolutions(calculator.model)
    if supports_orbits(calculator.model):
        calculator.orbit_gradient = partial(sevennet_orbit_gradient, calculator)
    return calculator


def _make_chgnet(weights: Path | None, options: Mapping[str, Any]) -> Calculator:
    with _quiet():
        from chgnet.model import CHGNet

        model = CHGNet.from_file(str(weights), mlp_out_bias=False, version=None).to("cpu")
    return ChgnetCalculator(model)


def _make_gpaw(weights: Path | None, options: Mapping[str, Any]) -> Calculator:
    return GpawCalculator(_gpaw_settings(options))


def _gpaw_settings(options: Mapping[str, Any]) -> GpawSettings:
    return GpawSettings.from_mapping(dict(options), "potential 'gpaw'")


_TORCH_INSTALL = "pip install nanh2lib (it depends on it)"
_GPAW_INSTALL = "CC=c++ pip install 'nanh2lib[dft]' on top of libxc and a BLAS (Debian: libxc-dev, libopenblas-dev)"

POTENTIALS: Mapping[str, Potential] = MappingProxyType(
    {
        potential.name: potential
        for potential in (
            Potential(
                "sevennet-0",
                "sevenn",
                "pretrained_potentials/SevenNet_0__11Jul2024/checkpoint_sevennet_0.pth",
                _TORCH_INSTALL,
                "SevenNet-0 (11 July 2024): default for labels and ranking",
                _make_sevennet,
            ),
            Potential(
                "sevennet-l3i5",
                "sevenn",
                "pretrained_potentials/SevenNet_l3i5/checkpoint_l3i5.pth",
                _TORCH_INSTALL,
                "SevenNet-l3i5: three times the cost of SevenNet-0",
                _make_sevennet,
            ),
            Potential(
                "chgnet",
                "chgnet",
                "pretrained/0.3.0/chgnet_0.3.0_e29f68s314m37.pth.tar",
                _TORCH_INSTALL,
                "CHGNet 0.3.0: quick, for smoke runs and first relaxations",
                _make_chgnet,
            ),
            Potential(
                "chgnet-r2scan",
                "chgnet",
                "pretrained/r2scan/chgnet_r2scan_transfer_learning_e15f36s161m23.pth.tar",
                _TORCH_INSTALL,
                "CHGNet transferred to r2SCAN: as quick as CHGNet",
                _make_chgnet,
            ),
            Potential("gpaw", "gpaw", None, _GPAW_INSTALL, "GPAW, PBE plane waves: the referee", _make_gpaw),
        )
    }
)


def get_calculator(name: str = DEFAULT_POTENTIAL, **options: Any) -> Calculator:
    """ASE calculator of a potential; one object per process for the same name and options.

    Parameters
    ----------
    name : str
        A key of `POTENTIALS`, or ``"module:factory"`` for any function or class that returns an
        ASE calculator.
    **options
        For ``"gpaw"`` the fields of `GpawSettings`; for ``"module:factory"`` its keyword arguments.
        The universal potentials take none.

    Returns
    -------
    ase.calculators.calculator.Calculator
        Energies in eV per cell, forces in eV/A, stress in eV/A^3 (ASE's units and Voigt order).

    Raises
    ------
    InputError
        The name or an option is unknown.
    MissingDependencyError
        The package, or its weights, are not installed.
    """
    _check(name, options)
    return _cached_calculator(name, _canonical(options))


def potential_hash(name: str = DEFAULT_POTENTIAL, **options: Any) -> str:
    """Key of all labels that a potential makes: name, version of its package, weights and options.

    Parameters
    ----------
    name, **options
        As for `get_calculator`. GPAW's defaults are filled in first; its log file and empty bands do not count.

    Returns
    -------
    str
        16 hex digits.
    """
    _check(name, options)
    if ":" in name:
        versions = {"module": _module_version(name.partition(":")[0])}
        weights = None
    else:
        entry = POTENTIALS[name]
        weights = entry.weights
        packages = (entry.package, "gpaw-data") if name == "gpaw" else (entry.package,)
        versions = {package: _distribution_version(package) for package in packages}
    if name == "gpaw":
        options = _gpaw_settings(options).model_dump(mode="json", exclude={"log", "empty_bands"})
    text = json.dumps([name, versions, weights, json.loads(_canonical(options))], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def is_installed(name: str) -> bool:
    """Whether `get_calculator` would find the package and the weights of a registered potential."""
    _check(name, {})
    if ":" in name:
        return find_spec(name.partition(":")[0].partition(".")[0]) is not None
    try:
        _weights_path(POTENTIALS[name])
    except MissingDependencyError:
        return False
    return True


def require_installed(name: str) -> None:
    """Say what to install where `get_calculator` would not find a potential; loads nothing.

    Raises
    ------
    InputError
        The name is unknown.
    MissingDependencyError
        Its package, or the weights in it, are not there.
    """
    _check(name, {})
    if ":" not in name:
        _weights_path(POTENTIALS[name])
    elif not is_installed(name):
        raise MissingDependencyError(f"potential {name!r}: no module {name.partition(':')[0]!r} here; install it")


def one_at_a_time(function: Callable[P, T]) -> Callable[P, T]:
    """Let one thread of this process in at a time: a calculator holds one crystal, and all threads share it."""

    @wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
        with _in_use:
            return function(*args, **kwargs)

    return guarded


def _check(name: str, options: Mapping[str, Any]) -> None:
    """Refuse unknown names and options before anything heavy is imported."""
    if ":" in name:
        return
    if name not in POTENTIALS:
        near = difflib.get_close_matches(name, list(POTENTIALS), n=1, cutoff=0.0)
        raise InputError(
            f"unknown potential {name!r}; did you mean {near[0]!r}? "
            f"Known: {', '.join(POTENTIALS)}, or module:factory for any ASE calculator"
        )
    if name == "gpaw":
        _gpaw_settings(options)
    elif options:
        raise InputError(f"potential {name!r} takes no options, got {', '.join(sorted(options))}")


def _canonical(options: Mapping[str, Any]) -> str:
    try:
        return json.dumps(dict(options), sort_keys=True)
    except TypeError as error:
        raise InputError(f"potential options must be numbers, strings, lists or mappings: {error}") from error


@lru_cache(maxsize=8)
def _cached_calculator(name: str, options_json: str) -> Calculator:
    options = json.loads(options_json)
    if ":" in name:
        return _external_calculator(name, options)
    entry = POTENTIALS[name]
    weights = _weights_path(entry)
    if weights is not None:
        keep_freed_memory()
    try:
        return entry.factory(weights, options)
    except ImportError as error:
        raise MissingDependencyError(f"potential {name!r}: {error}; install it: {entry.install}") from error


def _weights_path(entry: Potential) -> Path | None:
    """Path of the weights inside the installed package, without importing it."""
    spec = find_spec(entry.package)
    if spec is None or spec.origin is None:
        raise MissingDependencyError(
            f"potential {entry.name!r} needs the package {entry.package}, which is not installed: {entry.install}"
        )
    if entry.weights is None:
        return None
    path = Path(spec.origin).parent.joinpath(*entry.weights.split("/"))
    if not path.is_file():
        raise MissingDependencyError(
            f"potential {entry.name!r}: {path.name} is not in the installed {entry.package} "
            f"{_distribution_version(entry.package)}; install a version whose wheel holds it (see constraints.txt)"
        )
    return path


def _external_calculator(name: str, options: Mapping[str, Any]) -> Calculator:
    module_name, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise MissingDependencyError(f"potential {name!r}: {error}; install the package of {module_name}") from error
    factory = getattr(module, attribute, None)
    if not callable(factory):
        raise InputError(f"potential {name!r}: {module_name} has no function or class {attribute!r}")
    try:
        calculator = factory(**options)
    except TypeError as error:
        raise InputError(f"potential {name!r}: {error}; check its options") from error
    if not hasattr(calculator, "get_property"):
        raise InputError(f"potential {name!r}: it returned {type(calculator).__name__}, not an ASE calculator")
    return calculator


def _module_version(module_name: str) -> str:
    """Version of the package that a module belongs to; a hash of the file for a loose script."""
    top = module_name.partition(".")[0]
    for distribution in _distributions().get(top, []):
        return _distribution_version(distribution)
    try:
        spec = find_spec(module_name)
    except ModuleNotFoundError:
        spec = None
    if spec is None or spec.origin is None:
        raise MissingDependencyError(f"potential module {module_name!r} is not installed")
    return hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest()[:16]


@lru_cache(maxsize=1)
def _distributions() -> Mapping[str, list[str]]:
    return packages_distributions()  # reads the metadata of everything installed: a second or two


@lru_cache(maxsize=64)
def _distribution_version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
