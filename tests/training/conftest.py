"""Models and data of several kinds of task."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import texts, tiny
from tests.caches import cached_in


@pytest.fixture(scope="module")
def tasks_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with the data `pairs`, `questions` and `texts`, the models `bert` and `llama`, and a cache."""
    folder = tmp_path_factory.mktemp("tasks")
    tiny.pairs_folder(folder / "pairs", 24, 20)
    tiny.questions_folder(folder / "questions", 24)
    tiny.model("bert", folder / "bert")
    texts.data(folder / "texts")
    texts.model("llama", folder / "llama")
    with cached_in(folder):
        yield folder
