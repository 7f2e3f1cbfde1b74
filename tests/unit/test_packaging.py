"""What is released: one version everywhere, and what the recipes say is what the package says."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import safemp

ROOT = Path(__file__).parents[2]
PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
RECIPE = ROOT / "packaging" / "conda" / "recipe.yaml"


def packages(text: str) -> set[str]:
    """Return the packages with their lowest versions, without spaces."""
    return {name.replace(" ", "") for name in re.findall(r"(?:cloudpickle|loky|tblib) ?>=[\d.]+", text)}


def test_a_tag_names_the_version_that_it_is_on() -> None:
    """``v1.2.0`` is on the commit whose ``__version__`` is 1.2.0, and the changelog has a section for it."""
    try:
        found = subprocess.run(["git", "tag", "--points-at", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    except FileNotFoundError:  # no git
        return
    tags = [tag for tag in found.stdout.split() if re.match(r"v\d", tag)]

    assert tags in ([], [f"v{safemp.__version__}"])
    if tags:
        assert f"\n## [{safemp.__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_there_are_three_dependencies() -> None:
    """Whoever installs safemp installs these, and nothing else."""
    listed = re.findall(r"^dependencies = \[(.*)\]$", PROJECT, re.MULTILINE)

    assert len(listed) == 1
    assert len(listed[0].split(",")) == len(packages(listed[0])) == 3


def test_the_recipe_for_conda_says_what_the_package_says() -> None:
    """Version, Python, dependencies."""
    recipe = RECIPE.read_text(encoding="utf-8")

    assert f'version: "{safemp.__version__}"' in recipe
    assert packages(recipe) == packages(PROJECT.partition("\n[project.optional-dependencies]")[0])
    oldest = re.findall(r'^requires-python = ">=([\d.]+)"$', PROJECT, re.MULTILINE)
    assert oldest == re.findall(r'python_min: "([\d.]+)"', recipe)
