"""mpi4py's executor as an engine, in a job of three processes."""

from __future__ import annotations

import os
import re
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from safemp.testing import EngineContract
from tests.support.child import ROOT, Ended, quiet, run_python
from tests.support.how_to import PROGRAM, is_all_run

MPIEXEC = shutil.which("mpiexec", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not MPIEXEC or find_spec("mpi4py") is None, reason="wants mpiexec and the mpi4py package"),
    pytest.mark.timeout(300),
]

PAGE = ROOT / "docs" / "how-to" / "systems" / "mpi.md"


def job(*args: str, cwd: Path) -> Ended:
    """Run ``python *args`` as the first of three ranks, to whose executor the others belong."""
    start = "import os, sys; os.execv(sys.argv[1], sys.argv[1:])"
    of_three = [str(MPIEXEC), "-n", "3", sys.executable, "-m", "mpi4py.futures", *args]
    # Open MPI wants to be told that it may have three processes on two cores, and root.
    variables = {"OMPI_MCA_rmaps_base_oversubscribe": "1", "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe"}
    variables |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    return run_python("-c", start, *of_three, cwd=cwd, env=variables, timeout=250)


def test_the_contract_of_engines_holds() -> None:
    """Every test of it has run in the job, and passed."""
    tests = Path(__file__).with_name("contract.py").relative_to(ROOT)
    ended = job("-m", "pytest", "-q", "-m", "", "-p", "no:cacheprovider", "-p", "no:xdist", str(tests), cwd=ROOT)

    promises = sum(name.startswith("test_") for name in vars(EngineContract))
    assert (ended.returncode, ended.left) == (0, ()), str(ended)
    assert re.search(rf"^{promises + 2} passed in", ended.out, re.MULTILINE), str(ended)


def test_the_program_prints_what_the_page_says(tmp_path: Path) -> None:
    """As a script that is the first rank of a job."""
    assert is_all_run(PAGE)
    ((source, out),) = PROGRAM.findall(PAGE.read_text(encoding="utf-8"))
    script = tmp_path / "script.py"
    script.write_text(source, encoding="utf-8")

    assert quiet(ended := job(str(script), cwd=tmp_path), out=out), str(ended)
