"""Cuts a trained PEFT adapter to smaller sizes, and writes one of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from autorank.errors import AutorankError
from autorank.modeling import adapters, peft_adapter, spectrum
from autorank.modeling.peft_adapter import PeftAdapter

HALVINGS = 10  # sizes that are listed without data: the whole, a half, a quarter, ...


@dataclass(frozen=True)
class Size:
    """A size to which an adapter can be cut.

    Attributes:
        adapter_params: Parameters of the adapter, its head not counted.
        energy: Share of the adapter's energy, the sum of squared singular values, that is kept.
        component_masks: Layer name -> components, as a bit mask; None: the whole adapter.
        score: The task's main metric; None without data.
        metrics: All metrics of the task.
    """

    adapter_params: int
    energy: float
    component_masks: Mapping[str, int] | None
    score: float | None = None
    metrics: dict[str, float] | None = None


class ShrinkableAdapter:
    """An adapter that is cut to smaller sizes without data.

    Args:
        folder: A PEFT adapter: its directory, or name on the Hub.

    Raises:
        AutorankError: See `peft_adapter.read`; or the adapter is not trained, or its values are not finite.
    """

    def __init__(self, folder: str) -> None:
        self.adapter: PeftAdapter = peft_adapter.read(folder)
        factors = [factor for update in self.adapter.updates.values() for factor in (update.A, update.B)]
        if not all(factor.isfinite().all() for factor in factors):
            raise AutorankError(f"{folder} has values that are not finite: its training diverged. Use another adapter.")
        self._spectrum = spectrum.Spectrum(peft_adapter.skeleton(self.adapter))
        magnitudes = (update.m for update in self.adapter.updates.values() if update.m is not None)
        self._fixed = sum(m.numel() for m in magnitudes)
        self.params = self._fixed + sum(u.A.numel() + u.B.numel() for u in self.adapter.updates.values())
        self._energies = self._spectrum.kept_energy()
        if len(self._energies) == 1:
            raise AutorankError(f"All updates of {folder} are zero, so there is nothing to cut. Has it been trained?")

    def sizes(self) -> list[Size]:
        """Return the whole adapter and its halves, quarters, ..., in ascending order of parameters."""
        counts = {len(self._energies) - 1}
        for halving in range(1, HALVINGS + 1):
            limit = self.params / 2**halving - self._fixed
            counts.add(max(count for count, size in enumerate(self._spectrum.params) if size <= max(limit, 0)))
        return [self._size(count) for count in sorted(counts) if count >= self._spectrum.fewest]

    def at_energy(self, share: float) -> Size:
        """Return the smallest size that keeps a share of the energy (as PARA's threshold, arXiv 2604.27796).

        Args:
            share: Above 0, at most 1.

        Returns:
            The size.
        """
        reached = (count for count, energy in enumerate(self._energies) if energy >= share - 1e-12)
        return self._size(max(self._spectrum.fewest, next(reached)))

    def at_params(self, max_params: int) -> Size:
        """Return the largest size with at most `max_params` parameters.

        Raises:
            AutorankError: All sizes are larger.
        """
        fitting = [count for count, size in enumerate(self._spectrum.params) if size + self._fixed <= max_params]
        if not fitting or fitting[-1] < self._spectrum.fewest:
            smallest = self._spectrum.params[self._spectrum.fewest] + self._fixed
            raise AutorankError(f"No size has at most {max_params:,} parameters; the smallest has {smallest:,}.")
        return self._size(fitting[-1])

    def write(self, size: Size, to: Path, pad: bool = False) -> None:
        """Write the adapter cut to a size as a PEFT adapter.

        Args:
            size: One of this adapter's sizes.
            to: The directory to write to, which exists.
            pad: Give all layers one rank, padded with zeros, for servers that require it.
        """
        module = peft_adapter.skeleton(self.adapter)
        if size.component_masks is not None:
            spectrum.cut(module, size.component_masks)
        updates = {name: layer.update for name, layer in adapters.adapted(module).items()}
        peft_adapter.write(self.adapter, updates, self.adapter.others, to, pad)

    def energy_of(self, component_masks: Mapping[str, int]) -> float:
        """Return the share of the energy of these components."""
        return self._spectrum.energy_of(component_masks)

    def _size(self, count: int) -> Size:
        return Size(self._spectrum.params[count] + self._fixed, self._energies[count], self._spectrum.keep(count))
