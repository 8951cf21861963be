import pytest

from nanh2lib.crystal.extraction import extract_asymmetric_unit
from nanh2lib.records import Candidate, Check, RelaxationResult, ValidationReport
from nanh2lib.report.published import published_structures


def make_candidates(n, accepted=True, method="random_search", prefix="c"):
    """Candidates that differ by small moves of the P2_1 2_1 2 crystal."""
    base = published_structures()[0].structure
    unit = extract_asymmetric_unit(base)
    report = ValidationReport((Check("contacts", accepted, "1.2 A", "1.9 A", 'H0-H1 "too close"\\'),))
    candidates = []
    for i in range(n):
        structure = base.copy()
        structure.perturb(0.02, seed=i)
        candidates.append(
            Candidate(
                id=f"{prefix}{i:04d}",
                structure=structure,
                method=method,
                seed=7,
                config_hash="1234567890123456",
                package_version="0.1.0",
                asymmetric_unit=unit,
                report=report,
                extra={"template": "P21212 a b", "numbers": [1, 2.5]},
            )
        )
    return candidates


def make_relaxation(candidate, energy=-18.2):
    structure = candidate.structure.copy()
    structure.perturb(0.01, seed=99)
    return RelaxationResult(
        structure=structure,
        stage="rigid",
        potential="chgnet",
        energy_start=-18.0,
        energy_final=energy,
        evaluations=61,
        converged=True,
        space_group_before=18,
        space_group_after=18,
        flags=("symmetry_gained",),
        asymmetric_unit=candidate.asymmetric_unit,
    )


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.scale)])
def url(request, tmp_path):
    """Each test that takes it runs on a file and on a server."""
    if request.param == "sqlite":
        return str(tmp_path / "store.db")
    return request.getfixturevalue("postgresql_url")
