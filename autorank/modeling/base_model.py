"""Base models: loaded with a new head for a task, kept clean between runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

from autorank.errors import AutorankError
from autorank.modeling import adapters
from autorank.modeling.hub_access import hub_access
from autorank.modeling.quantization import four_bit
from autorank.modeling.remote_code import trusted

# The heads' names in transformers' sequence classifiers (DistilBERT's has two parts; BART's and T5's is the last).
HEADS = ("classifier", "score", "pre_classifier", "classification_head", "qa_outputs")


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
        """Let these parameters train, in float32.

        Raises:
            AutorankError: one of them is quantised.
        """
        for name in names:
            parameter = self.model.get_parameter(name)
            if not parameter.is_floating_point():
                raise AutorankError(f"{name} is quantised and cannot train. Use another method, or no --quantize.")
            module = self.model.get_submodule(name.rpartition(".")[0])
            # a normalisation wants its gain and its bias of one type, be one of them frozen
            for vector in (p for p in module.parameters(recurse=False) if p.ndim == 1):
                self._widen(vector)
            self._widen(parameter)
            parameter.requires_grad_(True)

    def _widen(self, parameter: nn.Parameter) -> None:
        """In float32, with what was loaded kept aside."""
        self._clean.setdefault(parameter, parameter.data.clone())
        parameter.data = parameter.data.float()

    def check_unfrozen(self) -> None:
        """That what trains of the base was unfrozen here, for only that is given back clean."""
        added = adapters.added(self.model)
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad and parameter not in self._clean and name not in added:
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


def load(
    model: str,
    outputs: int,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    kind: str = "classification",
    quantize: str | None = None,
) -> BaseModel:
    """A model for a kind of task from a folder or the Hub, its head `outputs` wide (0: it needs none of its own).

    The frozen weights are kept in `dtype`, or with `quantize` in 4 bits; what trains is float32.

    Raises:
        AutorankError: there is no such model, the Hub is out of reach, or the model is of no use for such tasks.
    """
    # the library draws the head that `reset` draws again; the process's own random numbers are not its to use
    with hub_access("model", model), quiet(), torch.random.fork_rng(devices=[]):
        config = _config(model, outputs)
        packed: dict[str, Any] = {}
        if quantize:
            packed = {"quantization_config": four_bit(dtype, (*HEADS, "pooler", "lm_head")), "device_map": {"": device}}
        loaded, info = auto_class(kind, config).from_pretrained(
            model, config=config, **packed, dtype=dtype, output_loading_info=True, ignore_mismatched_sizes=True,
            trust_remote_code=trusted(),
        )  # fmt: skip
    names = dict(loaded.named_parameters())
    new = {name for name in info["missing_keys"] if name in names}
    new |= {key[0] for key in info["mismatched_keys"]}
    head = tuple(name for name in names if name in new or name.split(".")[0] in HEADS)
    _refuse_new_backbone(model, new)
    if kind == "generation" and new:
        raise AutorankError(
            f"Model {model!r} lacks weights that a model needs to write texts ({min(new)}). Give a language model with "
            "its output layer, not a backbone alone."
        )
    placed = loaded if quantize else loaded.to(device)
    base = BaseModel(placed, frozenset(new), head, getattr(loaded.config, "initializer_range", 0.02))
    base.reset(seed=0)
    return base


def meta_model(model: str, outputs: int = 2, kind: str = "classification") -> nn.Module:
    """The model's structure on the meta device: shapes without weights.

    Raises:
        AutorankError: as `load`.
    """
    with hub_access("model", model):
        config = _config(model, outputs)
        with torch.device("meta"):
            built: nn.Module = auto_class(kind, config).from_config(config, trust_remote_code=trusted())
    return built


def owner(name: str) -> str:
    """The module that holds a parameter; for a head's the whole head: `bert.pooler` of `bert.pooler.dense.weight`."""
    path = name.split(".")[:-1]
    known = [i for i, part in enumerate(path) if part in (*HEADS, "pooler")]
    return ".".join(path[: known[0] + 1] if known else path)


def headless(model: nn.Module) -> tuple[dict[str, nn.Parameter], dict[str, nn.Parameter]]:
    """Name -> parameter, of all that are in no head whatever the checkpoint, and of those that may be in none.

    A pooler, or part of a classifier under another name than `HEADS`, is in the head if the checkpoint lacks it.

    Args:
        model: on any device, the meta device too.
    """
    prefix = f"{getattr(model, 'base_model_prefix', '')}."
    most = {name: p for name, p in model.named_parameters() if name.split(".")[0] not in HEADS}
    fewest = {name: p for name, p in most.items() if name.startswith(prefix) and "pooler" not in name.split(".")}
    return fewest, most


def _config(model: str, outputs: int) -> PreTrainedConfig:
    """The model's config, for a head of `outputs` outputs."""
    from transformers import AutoConfig

    head = {"num_labels": outputs} if outputs else {}
    config: PreTrainedConfig = AutoConfig.from_pretrained(model, trust_remote_code=trusted(), **head)
    return config


def auto_class(kind: str, config: PreTrainedConfig) -> Any:
    """transformers' class that loads a model with the head for a kind of task.

    Raises:
        AutorankError: there is none for models of this type.
    """
    import transformers

    if kind == "generation":
        name, able = "AutoModelForCausalLM", "LLaMA, Qwen, GPT-2"
        if getattr(config, "is_encoder_decoder", False):
            name, able = "AutoModelForSeq2SeqLM", "BART, T5"
    elif kind == "span":
        name, able = "AutoModelForQuestionAnswering", "BERT, RoBERTa, DeBERTa, ELECTRA, ModernBERT"
    else:
        name, able = "AutoModelForSequenceClassification", "BERT, RoBERTa, DeBERTa, ModernBERT, LLaMA, Qwen, BART, T5"
    found = getattr(transformers, name)
    if trusted() and name in (getattr(config, "auto_map", None) or {}):
        return found  # the model brings the class along
    if name == "AutoModelForCausalLM" and type(config) in transformers.AutoModelForMaskedLM._model_mapping:
        raise AutorankError(
            f"The model is an encoder ({config.model_type!r}): each token sees those after it, so it cannot write. "
            f"Give another --model: {able}, BART, T5 or others."
        )
    if type(config) not in found._model_mapping:
        raise AutorankError(
            f"The model is of type {config.model_type!r}, and transformers has no {name} of that type, which a "
            f"{kind} task needs. Give another --model: {able} or others."
        )
    return found


def _refuse_new_backbone(model: str, new: set[str]) -> None:
    """A checkpoint that lacks whole layers is another architecture's, and training on noise must not pass unseen."""
    missing = sorted(name for name in new if any(part.isdigit() for part in name.split(".")))
    if not missing:
        return
    remedy = "Its config.json and its weights do not belong together; give a complete model."
    if all(".decoder." in f".{name}" for name in missing):
        remedy = "It is an encoder alone, and this architecture classifies texts with encoder and decoder; give both."
    raise AutorankError(
        f"Model {model!r} lacks weights of its own layers ({len(missing)}, among them {missing[0]}). {remedy}"
    )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
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
