"""Every code block of docs/adding-a-method.md, written and run as a user would."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from autorank import methods
from autorank.cli import app

PAGE = Path(__file__).parents[1] / "docs" / "adding-a-method.md"


def blocks() -> list[tuple[str, str, str]]:
    """Language, preceding text, and content of every code block."""
    page = PAGE.read_text(encoding="utf-8")
    code_blocks, end = [], 0
    for match in re.finditer(r"^```(\w+)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        code_blocks.append((match[1], page[end : match.start()], match[2]))
        end = match.end()
    return code_blocks


def files() -> dict[str, str]:
    """The files that the page shows; a block's file is the last one named before it."""
    contents = {}
    for language, before, content in blocks():
        if language in ("python", "toml", "yaml"):
            contents[re.findall(r"`(norm-lora/[\w./-]+)`", before)[-1]] = content
    return contents


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A user's directory with the package, installed by hand because pip would need a network."""
    folder = tmp_path_factory.mktemp("place")
    for name, content in files().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")
    project = tomllib.loads((folder / "norm-lora" / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    info = folder / "norm-lora" / f"norm_lora-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    entry_points = "".join(
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in members.items())
        for group, members in project["entry-points"].items()
    )
    (info / "entry_points.txt").write_text(entry_points)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder / "norm-lora"))
        patch.setenv("AUTORANK_CACHE", str(folder / "cache"))
        patch.chdir(folder)
        methods._installed.cache_clear()
        yield folder
    methods._installed.cache_clear()
    for module in [name for name in sys.modules if name.split(".")[0] == "norm_lora"]:
        del sys.modules[module]


def commands() -> list[str]:
    return [line for language, _, content in blocks() if language == "sh" for line in content.splitlines()]


def test_the_directory_tree_lists_all_files() -> None:
    (tree,) = (content for language, _, content in blocks() if language == "text")
    names = set(re.findall(r"[\w-]+\.\w+", tree))
    assert names == {Path(name).name for name in files()}
    assert all(language in ("text", "toml", "python", "yaml", "sh") for language, _, _ in blocks())


def test_every_command_runs(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    printed = {}
    for command in commands():
        program, *words = shlex.split(command)
        if program == "pip":
            assert words == ["install", "-e", "norm-lora"]
            continue
        assert program == "autorank"
        assert words[0] != "search" or "--dry-run" in words  # no Ray here
        app.app(words, standalone_mode=False)
        printed[words[0]] = capsys.readouterr().out
    assert list(printed) == ["methods", "spaces", "train", "search"]
    assert "norm-lora" in printed["methods"] and "fraction of the run after which" in printed["methods"]
    assert printed["spaces"].strip() == files()["norm-lora/norm_lora/method.yaml"].strip()
    assert (workspace / "adapter" / "adapter_model.safetensors").is_file()
    assert "norm-lora" in printed["search"]


@pytest.mark.long
def test_the_users_own_test_passes(workspace: Path, tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("test_norm_lora", workspace / "norm-lora" / "test_norm_lora.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (test,) = (value for name, value in vars(module).items() if name.startswith("test_"))
    test(tmp_path)


def test_files_that_the_page_names_exist() -> None:
    root = PAGE.parents[1]
    for name in re.findall(r"`((?:tests|trainables|autorank)/[\w./]+)`", PAGE.read_text(encoding="utf-8")):
        assert (root / name).exists(), name
    for name in re.findall(r"`(\w+\.py)`", PAGE.read_text(encoding="utf-8")):
        assert (root / "trainables" / name).is_file(), name


def test_the_wheel_has_the_class_and_the_search_space(workspace: Path, tmp_path: Path) -> None:
    from hatchling.builders.wheel import WheelBuilder

    before = os.getcwd()
    (wheel,) = WheelBuilder(str(workspace / "norm-lora")).build(directory=str(tmp_path), versions=["standard"])
    assert os.getcwd() == before
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        entry_points = archive.read(next(name for name in names if name.endswith("entry_points.txt"))).decode()
    assert {"norm_lora/__init__.py", "norm_lora/method.py", "norm_lora/method.yaml"} <= set(names)
    assert entry_points == (next((workspace / "norm-lora").glob("*.dist-info")) / "entry_points.txt").read_text()
