"""Energy-guided diffusion over rigid units in a crystal's asymmetric unit.

The public functions are the ones that the notebooks, the command line and the tests call. They
are imported on first use, so that ``import nanh2lib`` stays quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nanh2lib.crystal.asymmetric_unit import AsymmetricUnit as AsymmetricUnit
    from nanh2lib.crystal.asymmetric_unit import Site as Site
    from nanh2lib.crystal.asymmetric_unit import Template as Template
    from nanh2lib.crystal.encoding import decode as decode
    from nanh2lib.crystal.encoding import encode as encode
    from nanh2lib.crystal.expansion import expand as expand
    from nanh2lib.crystal.expansion import expand_tensors as expand_tensors
    from nanh2lib.crystal.extraction import extract_asymmetric_unit as extract_asymmetric_unit

_EXPORTS = {
    # crystals
    "AsymmetricUnit": "crystal.asymmetric_unit",
    "Site": "crystal.asymmetric_unit",
    "Template": "crystal.asymmetric_unit",
    "RigidUnit": "crystal.rigid_unit",
    "Compound": "crystal.rigid_unit",
    "NA": "crystal.rigid_unit",
    "NH2": "crystal.rigid_unit",
    "NANH2": "crystal.rigid_unit",
    "SODIUM_AMIDE": "crystal.rigid_unit",
    "SpaceGroup": "crystal.space_group",
    "extract_asymmetric_unit": "crystal.extraction",
    "expand": "crystal.expansion",
    "expand_tensors": "crystal.expansion",
    "encode": "crystal.encoding",
    "decode": "crystal.encoding",
    # published data
    "published_structures": "report.published",
    "reference_structure": "report.published",
    "structure_table": "report.tables",
    "show": "report.views",
    # stages
    "random_search": "search.random_search",
    "get_calculator": "energy.potentials",
    "train_noise_model": "diffusion.training",
    "train_energy_model": "diffusion.training",
    "sample": "diffusion.sampling",
    "pretrained_models": "diffusion.pretrained",
    "validate": "validation",
    "relax": "relaxation",
    "rank": "ranking",
    "open_run": "pipeline.run",
    "CandidateStore": "store",
    "load_dataset": "store.dataset",
}

__all__ = sorted(_EXPORTS)


def __getattr__(name: str) -> Any:
    module = _EXPORTS.get(name)
    if module is None:
        raise AttributeError(f"module 'nanh2lib' has no attribute {name!r}")
    return getattr(importlib.import_module(f"nanh2lib.{module}"), name)


def __dir__() -> list[str]:
    return __all__
