"""A plain LoRA-Squeeze: the SVD of every full ΔW, one sorted list of singular values, least squares for the moments."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from autorank.spec import TrainSpec
from tests.trainables.reference_training import ReferenceTraining


class ReferenceLoRASqueeze(ReferenceTraining):
    """See `ReferenceTraining`.

    Attributes:
        A, B: Layer name -> rank x in, out x rank.
        cuts: Step -> parameter budget after it.
        smallest_gap: Smallest relative difference, over all cuts, between the last score kept and the next one.
    """

    gamma = 0.0

    def __init__(self, train_spec: TrainSpec) -> None:
        super().__init__(train_spec)
        s = {"stages": 3, "initial": 0.1, "final": 0.4, "alpha": 16.0} | self.settings
        self.scale = s["alpha"] / s["source_rank"]
        self.A: dict[str, nn.Parameter] = {}
        self.B: dict[str, nn.Parameter] = {}
        self.sizes = {name: sum(layer.weight.shape) for name, layer in self.layers.items()}
        for name, layer in self.layers.items():
            bound = 1 / math.sqrt(layer.base.in_features)  # Kaiming-uniform of slope √5
            A = torch.empty(s["source_rank"], layer.base.in_features).uniform_(-bound, bound, generator=self.generator)
            self.A[name] = nn.Parameter(A)
            self.B[name] = nn.Parameter(torch.zeros(layer.base.out_features, s["source_rank"]))
        self.train([*self.A.values(), *self.B.values()], start=0)
        first, last = int(s["initial"] * self.total_steps), self.total_steps - int(s["final"] * self.total_steps)
        rank_params = sum(self.sizes.values())
        self.cuts = {}
        for i in range(1, s["stages"] + 1):
            fraction = i / s["stages"]
            rank = math.exp((1 - fraction) * math.log(s["source_rank"]) + fraction * math.log(s["mean_rank"]))
            self.cuts[first + math.floor((last - first) * fraction + 1e-9)] = math.floor(rank * rank_params + 1e-6)
        self.smallest_gap = math.inf

    def factors(self, name: str) -> tuple[Tensor, Tensor]:
        return self.A[name], self.B[name]

    def delta_weight(self, name: str) -> Tensor:
        return self.scale * self.B[name] @ self.A[name]

    def after_step(self, step: int) -> None:
        if step in self.cuts:
            self.cut(self.cuts[step])

    def cut(self, budget: int) -> None:
        svds = {n: np.linalg.svd(self.evaluated(n).double().numpy(), full_matrices=False) for n in self.layers}
        pool = sorted(
            (
                (svds[name][1][i] ** 2 / self.sizes[name], name)
                for name in self.layers
                for i in range(len(self.A[name]))
            ),
            reverse=True,
        )
        ranks, params = dict.fromkeys(self.layers, 0), 0
        for (score, name), (following, _) in zip(pool, [*pool[1:], (0.0, "")], strict=True):
            if params + self.sizes[name] > budget:
                break
            params += self.sizes[name]
            ranks[name] += 1
            gap = 1 - following / score
        self.smallest_gap = min(self.smallest_gap, gap)
        for name, (U, S, Vt) in svds.items():
            root = np.sqrt(S[: ranks[name]] / self.scale)
            self._replace(name, root[:, None] * Vt[: ranks[name]], U[:, : ranks[name]] * root)

    def _replace(self, name: str, A: np.ndarray, B: np.ndarray) -> None:
        old_A, old_B = (p.detach().double().numpy() for p in self.factors(name))
        P = np.linalg.lstsq(old_A.T, A.T, rcond=None)[0].T
        Q = np.linalg.lstsq(old_B, B, rcond=None)[0]
        state_A, state_B = self.optimizer.state[self.A[name]], self.optimizer.state[self.B[name]]
        for moment, power in (("exp_avg", 1), ("exp_avg_sq", 2)):
            state_A[moment] = torch.from_numpy(Q.T**power @ state_A[moment].double().numpy()).float()
            state_B[moment] = torch.from_numpy(state_B[moment].double().numpy() @ P.T**power).float()
        self.layers[name].use(None, None)  # its graph has the old shapes
        self.A[name].data, self.B[name].data = torch.from_numpy(A).float(), torch.from_numpy(B).float()
        self.A[name].grad = self.B[name].grad = None
