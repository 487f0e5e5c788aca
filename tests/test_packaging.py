"""The project's files: equal versions, existing targets of make, and conflicts with PyPI's `autorank`."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import yaml

import autorank

ROOT = Path(__file__).parents[1]
OTHER_PACKAGE = {"autorank/__init__.py": "from .autorank import *\n", "autorank/autorank.py": "def plot_stats(): ...\n"}


def test_the_version_is_the_same_everywhere() -> None:
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == autorank.__version__
    result = subprocess.run([sys.executable, "-m", "autorank", "--version"], capture_output=True, text=True, cwd=ROOT)
    assert result.stdout == f"autorank {autorank.__version__}\n", result.stderr


def test_targets_of_make_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    files = [".ci/run", "README.md", "CONTRIBUTING.md", *(ROOT / ".github").rglob("*.*")]
    for file in files:
        for line in re.findall(r"^\s*(?:- run: |- \[ \] `)?make ([a-z -]+)", (ROOT / file).read_text(), re.MULTILINE):
            assert set(line.split()) <= targets, f"{file}: make {line}"


def test_configurations_can_be_read() -> None:
    for file in (*(ROOT / ".github").rglob("*.yml"), ROOT / ".pre-commit-config.yaml"):
        assert isinstance(yaml.safe_load(file.read_text()), dict), file
    json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())


def run_beside_other(path: list[Path], code: str) -> subprocess.CompletedProcess[str]:
    """Runs code with these directories first on the path."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, path))}
    return subprocess.run([sys.executable, "-P", "-c", code], env=env, capture_output=True, text=True)


def test_the_command_explains_that_another_autorank_is_imported(tmp_path: Path) -> None:
    for name, content in OTHER_PACKAGE.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    result = run_beside_other([tmp_path, ROOT], "import autorank_lora; autorank_lora.main()")
    assert result.returncode == 2 and "Traceback" not in result.stderr
    assert "statistics package" in result.stderr and "pip uninstall autorank" in result.stderr
    (tmp_path / "autorank" / "autorank.py").write_text("import a_package_that_is_missing\n")
    assert run_beside_other([tmp_path, ROOT], "import autorank_lora; autorank_lora.main()").returncode == 2


def test_the_first_import_warns_of_another_autorank_in_its_folder(tmp_path: Path) -> None:
    (tmp_path / "autorank").mkdir()
    (tmp_path / "autorank" / "__init__.py").write_text((ROOT / "autorank" / "__init__.py").read_text())
    for module in (ROOT / "autorank").iterdir():
        if module.name not in ("__init__.py", "__pycache__"):
            (tmp_path / "autorank" / module.name).symlink_to(module)
    assert run_beside_other([tmp_path, ROOT], "import autorank").stderr == ""
    (tmp_path / "autorank" / "autorank.py").write_text(OTHER_PACKAGE["autorank/autorank.py"])
    assert "statistics package" in run_beside_other([tmp_path, ROOT], "import autorank").stderr
