"""Models with random weights, random examples, and runs over them, without files, tokenizers or network."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from autorank import methods
from autorank.method import TargetedConfig
from autorank.modeling.base_model import BaseModel, widen_norms
from autorank.modeling.heads import Head
from autorank.spec import TaskSpec, TrainingSpec, TrainSpec
from autorank.tasks import TASKS
from autorank.tasks.data.pairs import Pairs
from autorank.tasks.definition import TaskData
from autorank.tasks.metrics.labels import METRICS
from autorank.tasks.splits.tokenized import Split
from autorank.training.model_cache import ModelCache
from autorank.training.run import TrainingRun

# class of the backbone in transformers -> settings that all its sizes share
FAMILIES: dict[str, dict[str, Any]] = {
    "Bert": {},
    "Roberta": {"max_position_embeddings": 514, "type_vocab_size": 1},
    "DebertaV2": {
        "relative_attention": True, "position_buckets": 256, "share_att_key": True, "norm_rel_ebd": "layer_norm",
        "pos_att_type": ["p2c", "c2p"], "position_biased_input": False, "type_vocab_size": 0,
    },
    "Llama": {"tie_word_embeddings": True, "bos_token_id": 2, "eos_token_id": 3, "max_position_embeddings": 2048},
}  # fmt: skip
BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
TINY = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
# name -> family and size; those of base models have the published shapes
SHAPES: dict[str, tuple[str, dict[str, int]]] = {
    "tiny-bert": ("Bert", TINY | {"vocab_size": 100}),
    "tiny-deberta": ("DebertaV2", TINY | {"vocab_size": 100}),
    "tiny-llama": ("Llama", TINY | {"vocab_size": 100, "num_key_value_heads": 2}),
    "roberta-base": ("Roberta", BASE | {"vocab_size": 50265}),
    "deberta-v3-base": ("DebertaV2", BASE | {"vocab_size": 128100}),
    "llama-1b": (
        "Llama",
        {
            "hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8,
            "intermediate_size": 8192, "vocab_size": 128256,
        },
    ),
}  # fmt: skip
END = 10**6  # end token of generated texts; in no vocabulary, so that all texts have full length
AGREEMENT = "agreement"  # accuracy without torchmetrics
METRICS[AGREEMENT] = lambda predictions, labels, _: (predictions == labels).double().mean()


@dataclass(frozen=True)
class Options:
    """How a part runs.

    Attributes:
        device: Where models are trained.
        tiny: Use tiny models in place of those of true shapes.
        deadline: Value of `time.monotonic` at which no further case starts.
    """

    device: torch.device
    tiny: bool
    deadline: float

    @property
    def late(self) -> bool:
        """Whether the time is up."""
        return time.monotonic() > self.deadline

    @property
    def cuda(self) -> bool:
        """Whether the device is a GPU."""
        return self.device.type == "cuda"


def examples(count: int, shortest: int, longest: int, seed: int = 0) -> Split:
    """Random classification examples of two classes; the first has the full length."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(shortest, longest + 1, count)
    lengths[0] = longest
    ids = rng.integers(5, 100, lengths.sum()).astype(np.int32)
    return Split(ids, None, np.concatenate([[0], lengths.cumsum()]), rng.integers(0, 2, count))


def pairs(count: int, prompt: int, completion: int, seed: int = 0) -> Pairs:
    """Random prompts and completions of these lengths."""
    rng = np.random.default_rng(seed)
    ids, targets = (rng.integers(5, 100, count * size).astype(np.int32) for size in (prompt, completion))
    offsets, target_offsets = (np.arange(0, count * size + 1, size) for size in (prompt, completion))
    texts = [["reference"]] * count
    return Pairs(
        ids, None, offsets, np.arange(count), texts, target_ids=targets, target_offsets=target_offsets
    )  # fmt: skip


def task_data(train: Split, validation: Split) -> TaskData:
    """A task with these splits: text to text for pairs, else classification."""
    name, metric = ("e2e", "exact_match") if isinstance(train, Pairs) else ("mrpc", AGREEMENT)
    tokenizer = SimpleNamespace(eos_token_id=END, decode=lambda ids, **_: " ".join(map(str, ids)))
    return TaskData(
        replace(TASKS[name], metrics=(metric,)),
        train,
        {"validation": validation},
        digest="random",
        pad_id=0,
        tokenizer=tokenizer,
        ends=(END,),
    )


class RandomCache(ModelCache):
    """A model cache with random weights and given data.

    Args:
        shape: Name in `SHAPES`.
        data: The task's data.
        device: Device of the model.
        folder: Directory for what methods keep.
    """

    def __init__(self, shape: str, data: TaskData, device: torch.device, folder: Path) -> None:
        super().__init__(device, folder)
        self._shape, self._task_data = shape, data
        self._random: tuple[torch.dtype, BaseModel] | None = None

    def data(self, task: TaskSpec, model: str) -> TaskData:
        """The given data."""
        return self._task_data

    def fingerprint(self, model: str) -> str:
        """The name of the shape."""
        return self._shape

    def base(self, model: str, head: Head, outputs: int, dtype: torch.dtype, quantize: str | None = None) -> BaseModel:
        """The model with random weights, equal on every device."""
        if self._random is None or self._random[0] != dtype:
            self._random = None  # free the old one first
            self._random = dtype, random_base(self._shape, head, dtype, self.device)
            widen_norms(self._random[1].model)
        return self._random[1]


def random_base(shape: str, head: Head, dtype: torch.dtype, device: torch.device) -> BaseModel:
    """A model of this shape with random weights and no dropout, which are drawn on the CPU if it is tiny."""
    import transformers as t

    family, size = SHAPES[shape]
    config = getattr(t, f"{family}Config")(**FAMILIES[family] | size | {"pad_token_id": 0})
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
        if hasattr(config, name):
            setattr(config, name, 0.0)
    name = "ForCausalLM" if head.generates else "ForSequenceClassification"
    torch.manual_seed(0)
    with torch.device("cpu" if shape.startswith("tiny") else device):
        model = getattr(t, f"{family}{name}")(config)
    if shape.startswith("tiny"):  # larger weights, so that gradients are well above rounding
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.data *= 4
    parts = ("classifier", "score", "pooler")
    names = tuple(name for name, _ in model.named_parameters() if any(part in name.split(".") for part in parts))
    return BaseModel(model.to(device, dtype), frozenset(names), names, 0.02)


def train_spec(method: str, settings: dict[str, Any], task: str = "mrpc", **training: Any) -> TrainSpec:
    """A run of a method, on all linear layers if it has targets."""
    if issubclass(methods.find(method).Config, TargetedConfig):
        settings = {"targets": "all-linear"} | settings
    return TrainSpec(
        task=TaskSpec(name=task), method=method,
        settings={"learning_rate": 1e-3} | settings, training=TrainingSpec(**training),
    )  # fmt: skip


def losses(run: TrainingRun, evaluations: int | None = None) -> list[float]:
    """Train to the end, or for `evaluations` evaluations, and return the mean loss before each evaluation."""
    count = evaluations or 1 << 30
    return [evaluation.train_loss for _, evaluation in zip(range(count), run, strict=False)]
