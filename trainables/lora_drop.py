"""LoRA-drop: layers with a large LoRA output keep their own LoRA; the others of the same kind share one.

Zhou et al. 2024, "LoRA-drop: Efficient LoRA Parameter Pruning based on Output Evaluation" (arXiv 2402.07721,
COLING 2025). There is no published code. What the paper does not specify is marked "ours".

  1. Probe: LoRA on every layer is trained on a stratified tenth of the training set for three epochs.
  2. The importance of layer i among the layers of its kind (query, value, ...) is I_i = g_i / Σ_j g_j with
     g_i = Σ ‖ΔW_i x‖² over the probe's examples (eq. 2 and 3), summed over all tokens except padding (ours), in
     evaluation mode after the last epoch (ours). Scale and batch size cancel in I.
  3. Layers are selected in descending order of importance until their I sums to the threshold; the layer that reaches
     it is included.
  4. The model is trained with all data: selected layers have their own LoRA, the others of a kind share one. Head and
     updates are initialized again from the run's seed (ours; with `start: warm`, selected layers continue with the
     probe's values).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from typing_extensions import override

from autorank import cache
from autorank.errors import AutorankError
from autorank.method import AllocationMethod
from autorank.modeling.adapters import adapted, attach, detach_all
from autorank.modeling.devices import double
from autorank.modeling.layers.lora_layer import LowRankUpdate
from autorank.modeling.layers.position_queries import TokenInputs
from autorank.modeling.target_modules import features, kind, shapes
from autorank.run_context import RunContext
from autorank.tasks.data.batches import TOKEN_MASKS, first_tokens, token_mask
from autorank.tasks.splits.stratified import stratified
from trainables.cached_tensors import save
from trainables.lora import UniformConfig, new_update

VERSION = 2  # of the importance; part of the cache's key


class LoRADropConfig(UniformConfig):
    """LoRA-drop's settings, including LoRA's."""

    threshold: float = Field(
        0.9, gt=0, le=1, description="share of importance that the layers of a kind with their own LoRA reach together"
    )
    probe_ratio: float = Field(0.1, gt=0, le=1, description="fraction of the training set used by the probe")
    probe_epochs: int = Field(3, ge=1, description="epochs of the probe")
    tokens: Literal["all", "first"] = Field("all", description="tokens whose output determines the importance (ours)")
    start: Literal["fresh", "warm"] = Field(
        "fresh", description="initial values of the layers' own updates: new ones, or the probe's (ours)"
    )
    ablation: Literal["none", "no-sharing", "inverse", "random", "top-k"] = Field(
        "none",
        description="table 5; no-sharing: the other layers get no LoRA; inverse, random, top-k: as many layers keep "
        "their own LoRA, but the least important ones, random ones, or those nearest to the output",
    )


class LoRADrop(AllocationMethod[LoRADropConfig]):
    """LoRA for the layers with a large output, and one shared LoRA per kind for the others."""

    name = "lora-drop"
    summary = "Layers with a large LoRA output keep their own LoRA; the others share one"
    source = "Zhou et al. 2024, arXiv 2402.07721"
    Config: ClassVar[type[LoRADropConfig]] = LoRADropConfig

    @override
    def prepare(self, run: RunContext) -> None:
        importance, probed = self._probe(run)
        generator = np.random.default_rng(run.seed)
        for members in groups({name: features(layer) for name, layer in run.layers.items()}).values():
            kept = self._choose(members, importance, generator)
            self._attach(run, members, kept, probed)

    def _choose(self, members: list[str], importance: dict[str, float], generator: np.random.Generator) -> set[str]:
        kept = select([importance[name] for name in members], self.config.threshold)
        match self.config.ablation:
            case "inverse":
                kept = select([importance[name] for name in members], self.config.threshold, smallest=True)
            case "random":
                kept = [int(i) for i in generator.choice(len(members), len(kept), replace=False)]
            case "top-k":
                kept = list(range(len(members) - len(kept), len(members)))
        return {members[i] for i in kept}

    def _attach(self, run: RunContext, members: list[str], kept: set[str], probed: dict[str, Tensor]) -> None:
        """Attach an update to each layer in `kept` and one shared update to the others; none with `no-sharing`."""
        shared: LowRankUpdate | None = None
        for name in members:
            if name in kept:
                update = self._new(run, name)
                if self.config.start == "warm":
                    update.A.data.copy_(probed[f"{name}.A"])
                    update.B.data.copy_(probed[f"{name}.B"])
            elif self.config.ablation == "no-sharing":
                continue
            else:
                shared = update = shared or self._new(run, name)
            attach(run.model, name, update, self.config.dropout)

    def _new(self, run: RunContext, name: str) -> LowRankUpdate:
        return new_update(features(run.layers[name]), self.config.rank, self.config.alpha, run)

    def _probe(self, run: RunContext) -> tuple[dict[str, float], dict[str, Tensor]]:
        """The importance of each layer and the probe's factors, from the cache if it has the same probe.

        Head and random numbers are reset afterwards, so the run does not depend on whether the probe was cached.
        """
        from safetensors.torch import load_file

        file = run.cache / f"lora-drop-{self._probe_key(run)}.safetensors"
        # the first worker reads the cache for all; if it is empty, all workers train the probe
        values = run.once(lambda: load_file(file, device=str(run.device)) if file.exists() else {})
        if not values:
            trained = self._train_probe(run)
            values = run.once(lambda: trained)
            save(values, file)
        run.generator.manual_seed(run.seed)
        return dict(zip(run.layers, values.pop("importance").tolist(), strict=True)), values

    def _probe_key(self, run: RunContext) -> str:
        """A digest of everything that the probe depends on; threshold and ablation are not part of it."""
        settings = self.config.model_dump(exclude={"threshold", "ablation"})
        return cache.key([run.key, run.seed, settings, VERSION])

    def _train_probe(self, run: RunContext) -> dict[str, Tensor]:
        for name in run.layers:
            attach(run.model, name, self._new(run, name), self.config.dropout)
        sample = stratified(run.labels, self.config.probe_ratio, run.seed)
        run.train_on(sample, self.config.probe_epochs)
        squares = output_squares(run, sample, self.config.tokens)
        if not all(math.isfinite(total) for total in squares.values()):
            raise AutorankError(
                f"LoRA-drop's probe diverged. Use a lower learning_rate (now {self.config.learning_rate:g})."
            )
        values = {"importance": torch.tensor([squares[name] for name in run.layers], dtype=torch.float64)}
        if self.config.start == "warm":
            for name, layer in adapted(run.model).items():
                values |= {f"{name}.A": layer.update.A.detach().clone(), f"{name}.B": layer.update.B.detach().clone()}
        detach_all(run.model)
        run.base.draw_head(run.seed)
        return values

    @classmethod
    @override
    def adapter_params(cls, config: LoRADropConfig, model: nn.Module) -> tuple[int, int]:
        """From one selected layer per kind to ⌈T·L⌉ of its L layers, which is the case if all are equally important."""
        fewest = most = 0
        for (_, shape), members in groups(shapes(model, config.targets)).items():
            layers, size = len(members), config.rank * sum(shape)
            shared = 0 if config.ablation == "no-sharing" else 1
            high = math.ceil(config.threshold * layers - 1e-9)
            low = layers if config.threshold >= 1 else 1
            fewest += size * min(layers, low + shared)
            most += size * min(layers, high + shared)
        return fewest, most


def groups(layers: Mapping[str, tuple[int, int]]) -> dict[tuple[str, tuple[int, int]], list[str]]:
    """Return the layers that can share an update: those of equal kind and shape, in the model's order."""
    members: dict[tuple[str, tuple[int, int]], list[str]] = defaultdict(list)
    for name, shape in layers.items():
        members[kind(name), shape].append(name)
    return members


def select(squares: Sequence[float], threshold: float, smallest: bool = False) -> list[int]:
    """Select layers in descending order of importance until they reach a share of the total (item 3 of the method).

    Args:
        squares: g of each layer.
        threshold: The share. Ties go to the earlier layer.
        smallest: Select as many of the least important layers instead (the paper's ablation "inv").

    Returns:
        The indices of the selected layers in ascending order.
    """
    order = sorted(range(len(squares)), key=lambda i: -squares[i])
    reached = np.cumsum([squares[i] for i in order])
    total = reached[-1]
    if threshold >= 1 or total <= 0:
        count = len(order)
    else:
        count = int(np.searchsorted(reached, threshold * total * (1 - 1e-12))) + 1
    return sorted(order[-count:] if smallest else order[:count])


def output_squares(run: RunContext, examples: np.ndarray, tokens: Literal["all", "first"]) -> dict[str, float]:
    """Compute g of eq. 2.

    Args:
        run: The run, with an update on every layer.
        examples: Indices of the examples.
        tokens: All tokens except padding, or only the first token of each example.

    Returns:
        Layer name -> Σ ‖ΔW x‖².
    """
    sums = {name: torch.zeros((), dtype=torch.float64) for name in adapted(run.model)}
    seen: dict[str, Tensor] = {}
    token_inputs = TokenInputs(run.model)

    def before(batch: dict[str, Tensor]) -> None:
        token_inputs.begin()
        seen.update(batch)
        if tokens == "first":
            masks = {name: batch[name] for name in TOKEN_MASKS if name in batch}
            seen.update({name: first_tokens(mask) for name, mask in masks.items()})

    def add(name: str) -> object:
        def hook(update: nn.Module, inputs: tuple[Tensor, Tensor], _: Tensor) -> None:
            assert isinstance(update, LowRankUpdate)
            if not token_inputs.next_is_tokens(name):
                return
            squares = update.output(inputs[0]).float().square().sum(-1)  # batch x seq, or tokens
            mask = token_mask(seen, squares.shape)
            if tokens == "first" and mask.ndim > 1:
                mask = first_tokens(mask)
            sums[name] += double(squares * mask).sum().cpu()

        return hook

    with ExitStack() as hooks:
        for name, layer in adapted(run.model).items():
            hooks.enter_context(layer.update.register_forward_hook(add(name)))  # type: ignore[arg-type]
        run.observe(examples, before)
    return {name: float(total) for name, total in sums.items()}
