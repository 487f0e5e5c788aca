"""Models and data of several kinds of task."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import tiny_language_models, tiny_models
from tests.cache_dirs import cached_in


@pytest.fixture(scope="module")
def tasks_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with the data `pairs`, `questions` and `texts`, the models `bert` and `llama`, and a cache."""
    folder = tmp_path_factory.mktemp("tasks")
    tiny_models.pairs_folder(folder / "pairs", 24, 20)
    tiny_models.questions_folder(folder / "questions", 24)
    tiny_models.model("bert", folder / "bert")
    tiny_language_models.data(folder / "texts")
    tiny_language_models.model("llama", folder / "llama")
    with cached_in(folder):
        yield folder
