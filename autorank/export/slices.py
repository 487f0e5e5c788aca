"""Cuts a slice out of an adapter file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from autorank.modeling import adapter_file, spectrum


def write_slice(adapter: Path, component_masks: Mapping[str, int], to: Path) -> None:
    """Write a slice of an adapter as an adapter file of its own.

    Args:
        adapter: The file of the whole adapter.
        component_masks: The components to keep, as in `Slice.component_masks`.
        to: The file to write.
    """
    trained, origin = adapter_file.load(adapter, dtype=torch.bfloat16)  # the base's weights are not used
    spectrum.cut(trained.model, component_masks)
    adapter_file.save(to, trained, origin)
