"""Real programs that have pools, unmodified under ``python -m safemp run``: nobody could tell the difference."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support.child import Ended, run_python

pytestmark = [pytest.mark.integration, pytest.mark.timeout(200)]

FAULTY = "import os, sys\ndef f(x,y):\n  return x+undefined_{i}\nl = lambda a:a\n"

GRID_SEARCH = """
import joblib
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.svm import SVC

def main():
    images, digits = load_digits(return_X_y=True)
    with joblib.parallel_backend("multiprocessing", n_jobs=2):
        search = GridSearchCV(SVC(), {"C": [0.1, 1, 10], "gamma": [0.001, 0.01]}, cv=3)
        search.fit(images[:400], digits[:400])
    print(search.best_params_, search.cv_results_["mean_test_score"].round(6).tolist())

if __name__ == "__main__":
    main()
"""

MAPPED = """
import joblib
import numpy as np

def fill(out, i):
    out[i] = i

def kind(array):
    return type(array).__name__, float(array.sum()), array.flags.writeable

if __name__ == "__main__":
    out = np.memmap("out", dtype=float, shape=6, mode="w+")
    with joblib.Parallel(n_jobs=2, backend="multiprocessing", max_nbytes=1000) as parallel:
        parallel(joblib.delayed(fill)(out, i) for i in range(6))
        print(out.tolist(), parallel(joblib.delayed(kind)(np.ones(1000)) for _ in range(2)))
"""

PAGE = """
Page {i}
======

:ref:`nowhere-{i}`
"""

PROGRAMS = {
    "black": (("-m", "black", "--check", "--workers", "2", "."), 1, "9 files would be reformatted."),
    "flake8": (("-m", "flake8", "-j", "2", "."), 1, "./m6.py:3:12: F821 undefined name 'undefined_6'"),
    "joblib": (("mapped.py",), 0, "[0.0, 1.0, 2.0, 3.0, 4.0, 5.0] [('memmap', 1000.0, False)"),
    "pylint": (("-m", "pylint", "-j", "2", "--persistent=n", "m1.py", "m2.py", "m3.py"), 22, "undefined-variable"),
    "sklearn": (("search.py",), 0, "'gamma': 0.001}"),
    "sphinx": (("-m", "sphinx", "-j", "2", "-b", "text", ".", "out"), 0, "build succeeded, 6 warnings."),
}
"""What is run, its exit status, and what it says among other things."""


def write(folder: Path) -> None:
    """Write what the programs are to work on."""
    (folder / "search.py").write_text(GRID_SEARCH)
    (folder / "mapped.py").write_text(MAPPED)
    (folder / "conf.py").write_text("project = 'pages'\n")
    (folder / "index.rst").write_text("Index\n=====\n\n.. toctree::\n   :glob:\n\n   m*\n")
    for i in range(1, 7):
        (folder / f"m{i}.py").write_text(FAULTY.format(i=i))
        (folder / f"m{i}.rst").write_text(PAGE.format(i=i))


def run(folder: Path, *args: str, **env: str) -> Ended:
    """Run a program in a folder of its own, whose name is always the same in what the program says."""
    folder.mkdir()
    write(folder)
    ended = run_python(*args, cwd=folder, env={"BLACK_CACHE_DIR": str(folder / ".cache"), **env}, timeout=90)
    said = [sorted(text.replace(str(folder), "FOLDER").splitlines()) for text in (ended.out, ended.err)]
    return Ended(ended.returncode, "\n".join(said[0]), "\n".join(said[1]), ended.left)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_does_what_it_did(tmp_path: Path, name: str) -> None:
    """The same lines, in whatever order its workers say them, and the same exit status; nothing is left."""
    if find_spec(name) is None:
        pytest.skip(f"wants the {name} package")
    args, status, text = PROGRAMS[name]
    stock = run(tmp_path / "stock", *args)
    ours = run(tmp_path / "ours", "-m", "safemp", "run", *args)

    assert stock.returncode == status, str(stock)
    assert text in stock.out + stock.err, str(stock)
    assert ours == stock, f"without: {stock}\nwith: {ours}"


@pytest.mark.parametrize("name", sorted(PROGRAMS.keys() - {"sphinx"}))  # which forks processes of its own
def test_its_pools_are_ours(tmp_path: Path, name: str) -> None:
    """Told that it is a task inside of five pools, the program fails with what safemp says to that."""
    if find_spec(name) is None:
        pytest.skip(f"wants the {name} package")
    ended = run(tmp_path / "deep", "-m", "safemp", "run", *PROGRAMS[name][0], SAFEMP_DEPTH="5")

    assert "cannot start a pool: this process is a worker inside 5 pools" in ended.out + ended.err, str(ended)
