"""Two workers, over gloo on the loopback, whose devices round differently: they start alike all the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from autorank.errors import AutorankError
from autorank.training.model_cache import ModelCache
from autorank.training.optimization import distributed
from autorank.training.run import TrainingRun
from tests.trainables.trained import cached_in, on_workers, results, spec, write_model, write_pairs

CPU = torch.device("cpu")
# method -> what it computes before training, on one worker only or of what all have
COMPUTED = {
    "eva": ("trainables.eva", "directions"),
    "pissa": ("trainables.pissa", "principal"),
    "gora": ("trainables.gora", "importances"),
    "gora-start": ("trainables.gora", "compressed"),
    "lora-drop": ("trainables.lora_drop", "output_squares"),
}


def otherwise(compute: Callable[..., Any]) -> Callable[..., Any]:
    """The computation on a device that gives other numbers: half of them, layers in reverse order."""

    def found(*args: Any) -> Any:
        made = compute(*args)
        if isinstance(made, Tensor):
            return made / 2
        return dict(zip(made, [values / 2 for values in reversed(made.values())], strict=True))

    return found


def train(folder: Path, name: str, cached: bool = False) -> dict[str, Any]:
    """A run on workers of which the second computes `otherwise`, and each has a cache of its own.

    cached: the second worker has left a result of its own in its cache.
    """
    module, function = COMPUTED[name]
    method, rank = name.removesuffix("-start"), distributed.rank()
    wanted = spec(folder, method, {"targets": "attention"}, steps=4)
    probes = folder / f"{name}-{cached}-{rank}"
    with pytest.MonkeyPatch.context() as patch:
        if rank:
            patch.setattr(f"{module}.{function}", otherwise(getattr(__import__(module, fromlist="x"), function)))
        if rank and cached:
            with alone():
                next(TrainingRun(wanted, ModelCache(CPU, probes)))
        run = TrainingRun(wanted, ModelCache(CPU, probes))
        evaluations = list(run)
    tensors = {name: p.detach().clone() for name, p in run._base.model.named_parameters() if p.requires_grad}
    return {"ranks": evaluations[-1].ranks, "tensors": tensors}


def alone() -> Any:
    """As if there were one worker."""
    patch = pytest.MonkeyPatch()
    patch.setattr(dist, "is_initialized", lambda: False)
    return _Undo(patch)


class _Undo:
    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch = patch

    def __enter__(self) -> None: ...

    def __exit__(self, *error: object) -> None:
        self._patch.undo()


def second_worker(folder: Path) -> dict[str, Any]:
    """What the second worker gets of several tensors, and of an error."""
    ours = float(distributed.rank() + 1)
    made = {"a": torch.full((2, 3), ours), "b": torch.tensor(ours, dtype=torch.float64), "none": torch.zeros(0, 4)}
    calls: list[int] = []
    found = distributed.once(lambda: calls.append(1) or made, CPU)

    def fail() -> dict[str, Tensor]:
        raise AutorankError("too few tokens")

    with pytest.raises(AutorankError, match="too few tokens"):
        distributed.once(fail, CPU)

    class Held(Exception):
        """Of a class that other processes do not know."""

    def refuse() -> dict[str, Tensor]:
        raise Held("out of handles")

    for make, said in ((refuse, "Held: out of handles"), (nothing_left, "Twofold: 3 of 4 left")):
        with pytest.raises(RuntimeError, match=said):
            distributed.once(make, CPU)
    return {"found": found, "calls": len(calls)}


class Twofold(Exception):
    """Goes into a pickle, but does not come out of it."""

    def __init__(self, left: int, of: int) -> None:
        super().__init__(f"{left} of {of} left")


def nothing_left() -> dict[str, Tensor]:
    raise Twofold(3, 4)


def jobs(folder: Path) -> dict[str, Callable[[], dict[str, Any]]]:
    found = {name: partial(train, folder, name) for name in COMPUTED}
    found |= {f"{name}-cached": partial(train, folder, name, True) for name in ("eva", "pissa", "lora-drop")}
    return found | {"told": partial(second_worker, folder)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    made = tmp_path_factory.mktemp("once")
    write_model(made / "model", dropout=0.0)
    write_pairs(made / "data", 32)
    with cached_in(made):
        on_workers(jobs, made, seconds=300)
        yield made


@pytest.mark.parametrize("name", [*COMPUTED, "eva-cached", "pissa-cached", "lora-drop-cached"])
def test_workers_start_alike_and_stay_so(name: str, folder: Path) -> None:
    first, second = results(folder, name)
    assert first["ranks"] == second["ranks"] and list(first["tensors"]) == list(second["tensors"])
    assert all(torch.equal(values, second["tensors"][name]) for name, values in first["tensors"].items())


def test_workers_receive_the_first_workers_values(folder: Path) -> None:
    first, second = results(folder, "told")
    assert (first["calls"], second["calls"]) == (1, 0)
    for name, values in first["found"].items():
        assert torch.equal(values, second["found"][name]) and values.dtype == second["found"][name].dtype
    assert first["found"]["a"].eq(1).all() and first["found"]["none"].shape == (0, 4)


def test_a_single_worker_returns_its_own_values() -> None:
    values = {"a": torch.ones(1)}
    assert distributed.once(lambda: values, CPU) is values
