import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from nanh2lib.crystal.extraction import extract_asymmetric_unit
from nanh2lib.records import Candidate, Check, RelaxationResult, ValidationReport
from nanh2lib.report.published import published_structures
from tests.system import require_module, require_system


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


@pytest.fixture(scope="session")
def postgresql_server():
    """URL of a PostgreSQL server of our own that listens on a socket in a temporary folder."""
    require_module("psycopg2", "scale")
    binaries = Path(os.path.realpath(require_system("postgresql"))).parent
    if not (binaries / "initdb").exists():
        binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1]
    as_user = {"user": "postgres"} if os.geteuid() == 0 else {}  # the server refuses to run as root
    with tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as folder:
        os.chmod(folder, 0o777)
        data = f"{folder}/data"
        options = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder, **as_user}
        subprocess.run([binaries / "initdb", "-D", data, "-U", "tester", "--auth=trust"], check=True, **options)
        command = [binaries / "postgres", "-D", data, "-k", folder, "-c", "listen_addresses=", "-c", "fsync=off"]
        server = subprocess.Popen(command, **options)
        try:
            yield wait_for_server(f"postgresql://tester@/postgres?host={folder}")
        finally:
            server.send_signal(signal.SIGQUIT)  # at once; the data are thrown away
            server.wait(30)


def wait_for_server(url):
    import psycopg2

    for _ in range(100):
        try:
            psycopg2.connect(url).close()
        except psycopg2.OperationalError:
            time.sleep(0.1)
        else:
            return url
    pytest.fail("PostgreSQL did not start")


@pytest.fixture
def postgresql_url(postgresql_server, request):
    """URL of a fresh, empty database."""
    import psycopg2

    name = f"store_{abs(hash(request.node.nodeid))}"
    connection = psycopg2.connect(postgresql_server)
    connection.autocommit = True
    connection.cursor().execute(f"CREATE DATABASE {name}")
    connection.close()
    return postgresql_server.replace("/postgres?", f"/{name}?")


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.scale)])
def url(request, tmp_path):
    """Each test that takes it runs on a file and on a server."""
    if request.param == "sqlite":
        return str(tmp_path / "store.db")
    return request.getfixturevalue("postgresql_url")
