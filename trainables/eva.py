"""EVA: the inputs of each layer say where its A starts and how many ranks it gets.

Paischer et al. 2024, "Parameter Efficient Fine-tuning via Explained Variance Adaptation" (arXiv 2410.07170):

  1. The training set passes through the base, and each layer's inputs (padding left out) through an incremental
     singular value decomposition, until its directions stay as they are: cosine similarity of τ or more.
  2. Directions of all layers compete by the share of their layer's variance that they explain: the best rank · L of
     them are taken, at most rho · rank of a layer. A layer of rank 0 has no update.
  3. The directions taken are the rows of A; B is zero. alpha / rank scales all updates alike, whatever their rank.

The decomposition is PEFT's; what is decomposed when is as in its `get_eva_state_dict`, but that an end is set to it
(`svd_steps`, ours), and that it goes with any precision. Of several workers the first does it for all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from autorank.errors import AutorankError
from autorank.method import AllocationMethod, TargetedConfig
from autorank.modeling.adapters import attach
from autorank.modeling.layers.lora_layer import LowRankUpdate
from autorank.modeling.target_modules import features, shapes
from autorank.run_context import RunContext
from autorank.tasks.data.batches import token_mask
from trainables.cached_tensors import kept


class EVAConfig(TargetedConfig):
    """EVA's settings; alpha, rho and tau as in PEFT, which is the authors' implementation."""

    rank: int = Field(8, ge=1, description="rank, averaged over the layers")
    rho: float = Field(2.0, ge=1, description="most that a layer gets, in ranks; 1: every layer the same")
    alpha: float = Field(1.0, gt=0, description="every update is scaled by alpha / rank, whatever its own rank")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout of the update's input")
    tau: float = Field(0.99, gt=0, le=1, description="cosine similarity at which a direction is settled")
    svd_batch_size: int = Field(16, ge=1, le=64, description="examples in a step of the decomposition (ours)")
    svd_steps: int = Field(256, ge=2, description="most steps of the decomposition (ours)")


class EVA(AllocationMethod[EVAConfig]):
    """LoRA that starts along the directions of its inputs, with ranks where these explain most."""

    name = "eva"
    summary = "A starts along the inputs' principal directions; ranks go where these explain most"
    source = "Paischer et al. 2024, arXiv 2410.07170"
    Config: ClassVar[type[EVAConfig]] = EVAConfig

    def prepare(self, run: RunContext) -> None:
        settings = self.config.model_dump(include={"rank", "rho", "tau", "svd_batch_size", "svd_steps"})
        rows = kept(run, self.name, [list(run.layers), settings], lambda: directions(run, self.config))
        for name, layer in run.layers.items():
            if len(rows[name]):
                B = torch.zeros(features(layer)[1], len(rows[name]), device=run.device)
                A = nn.Parameter(rows[name].clone())
                update = LowRankUpdate(A, nn.Parameter(B), self.config.alpha / self.config.rank)
                attach(run.model, name, update, self.config.dropout)

    @classmethod
    def adapter_params(cls, config: EVAConfig, model: nn.Module) -> tuple[int, int]:
        """Σ rank (in + out) if the smallest layers get all that they may have, and if the largest do."""
        layers = sorted(shapes(model, config.targets).values(), key=sum)
        return _fill(layers, config), _fill(layers[::-1], config)


def most(config: EVAConfig, inputs: int) -> int:
    """Most directions that a layer with so many inputs can have."""
    return min(round(config.rank * config.rho), inputs)


def _fill(layers: Sequence[tuple[int, int]], config: EVAConfig) -> int:
    """Parameters of the budget's ranks, of the first layers as many as they may have. layers: (in, out) each."""
    budget, total = config.rank * len(layers), 0
    for inputs, outputs in layers:
        taken = min(most(config, inputs), budget)
        total, budget = total + taken * (inputs + outputs), budget - taken
    return total


class Decomposition:
    """The incremental decomposition of what passes into a layer, and into others that have the same input.

    Attributes:
        settled: count, bool: directions that the last step has left as they were.
    """

    def __init__(self, inputs: int, count: int, tau: float) -> None:
        from peft.utils.incremental_pca import IncrementalPCA

        self._lowrank = 2 * count <= inputs
        self._pca: Any = IncrementalPCA(n_components=count, lowrank=self._lowrank, lowrank_seed=42)
        self._count, self._tau = count, tau
        self.settled = torch.zeros(count, dtype=torch.bool)

    @property
    def begun(self) -> bool:
        return hasattr(self._pca, "components_")

    @property
    def directions(self) -> Tensor:
        """Orthonormal, float32: count x in."""
        rows: Tensor = self._pca.components_
        return rows.float()

    @property
    def explained(self) -> Tensor:
        """Share of the variance along each direction: count."""
        shares: Tensor = self._pca.explained_variance_ratio_
        return shares

    def add(self, x: Tensor) -> None:
        """Go on with these inputs, tokens x in; too few of them are passed over, as in PEFT."""
        if len(x) < self._count * (2 if self._lowrank else 1):
            return
        before = self.directions.clone() if self.begun else None
        with torch.autocast(x.device.type, enabled=False):
            self._pca.partial_fit(x.float())
        if before is not None:
            self.settled = (torch.cosine_similarity(self.directions, before) >= self._tau).cpu()


def directions(run: RunContext, config: EVAConfig) -> dict[str, Tensor]:
    """The rows of each layer's A, rank x in, by name; the ranks add up to config.rank a layer.

    Raises:
        AutorankError: the batches have too few tokens.
    """
    source = same_inputs(run, config)
    found = {
        name: Decomposition(features(run.layers[name])[0], most(config, features(run.layers[name])[0]), config.tau)
        for name in dict.fromkeys(source.values())
    }
    ranks = {name: most(config, features(layer)[0]) for name, layer in run.layers.items()}
    for examples in islice(batches(run, config), config.svd_steps):
        open_ = {name for name in found if not found[name].settled[: ranks[name]].all()}
        if not open_:
            break
        pass_through(run, examples, {name: found[name].add for name in open_})
        if all(decomposition.begun for decomposition in found.values()):
            shares = {name: found[source[name]].explained for name in run.layers}
            ranks = distribute(shares, config.rank * len(run.layers))
    if not all(decomposition.begun for decomposition in found.values()):
        raise AutorankError(
            f"eva cannot find {round(config.rank * config.rho)} directions in batches of {config.svd_batch_size} "
            "examples, for they have too few tokens. Raise svd_batch_size, or lower rank or rho."
        )
    return {name: found[source[name]].directions[:rank].clone() for name, rank in ranks.items()}


def distribute(shares: dict[str, Tensor], budget: int) -> dict[str, int]:
    """How many directions of each layer are among the `budget` best of all; a tie goes to the earlier layer."""
    owners = [name for name, values in shares.items() for _ in values]
    order = torch.cat(list(shares.values())).sort(descending=True, stable=True).indices
    ranks = dict.fromkeys(shares, 0)
    for i in order[:budget].tolist():
        ranks[owners[i]] += 1
    return ranks


def batches(run: RunContext, config: EVAConfig) -> Iterator[np.ndarray]:
    """The training set in random order, again and again: indices of examples."""
    order = np.random.default_rng(run.seed).permutation(len(run.labels))
    while True:
        for start in range(0, len(order), config.svd_batch_size):
            yield order[start : start + config.svd_batch_size]


def same_inputs(run: RunContext, config: EVAConfig) -> dict[str, str]:
    """Layer -> the first layer that has the same input (query, key and value have), for one decomposition does."""
    seen: dict[str, Tensor] = {}
    source: dict[str, str] = {}

    def see(name: str, x: Tensor) -> None:
        source[name] = next((other for other, before in seen.items() if _equal(before, x)), name)
        if source[name] == name:
            seen[name] = x

    pass_through(run, next(batches(run, config)), {name: partial(see, name) for name in run.layers})
    return {name: source[name] for name in run.layers}


def _equal(ours: Tensor, theirs: Tensor) -> bool:
    return ours.shape == theirs.shape and torch.equal(ours, theirs)


def pass_through(run: RunContext, examples: np.ndarray, see: Mapping[str, Callable[[Tensor], None]]) -> None:
    """Run the base over these examples; `see` gets each layer's input, tokens x in, padding left out where it can be.

    A layer's first input: DeBERTa's positions follow. Where the examples pass in parts, for memory's sake, `see` gets
    the input of all of them.
    """
    passing: dict[str, Tensor] = {}
    waiting: set[str] = set()
    parts: dict[str, list[Tensor]] = {name: [] for name in see}
    passed = 0

    def before(batch: dict[str, Tensor]) -> None:
        nonlocal passing, passed
        passing = dict(batch)
        passed += len(batch["input_ids"])
        waiting.update(see)

    def watch(name: str, layer: nn.Module, inputs: tuple[Tensor]) -> None:
        if name in waiting:
            waiting.remove(name)
            x = inputs[0].detach()
            x = x[token_mask(passing, x).bool()] if x.ndim == 3 else x.flatten(0, -2)
            if passed < len(examples):
                parts[name].append(x.cpu())
            else:
                see[name](torch.cat([*(part.to(x.device) for part in parts[name]), x]) if parts[name] else x)

    handles = [run.layers[name].register_forward_pre_hook(partial(watch, name)) for name in see]
    try:
        run.observe(examples, before)
    finally:
        for handle in handles:
            handle.remove()
