"""Base models: loaded with a new head for a task, kept clean between runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel

from autorank.errors import AutorankError
from autorank.modeling import adapters
from autorank.modeling.hub import hub_access

HEADS = ("classifier", "score")  # the heads' names in transformers' sequence classifiers; PEFT trains these too


@dataclass
class BaseModel:
    """A frozen base with a trainable head, which can be given back clean after any training.

    Attributes:
        model: the transformers model.
        new: parameters that the checkpoint does not have (classifier, DeBERTa's pooler): drawn anew for each seed.
        head: parameters that always train: the new ones and the classifier.
        std: standard deviation of new weights, the architecture's `initializer_range`.
    """

    model: PreTrainedModel
    new: frozenset[str]
    head: tuple[str, ...]
    std: float
    _clean: dict[nn.Parameter, torch.Tensor] = field(default_factory=dict)  # as loaded, of whatever was unfrozen

    @property
    def head_params(self) -> int:
        return sum(self.model.get_parameter(name).numel() for name in self.head)

    @property
    def head_modules(self) -> list[str]:
        """The modules that hold the head: what PEFT calls modules_to_save."""
        return sorted({owner(name) for name in self.head})

    def reset(self, seed: int) -> None:
        """Back to what was loaded, with a head drawn from `seed`; equal to a fresh load in a fresh process."""
        adapters.detach_all(self.model)
        self.model.requires_grad_(False)
        for parameter, values in self._clean.items():
            parameter.data, parameter.grad = values, None
        self._clean.clear()
        self.unfreeze(self.head)
        self.draw_head(seed)

    def unfreeze(self, names: Iterable[str]) -> None:
        """Let these parameters train, in float32."""
        for name in names:
            parameter = self.model.get_parameter(name)
            self._clean.setdefault(parameter, parameter.data.clone())
            parameter.data = parameter.data.float()
            parameter.requires_grad_(True)

    def check_unfrozen(self) -> None:
        """That what trains of the base was unfrozen here, for only that is given back clean."""
        factors = {id(p) for layer in adapters.adapted(self.model).values() for p in layer.update.parameters()}
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad and parameter not in self._clean and id(parameter) not in factors:
                raise RuntimeError(f"{name} trains, but was not unfrozen by BaseModel.unfreeze")

    @torch.no_grad()
    def draw_head(self, seed: int) -> None:
        """Head as at the start of a run: new parameters drawn from `seed` (weights normal, biases zero), others loaded.

        The values are drawn on the CPU, so that a seed means the same on every device.
        """
        generator = torch.Generator().manual_seed(seed)
        for name in self.head:
            parameter = self.model.get_parameter(name)
            if name not in self.new:
                parameter.copy_(self._clean[parameter])
            elif name.endswith("bias"):
                parameter.zero_()
            elif parameter.ndim == 1:  # a normalisation's gain
                parameter.fill_(1.0)
            else:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * self.std)


def load(model: str, outputs: int, dtype: torch.dtype = torch.float32, device: str = "cpu") -> BaseModel:
    """A sequence classifier with `outputs` outputs (1 for regression) from a folder or the Hub.

    The frozen weights are kept in `dtype`; what trains is float32.

    Raises:
        AutorankError: there is no such model, the Hub is out of reach, or the model cannot classify sequences.
    """
    from transformers import AutoModelForSequenceClassification

    # the library draws the head that `reset` draws again; the process's own random numbers are not its to use
    with hub_access("model", model), _quiet(), torch.random.fork_rng(devices=[]):
        loaded, info = AutoModelForSequenceClassification.from_pretrained(
            model, num_labels=outputs, dtype=dtype, output_loading_info=True, ignore_mismatched_sizes=True,
            trust_remote_code=False,
        )  # fmt: skip
    names = dict(loaded.named_parameters())
    new = {name for name in info["missing_keys"] if name in names}
    new |= {key[0] for key in info["mismatched_keys"]}
    head = tuple(name for name in names if name in new or name.split(".")[0] in HEADS)
    _refuse_new_backbone(model, new)
    base = BaseModel(loaded.to(device), frozenset(new), head, getattr(loaded.config, "initializer_range", 0.02))
    base.reset(seed=0)
    return base


def meta_model(model: str, outputs: int = 2) -> nn.Module:
    """The model's structure on the meta device: shapes without weights.

    Raises:
        AutorankError: as `load`.
    """
    from transformers import AutoConfig, AutoModelForSequenceClassification

    with hub_access("model", model):
        config = AutoConfig.from_pretrained(model, num_labels=outputs, trust_remote_code=False)
        with torch.device("meta"):
            built: nn.Module = AutoModelForSequenceClassification.from_config(config)
    return built


def owner(name: str) -> str:
    """The module that holds a parameter; for a head's the whole head: `bert.pooler` of `bert.pooler.dense.weight`."""
    path = name.split(".")[:-1]
    known = [i for i, part in enumerate(path) if part in (*HEADS, "pooler")]
    return ".".join(path[: known[0] + 1] if known else path)


def _refuse_new_backbone(model: str, new: set[str]) -> None:
    """A checkpoint that lacks whole layers is another architecture's, and training on noise must not pass unseen."""
    missing = sorted(name for name in new if any(part.isdigit() for part in name.split(".")))
    if missing:
        raise AutorankError(
            f"Model {model!r} lacks weights of its own layers ({len(missing)}, among them {missing[0]}). "
            "Its config.json and its weights do not belong together; give a complete model."
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' bars and its report of new weights, which are meant to be new."""
    from transformers.utils import logging

    level: Any = logging.get_verbosity()
    bars = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
