"""The spectrum of a trained adapter: its updates by singular values, and smaller adapters cut from it.

A trained low-rank adapter contains smaller ones. Each update is factorized, the components of all updates are pooled
and sorted by a score, and the best ones are kept. With s · diag(u) · B · diag(e) = Q_B R_B and Aᵀ = Q_A R_A:

    R_B R_Aᵀ = U S Vᵀ (rank x rank),    B' = Q_B U √S (out x rank),    A' = √S Vᵀ Q_Aᵀ (rank x in)

The scores are energies per parameter, S² / (in + out), as in PARA (arXiv 2604.27796, which pools singular values), or
the caller's own. An update that several layers share is cut once; its energy counts once for each layer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import accumulate

import torch
from torch import Tensor, nn

from autorank.modeling import adapters
from autorank.modeling.devices import double
from autorank.modeling.layers.lora_layer import LowRankUpdate

ROUNDING = 1e-6  # singular values below this share of an update's largest are rounding errors

ComponentMasks = dict[str, int]
"""Layer name -> the components that a slice keeps, as a bit mask.

Bit i is component i, in descending order of singular values.
"""


def sliceable(model: nn.Module) -> bool:
    """Return whether smaller adapters can be cut from the adapter of `model`.

    True if the adapter consists of low-rank updates whose A and B are trained and not shared between updates. VeRA,
    Tied-LoRA, bottlenecks, BitFit and full fine-tuning have nothing to cut.
    """
    updates = adapters.distinct_updates(model)
    users = Counter(id(factor) for update in updates for factor in (update.A, update.B))
    trained = all(update.A.requires_grad and update.B.requires_grad for update in updates)
    return bool(updates) and trained and max(users.values()) == 1 and not adapters.bottlenecked(model)


class Spectrum:
    """The factorized updates of a model, in a context in which the model carries them instead of its own.

        with factorized(model) as spectrum:
            spectrum.cut(spectrum.keep(count))

    Attributes:
        updates: The distinct updates in factorized form (A', B', scale 1), in the model's order.
        values: Singular values of each update in descending order: one tensor of shape rank for each update.
        sizes: Parameters of one component of each update: in + out.
        layers: Layer name -> index of its update.
    """

    def __init__(self, model: nn.Module) -> None:
        self._adapted = adapters.adapted(model)
        self._originals = {name: layer.update for name, layer in self._adapted.items()}
        distinct = adapters.distinct_updates(model)
        pairs = [_factorize(update) for update in distinct]
        self.updates: list[LowRankUpdate] = [update for update, _ in pairs]
        self.values: list[Tensor] = [values for _, values in pairs]
        self.sizes = [update.A.shape[1] + update.B.shape[0] for update in self.updates]
        self.layers = {name: distinct.index(update) for name, update in self._originals.items()}
        users = Counter(self.layers.values())
        self._users = [users[index] for index in range(len(self.updates))]
        for name, layer in self._adapted.items():
            layer.update = self.updates[self.layers[name]]
        self._order = self._sorted(self.energies())

    def energies(self) -> list[Tensor]:
        """Return the energy of each component per parameter, one tensor of shape rank for each update."""
        return [
            values.square() * users / size
            for values, users, size in zip(self.values, self._users, self.sizes, strict=True)
        ]

    def order_by(self, scores: Sequence[Tensor]) -> None:
        """Sort the components by other scores than their energies.

        Args:
            scores: For each update a tensor of shape rank; higher scores are kept first.
        """
        self._order = self._sorted(scores)

    @property
    def params(self) -> list[int]:
        """Parameters of the updates with the best 0, 1, 2, ... components; a DoRA update's m is not counted."""
        total = [0]
        for index, _ in self._order:
            total.append(total[-1] + self.sizes[index])
        return total

    @property
    def fewest(self) -> int:
        """Components of the smallest slice: one, or one for each DoRA update."""
        return max(1, sum(update.m is not None and update.components > 0 for update in self.updates))

    def kept_energy(self) -> list[float]:
        """Return the share of the energy, the sum of squared singular values, in the best 0, 1, 2, ... components."""
        squares = [float(self.values[index][component] ** 2) * self._users[index] for index, component in self._order]
        total = sum(squares) or 1.0
        return [0.0, *(energy / total for energy in accumulate(squares))]

    def energy_of(self, component_masks: Mapping[str, int]) -> float:
        """Return the share of the energy in these components."""
        squares = {name: self.values[index].square() for name, index in self.layers.items()}
        total = sum(float(of_layer.sum()) for of_layer in squares.values()) or 1.0
        kept = (squares[name][_bits(mask, len(squares[name]))] for name, mask in component_masks.items())
        return sum(float(of_layer.sum()) for of_layer in kept) / total

    def keep(self, count: int) -> ComponentMasks:
        """Return the best `count` components of all updates."""
        masks = [0] * len(self.updates)
        for index, component in self._order[:count]:
            masks[index] |= 1 << component
        return {name: masks[index] for name, index in self.layers.items()}

    def cut(self, component_masks: Mapping[str, int]) -> None:
        """Cut the model's adapter to these components; all others are inactive."""
        for name, index in self.layers.items():
            update = self.updates[index]
            active = _bits(component_masks.get(name, 0), update.components)
            update.active = torch.tensor(active, dtype=torch.bool, device=update.A.device)

    def restore(self) -> None:
        """Put the model's own updates back."""
        for name, layer in self._adapted.items():
            layer.update = self._originals[name]

    def _sorted(self, scores: Sequence[Tensor]) -> list[tuple[int, int]]:
        """Return (update, component) in descending order of score.

        The first component of a DoRA update comes before all others: its m changes the layer whatever the rank, and
        PEFT's DoRA has no rank 0.
        """
        ranked = [
            (update.m is None or component > 0, -score, index, component)
            for index, (update, row) in enumerate(zip(self.updates, scores, strict=True))
            for component, score in enumerate(row.tolist())
        ]
        return [(index, component) for _, _, index, component in sorted(ranked)]


def _bits(mask: int, count: int) -> list[bool]:
    """The first `count` bits of a mask."""
    return [bool(mask >> i & 1) for i in range(count)]


@contextmanager
def factorized(model: nn.Module) -> Iterator[Spectrum]:
    """Give a model its updates in factorized form for the time of the context.

    Args:
        model: A model whose adapter is `sliceable`.

    Yields:
        The spectrum; nothing is cut yet.
    """
    spectrum = Spectrum(model)
    try:
        yield spectrum
    finally:
        spectrum.restore()


def cut(model: nn.Module, component_masks: Mapping[str, int]) -> None:
    """Replace the adapter of a model permanently by a slice of it.

    Args:
        model: A model whose adapter is `sliceable`.
        component_masks: The components to keep, as in `Slice.component_masks`.
    """
    spectrum = Spectrum(model)
    spectrum.cut(component_masks)
    for update in spectrum.updates:
        assert update.active is not None
        update.keep(update.active.nonzero().flatten())
        update.active = None


@torch.no_grad()
def _factorize(update: LowRankUpdate) -> tuple[LowRankUpdate, Tensor]:
    """An update in factorized form, with the same magnitude m, and its singular values: rank.

    In float64, so that a seed means the same on every device. Components that are rounding errors are left out.
    """
    down, up = (double(factor) for factor in update.folded())
    left, R_up = torch.linalg.qr(up * update.scale)
    right, R_down = torch.linalg.qr(down.T)
    U, values, Vt = torch.linalg.svd(R_up @ R_down.T)
    count = int((values > ROUNDING * values[0]).sum()) if len(values) and values[0] > 0 else 0
    root = values[:count].sqrt()
    A = root[:, None] * (Vt[:count] @ right.T)
    B = (left @ U[:, :count]) * root
    factors = nn.Parameter(A.to(update.A).contiguous()), nn.Parameter(B.to(update.A).contiguous())
    # a module is made in training mode, in which inactive components act
    return LowRankUpdate(*factors, scale=1.0, m=update.m).eval(), values[:count]
