"""The low-rank layer. Every reparameterized method is a special case of it.

    y = W0 x + s · diag(u) · B · diag(e) · A · dropout(x)

           x: in                A: rank x in     (down)
           │                    e: rank          (gate, or singular value)
     ┌─────┴─────┐              B: out x rank    (up)
     │           │ dropout      u: out           (output scale)
     │           A
     W0         (e)             LoRA: A, B trained. LoRA-drop: layers that share one update.
     │           B              IncreLoRA, AdaLoRA: A, e, B. SoRA: e is a gate.
     │       s·(u)              VeRA: A, B shared and frozen, e and u trained. Tied-LoRA: all trained.
     └─────+─────┘              PRILoRA, SparseAdapter: zeros in A, or in A and B.
           │                    DoRA: m, the row norms of W0 + ΔW (modeling/layers/dora.py).
           y: out               PiSSA: A0, B0, frozen initial values of A and B: s · (B A - B0 A0).

Layers share parameters by holding the same objects: two layers with the same update share all of it, two updates with
the same Parameter share that factor. In training the base layer is only called, its weight is never read, so quantized
layers work.

A component is one row of A, one entry of e and one column of B. An update may hold components or entries that exist
only in training: IncreLoRA's reserves, triplets that AdaLoRA has masked but may restore, entries that grow again after
PRILoRA has pruned them. They are excluded from evaluations, parameter counts and exported adapters; all others are
called active.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LowRankUpdate(nn.Module):
    """The factors of s · diag(u) · B · diag(e) · A. A factor is trained if it requires a gradient.

    Args:
        A: Down projection, rank x in.
        B: Up projection, out x rank.
        scale: Factor s of the product.
        e: Gates or singular values, shape rank; None: not used.
        u: Output scales, shape out; None: not used.
        active: Which components are active, rank, bool. None: all.
        m: The norm of each row of the base's weight with the update (DoRA), out, or None.
        start: A0 and B0 (PiSSA), of the shapes of A and B, or None; s · B0 A0 is subtracted. They are frozen and
            determined by the base, so they are not counted. With a start, all components are active, without e and u.

    Attributes:
        mask_A: Which entries of A are active, 1 or 0, rank x in. None: all.
        mask_B: Which entries of B are active, 1 or 0, out x rank. None: all.
        prepared: s · diag(e) · A and B as forward passes use them, within `prepared_factors.prepared`. None outside.

    Raises:
        ValueError: There is a start together with e, u or active.
    """

    A: nn.Parameter
    B: nn.Parameter
    e: nn.Parameter | None
    u: nn.Parameter | None
    m: nn.Parameter | None
    A0: nn.Parameter | None
    B0: nn.Parameter | None
    active: Tensor | None
    mask_A: Tensor | None
    mask_B: Tensor | None

    def __init__(
        self, A: nn.Parameter, B: nn.Parameter, scale: float, e: nn.Parameter | None = None,
        u: nn.Parameter | None = None, active: Tensor | None = None,
        m: nn.Parameter | None = None, start: tuple[nn.Parameter, nn.Parameter] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        if start and not (e is u is active is None):
            raise ValueError("an update with a start has no e, u or active")
        self.A, self.B, self.e, self.u, self.m = A, B, e, u, m
        self.A0, self.B0 = start or (None, None)
        self.scale = scale
        self.prepared: tuple[Tensor, Tensor] | None = None
        self.register_buffer("active", active, persistent=False)
        self.register_buffer("mask_A", None, persistent=False)
        self.register_buffer("mask_B", None, persistent=False)

    @classmethod
    def lora(
        cls, in_features: int, out_features: int, rank: int, alpha: float,
        generator: torch.Generator, device: torch.device | str = "cpu",
    ) -> LowRankUpdate:  # fmt: skip
        """Create the update of LoRA (Hu et al. 2021): A Kaiming-uniform, B zero, scale alpha / rank.

        Args:
            in_features: Input features of the layer.
            out_features: Output features of the layer.
            rank: Number of components.
            alpha: Numerator of the scale.
            generator: Random numbers; values are drawn on the CPU for any device.
            device: Device of the factors.

        Returns:
            The update; its output is zero.
        """
        A = torch.empty(rank, in_features)
        nn.init.kaiming_uniform_(A, a=math.sqrt(5), generator=generator)
        B = torch.zeros(out_features, rank)
        return cls(nn.Parameter(A.to(device)), nn.Parameter(B.to(device)), alpha / rank)

    @property
    def components(self) -> int:
        """Number of all components, including those that exist only in training."""
        return self.A.shape[0]

    @property
    def rank(self) -> int:
        """Number of components that are part of the exported adapter."""
        return self.components if self.active is None else int(self.active.sum())

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return `y` plus the update of `x`, ... x out. x: ... x in, y: ... x out."""
        if self.components == 0:
            return y
        if x.dtype != self.A.dtype and not torch.is_autocast_enabled(x.device.type):
            return self._add(x.to(self.A.dtype), y.to(self.A.dtype)).to(y.dtype)
        return self._add(x, y)

    def _add(self, x: Tensor, y: Tensor) -> Tensor:
        A, B, scale = self.scaled_factors()
        down = F.linear(x, A)
        if self.u is not None:
            return torch.addcmul(y, F.linear(down, B), self.u.to(y.dtype), value=scale)
        # One call scales and adds in the matrix product, without a second tokens x out tensor.
        flat = torch.addmm(y.flatten(0, -2), down.flatten(0, -2), B.t(), alpha=scale)
        return flat.view(y.shape)

    def scaled_factors(self) -> tuple[Tensor, Tensor, float]:
        """A, rank x in, B, out x rank, and a scale of their product, as used in a forward pass."""
        return (*self.forward_factors(), self.scale) if self.prepared is None else (*self.prepared, 1.0)

    def forward_factors(self) -> tuple[Tensor, Tensor]:
        """diag(e) · A, rank x in, and B, out x rank as used in a forward pass; in evaluation mode only active parts."""
        A, B = (self.A, self.B) if self.training else self._unmasked()
        e: Tensor | None = self.e
        if self.active is not None and not self.training:
            # zeros instead of fewer components, because indexing would wait for the GPU
            e = self.active.to(A.dtype) * (1 if e is None else e)
        if self.A0 is not None:
            return self._minus_start(A, B)
        # multiplying A by e needs less memory than an extra tokens x rank tensor in the backward pass
        return A if e is None else A * e[:, None], B

    def _minus_start(self, A: Tensor, B: Tensor) -> tuple[Tensor, Tensor]:
        """Factors of B A - B0 A0, with twice the rank.

        Computed as (B - B0) A + B0 (A - A0), which is exactly zero at the start in any precision. In 16 bits, rounding
        of the large B0 A0 then does not hide the learned difference.
        """
        assert self.A0 is not None and self.B0 is not None
        return torch.cat([A, A - self.A0]), torch.cat([B - self.B0, self.B0], dim=1)

    def _unmasked(self) -> tuple[Tensor, Tensor]:
        """A and B with zeros for the masked entries."""
        A = self.A if self.mask_A is None else self.A * self.mask_A
        return A, self.B if self.mask_B is None else self.B * self.mask_B

    def active_parts(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """The parts of A, B and e that the exported adapter has."""
        A, B = self._unmasked()
        if self.active is None:
            return A, B, self.e
        return A[self.active], B[:, self.active], None if self.e is None else self.e[self.active]

    def output(self, x: Tensor) -> Tensor:
        """Return ΔW x, ... x out, for `x`: ... x in.

        Raises:
            ValueError: There is a factor m.
        """
        self._refuse_norms()
        down, up = self.folded()
        return F.linear(F.linear(x.to(down.dtype), down) * self.scale, up)

    def folded(self) -> tuple[Tensor, Tensor]:
        """Two factors whose product, times the scale, is the update without m: A and diag(u) · B · diag(e).

        Returns:
            The factors, rank x in and out x rank; with a start, which they include, twice the rank.
        """
        down, up = self.without_start()
        return (down, up) if self.A0 is None else self._minus_start(down, up)

    def without_start(self) -> tuple[Tensor, Tensor]:
        """A (rank x in) and diag(u) · B · diag(e) (out x rank), without the start."""
        down, up, e = self.active_parts()
        if e is not None:
            up = up * e
        if self.u is not None:
            up = up * self.u[:, None]
        return down, up

    def delta_weight(self) -> Tensor:
        """Return ΔW, out x in. With a factor m use `AdaptedLinear.delta_weight`.

        Raises:
            ValueError: There is a factor m, so ΔW depends on the base layer.
        """
        self._refuse_norms()
        down, up = self.folded()
        return self.scale * up @ down

    def _refuse_norms(self) -> None:
        if self.m is not None:
            raise ValueError(
                "this update has a factor m, so ΔW depends on the base layer; use AdaptedLinear.delta_weight"
            )

    @torch.no_grad()
    def keep(self, components: Tensor) -> None:
        """Shrink to the components with these indices, in place: the Parameters stay the same objects."""
        self._replace("A", self.A[components])
        self._replace("B", self.B[:, components])
        if self.e is not None:
            self._replace("e", self.e[components])
        self.active = None if self.active is None else self.active[components]
        self.mask_A = None if self.mask_A is None else self.mask_A[components]
        self.mask_B = None if self.mask_B is None else self.mask_B[:, components]

    @torch.no_grad()
    def grow(self, A: Tensor, B: Tensor, e: Tensor | None = None) -> None:
        """Append components, in place.

        They are active, unless the update has an attribute `active`: then they are not.

        Args:
            A: New rows of A, new x in.
            B: New columns of B, out x new.
            e: New entries of e, shape new; required if the update has e.

        Raises:
            ValueError: The update has a factor e and none is given, or it has a start.
        """
        self._replace("A", torch.cat([self.A, A.to(self.A)]))
        self._replace("B", torch.cat([self.B, B.to(self.B)], dim=1))
        if self.e is not None:
            if e is None:
                raise ValueError("this update has a factor e; new components need one too")
            self._replace("e", torch.cat([self.e, e.to(self.e)]))
        if self.active is not None:
            self.active = torch.cat([self.active, self.active.new_zeros(len(A))])
        if self.mask_A is not None:
            self.mask_A = torch.cat([self.mask_A, self.mask_A.new_ones(A.shape)])
        if self.mask_B is not None:
            self.mask_B = torch.cat([self.mask_B, self.mask_B.new_ones(B.shape)], dim=1)

    @torch.no_grad()
    def replace(self, A: Tensor, B: Tensor) -> None:
        """Replace all components, in place: the Parameters stay the same objects.

        Args:
            A: New rank x in.
            B: out x new rank.

        Raises:
            ValueError: The update has a factor e, a start, or components or entries that exist only in training.
        """
        if not (self.e is self.active is self.mask_A is self.mask_B is None):
            raise ValueError("cannot replace the components of an update with e, active or masks")
        self._replace("A", A.to(self.A))
        self._replace("B", B.to(self.B))

    def _replace(self, factor: str, values: Tensor) -> None:
        if self.A0 is not None:
            raise ValueError("the components of an update with a start cannot be changed")
        parameter = getattr(self, factor)
        parameter.data = values.contiguous()
        parameter.grad = None  # it has the old shape
