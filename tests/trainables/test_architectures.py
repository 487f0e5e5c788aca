"""Every method on architectures with flattened tokens, inputs without a batch, and views changed in place."""

from __future__ import annotations

from pathlib import Path

import pytest

from autorank import methods
from autorank.method import TargetedConfig
from autorank.spec import TaskSpec, TrainingSpec, TrainSpec
from autorank.training.run import TrainingRun
from tests import tiny_models
from tests.architectures import architecture
from tests.trainables.cases import METHODS, STEPS

TARGETED = [name for name in METHODS if issubclass(methods.find(name).Config, TargetedConfig)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with data and a model of each architecture."""
    folder = tmp_path_factory.mktemp("architectures")
    tiny_models.pairs_folder(folder / "data", 16, 4)
    for name in ("opt", "deberta", "falcon"):
        architecture(name).save(folder / name)
    return folder


@pytest.mark.parametrize("model", ["opt", "deberta", "falcon"])
@pytest.mark.parametrize("method", TARGETED)
def test_methods_train_all_linear_layers(method: str, model: str, folder: Path, own_cache: Path) -> None:
    spec = TrainSpec(
        task=TaskSpec(name="pairs", data=folder / "data", text=("left", "right"), label="label"),
        model=str(folder / model), method=method, settings=METHODS[method].settings | {"targets": "all-linear"},
        training=TrainingSpec(steps=STEPS, batch_size=4, eval_every=STEPS, precision="fp32"),
    )  # fmt: skip
    (evaluation,) = TrainingRun(spec)
    assert evaluation.step == STEPS
    assert evaluation.train_loss == evaluation.train_loss  # not NaN
