"""Evaluations and trials as a journal stores them: rank maps and slices without the layers' names, which are shared."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from autorank.training.evaluation import MASKS_KEY, Evaluation
from autorank.trials.record import State, TrialRecord
from autorank.trials.snapshot import ConfirmationKey

STATES: dict[TrialState, State] = {
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}
EVALUATION = "evaluation:"  # + step
CONFIRMED = "confirmed:"  # + trial:step:parameters:seed: a study's user attribute
GENERATION_SUFFIX = ":generation"  # ends the keys under which Optuna's genetic samplers note a trial's


class PackedMasks(Mapping[str, int]):
    """Layer name -> bit mask, as one number: a search may have a hundred thousand slices of hundreds of layers.

    Args:
        names: Layer names; equal tuples are shared.
        text: The masks as `pack` returns them.
    """

    __slots__ = ("_names", "_number", "_width")

    def __init__(self, names: tuple[str, ...], text: str) -> None:
        width, _, number = text.partition(":")
        self._names, self._width, self._number = names, int(width), int.from_bytes(base64.b64decode(number), "little")

    @staticmethod
    def pack(masks: Iterable[int]) -> str:
        """Return `width:number`: bits of the widest mask, and all masks in little-endian base64, the first lowest."""
        masks = list(masks)
        width = max((mask.bit_length() for mask in masks), default=0)
        number = sum(mask << width * index for index, mask in enumerate(masks))
        return f"{width}:{base64.b64encode(number.to_bytes(-(-number.bit_length() // 8), 'little')).decode()}"

    def __getitem__(self, name: str) -> int:
        try:
            index = self._names.index(name)
        except ValueError:
            raise KeyError(name) from None
        return self._number >> self._width * index & (1 << self._width) - 1

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        return repr(dict(self))


class EvaluationSerializer:
    """Converts evaluations to plain values and back.

    Layer names are stored once, in `layers`: a rank map with the names of 72 modules would add 4 kB to each evaluation.

    Args:
        layers: Lists of module names, as they were stored.
    """

    def __init__(self, layers: list[list[str]]) -> None:
        self._layers = [tuple(names) for names in layers]
        self._maps: dict[tuple[int, tuple[int, ...]], dict[str, int]] = {}

    def write(self, evaluation: Evaluation) -> tuple[dict[str, Any], list[list[str]] | None]:
        """Row of an evaluation, and all lists of layer names if it adds one; store the lists before the row."""
        names = tuple(evaluation.ranks)
        new = names not in self._layers
        layers = [*self._layers, names] if new else self._layers
        row = evaluation.to_dict() | {"layers": layers.index(names), "ranks": list(evaluation.ranks.values())}
        for slice_ in row["slices"]:
            slice_[MASKS_KEY] = PackedMasks.pack(slice_[MASKS_KEY][name] for name in names)
        if not evaluation.slices:
            del row["slices"]
        return row, [list(layer_names) for layer_names in layers] if new else None

    def shared(self, evaluation: Evaluation) -> Evaluation:
        """The same evaluation, once it is stored, with a rank map that all equal ones share, without predictions."""
        names = tuple(evaluation.ranks)
        if names not in self._layers:
            self._layers.append(names)
        layers = self._layers.index(names)
        names = self._layers[layers]
        slices = tuple(
            replace(
                slice_,
                component_masks=PackedMasks(names, PackedMasks.pack(slice_.component_masks[name] for name in names)),
            )
            for slice_ in evaluation.slices
        )
        ranks = self._map(layers, evaluation.ranks.values())
        return replace(evaluation, ranks=ranks, slices=slices, predictions=b"")

    def read(self, trial: FrozenTrial) -> TrialRecord:
        """A trial from its attributes."""
        attributes = trial.user_attrs
        rows = [value for key, value in attributes.items() if key.startswith(EVALUATION)]
        evaluations = tuple(sorted(map(self._evaluation, rows), key=lambda evaluation: evaluation.step))
        state = STATES[trial.state]
        sampler_values = attributes.get("sampler_values")
        check_numbers(dict(enumerate(sampler_values or ())), *range(len(sampler_values or ())))
        return TrialRecord(
            number=trial.number,
            method=attributes["method"],
            settings=attributes["settings"],
            state=state,
            evaluations=evaluations,
            reason=attributes.get("reason") if state in ("failed", "pruned") else None,
            seconds=evaluations[-1].seconds if evaluations else 0.0,
            started=trial.datetime_start.timestamp() if trial.datetime_start else 0.0,
            ended=trial.datetime_complete.timestamp() if trial.datetime_complete else 0.0,
            baseline=attributes.get("baseline", False),
            fixed=attributes.get("fixed", False),
            sampled=trial.params,
            sampler_values=None if sampler_values is None or state == "failed" else tuple(sampler_values),
            stop_reason=max(rows, key=lambda row: row["step"]).get("stop_reason") if rows else None,
            sampler_attributes={
                key: value for key, value in trial.system_attrs.items() if key.endswith(GENERATION_SUFFIX)
            },
            retries=attributes.get("retries", 0),
            reduced_micro_batch=attributes.get("reduced_micro_batch", 0),
            finished=any("last" in row for row in rows),
        )

    def _evaluation(self, row: dict[str, Any]) -> Evaluation:
        values = dict(row)
        layers = values.pop("layers")
        for note in ("last", "stop_reason"):
            values.pop(note, None)
        for numbers in (values, *values.get("slices", ())):
            check_numbers(numbers, "adapter_params", "score")
        check_numbers(values, "step", "seconds")
        slices = [
            slice_ | {MASKS_KEY: PackedMasks(self._layers[layers], slice_[MASKS_KEY])}
            for slice_ in values.get("slices", ())
        ]
        return Evaluation.from_dict(values | {"ranks": self._map(layers, values["ranks"]), "slices": slices})

    def _map(self, layers: int, ranks: Any) -> dict[str, int]:
        key = layers, tuple(ranks)
        if key not in self._maps:
            self._maps[key] = dict(zip(self._layers[layers], key[1], strict=True))
        return self._maps[key]


def confirmations(attributes: Mapping[str, Any]) -> dict[ConfirmationKey, dict[str, Any]]:
    """Results of retrained points by key, from a study's user attributes."""
    results = {}
    for key, value in attributes.items():
        if key.startswith(CONFIRMED):
            trial, step, params, seed = map(int, key.removeprefix(CONFIRMED).split(":"))
            check_numbers(value, *({"score", "adapter_params"} & set(value)))
            results[trial, step, params, seed] = value
    return results


def check_numbers(values: Mapping[Any, Any], *keys: Any) -> None:
    """Check that some values are numbers, which a journal that was edited may lack.

    Raises:
        ValueError: One of them is not.
    """
    for key in keys:
        if type(values[key]) not in (int, float):
            raise ValueError(f"{key} is {values[key]!r}, not a number")


def reference_point(values: Sequence[float]) -> tuple[float, float]:
    """Return the reference point of the hypervolume from a study's user attribute.

    Raises:
        ValueError: It is not (parameters, score), with more than 0 parameters and a score below 1.
    """
    params, score = values
    check_numbers({"reference parameters": params, "reference score": score}, "reference parameters", "reference score")
    if not (params > 0 and score < 1):
        raise ValueError(f"its reference point is {params}, {score}")
    return params, score
