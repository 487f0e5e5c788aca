"""Links to directories."""

from __future__ import annotations

from pathlib import Path

import pytest

from autorank.tasks.reading.file_set import find_files

CSV = "text,label\na,1\nb,2\n"


@pytest.fixture
def linked(tmp_path: Path) -> Path:
    """A directory with a training file, a link to a directory with a validation file, and a link to a file."""
    for name in ("data/train", "elsewhere"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "a.csv").write_text(CSV)
    (tmp_path / "data" / "validation").symlink_to("../elsewhere")
    (tmp_path / "data" / "test.csv").symlink_to("../elsewhere/a.csv")
    return tmp_path / "data"


def names(data: Path) -> list[str]:
    files = find_files(str(data))
    return [file.path.removeprefix(f"{data}/") for file in files.files]


def test_links_to_directories_are_followed(linked: Path) -> None:
    assert names(linked) == ["test.csv", "train/a.csv", "validation/a.csv"]
    assert find_files(str(linked)).splits == ["test", "train", "validation"]
    for pattern in ("*/*.csv", "valid*/*.csv", "**/a.csv"):
        assert f"{linked}/validation/a.csv" in [file.path for file in find_files(str(linked / pattern)).files]
    (linked.parent / "link").symlink_to("data")
    assert names(linked.parent / "link") == names(linked)


def test_links_that_form_loops_end(linked: Path) -> None:
    (linked / "train" / "up").symlink_to("..")
    (linked / "train" / "self").symlink_to(".")
    (linked / "train" / "other").symlink_to("../../elsewhere")
    (linked.parent / "elsewhere" / "back").symlink_to("../data/train")
    (linked / "gone").symlink_to("nowhere")
    (linked.parent / "elsewhere" / "self").symlink_to(".")
    assert names(linked) == ["test.csv", "train/a.csv", "train/other/a.csv", "validation/a.csv"]
    assert len(find_files(str(linked / "**" / "*.csv")).files) == 4


def test_files_that_are_in_the_directory_anyway_are_listed_once(linked: Path) -> None:
    (linked / "latest").symlink_to("train")
    assert names(linked) == ["test.csv", "train/a.csv", "validation/a.csv"]
