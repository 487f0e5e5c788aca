"""Ranks of layers: read and written as a JSON file, and arranged as a table of blocks and kinds of layers."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from autorank import atomic_io
from autorank.errors import AutorankError, listed
from autorank.modeling.target_modules import block, ends_with, kind

_REMEDY = "`autorank ranks NAME --to ranks.json` writes one."
_MAX_LISTED = 3  # invalid ranks that a message lists


def read(path: Path) -> dict[str, int]:
    """Read ranks from a JSON file.

    Args:
        path: A file with a JSON object of layer names and ranks.

    Returns:
        The rank of each layer, in the order of the file.

    Raises:
        AutorankError: The file is missing or has other contents; all invalid ranks are reported at once.
    """
    if not path.is_file():
        raise AutorankError(f"There is no rank file {path}. {_REMEDY}")
    try:
        ranks = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # UnicodeDecodeError too
        raise AutorankError(f"The rank file {path} is not JSON: {error}. {_REMEDY}") from None
    if not isinstance(ranks, dict):
        raise AutorankError(
            f'The rank file {path} must contain {{"layer": rank, ...}}, not {_shortened(ranks)}. {_REMEDY}'
        )
    invalid = [
        f"{layer!r} has {_shortened(rank)}" for layer, rank in ranks.items() if type(rank) is not int or rank < 0
    ]
    if invalid:
        raise AutorankError(
            f"Ranks in the rank file {path} must be integers of at least 0, but {listed(invalid, _MAX_LISTED)}. "
            f"Correct the file; {_REMEDY}"
        )
    return ranks


def read_for(path: Path, layers: Collection[str]) -> dict[str, int]:
    """Read ranks for the adapted layers of a model.

    Args:
        path: A rank file.
        layers: Names of the adapted layers.

    Returns:
        The ranks above 0, in the order of `layers`.

    Raises:
        AutorankError: The file cannot be read, has no rank above 0, or was made with another model: it names a layer
            that is not in `layers`, or no layer of the last blocks.
    """
    ranks = read(path)
    if unknown := [name for name in ranks if name not in layers]:
        raise AutorankError(
            f"The rank file {path} contains {unknown[0]!r}, which is not an adapted layer. Use a file made with the "
            "same model, and a value of `targets` that includes all its layers (all-linear does)."
        )
    if not any(ranks.values()):
        raise AutorankError(f"The rank file {path} has no rank above 0. {_REMEDY}")
    if missing := _in_later_blocks(ranks, layers):
        raise AutorankError(
            f"The rank file {path} has no ranks for the last blocks of the model ({listed(missing, _MAX_LISTED)}). "
            "Use a file made with the same model, or add these layers with rank 0 if they get no update."
        )
    return {name: ranks[name] for name in layers if ranks.get(name)}


def _in_later_blocks(ranks: Collection[str], layers: Collection[str]) -> list[str]:
    """Layers after the last block of `ranks`, of the same stack and of kinds that `ranks` has."""
    kinds = {kind(name) for name in ranks}
    last: dict[str, int] = {}
    for name in ranks:
        stack, number = _position(name)
        last[stack] = max(number, last.get(stack, 0))
    positions = {name: _position(name) for name in layers if kind(name) in kinds}
    return [name for name, (stack, number) in positions.items() if number > last.get(stack, number)]


def _position(name: str) -> tuple[str, int]:
    """The stack of a layer's block (`encoder.layer`) and the block's number; ("", 0) for a layer outside blocks."""
    stack, _, number = block(name).rpartition(".")
    return stack, int(number or 0)


def write(path: Path, ranks: Mapping[str, int]) -> None:
    """Write ranks as a file for `read`; missing directories are created."""
    with atomic_io.writing(path) as partial:
        partial.write_text(json.dumps(dict(ranks), indent=1) + "\n", encoding="utf-8")


def grid(ranks: Mapping[str, int]) -> tuple[list[str], list[str], list[list[int | None]]]:
    """Arrange ranks as a table of blocks and kinds of layers.

    A row is a numbered block of the model: the layer's name up to its first number, so encoder and decoder have
    separate rows. A column is a kind of layer, labeled with the shortest unique suffix of its name.

    Args:
        ranks: The rank of each layer, by name.

    Returns:
        Labels of the rows, labels of the columns, and the cells (rows x columns), all in the order of `ranks`. A cell
        without a layer is None.
    """
    split_names = [(block(name), name.removeprefix(f"{block(name)}.")) for name in ranks]
    positions = [(row, kind(path)) for row, path in split_names]
    if len(set(positions)) < len(positions):  # names have further numbers, of experts for example, which are then kept
        positions = split_names
    rows, columns = (list(dict.fromkeys(labels)) for labels in zip(*positions, strict=True)) if ranks else ([], [])
    rank_at = dict(zip(positions, ranks.values(), strict=True))
    cells = [[rank_at.get((row, column)) for column in columns] for row in rows]
    return _without_common_prefix(rows), _shortest_suffixes(_without_common_prefix(columns)), cells


def shared(file: Path, ranks: Mapping[str, int]) -> list[str]:
    """Describe which layers share an update.

    Args:
        file: The adapter file.
        ranks: The rank of each layer, by name.

    Returns:
        One line for each shared update: `query of 0, 3, 5`. Empty if no update is shared, or if the file does not exist
        (only adapters on the front are kept).

    Raises:
        AutorankError: The file is not an adapter.
    """
    from autorank.modeling import adapter_file  # imports torch, which figures of ranks do not need

    if not file.is_file():
        return []
    updates = adapter_file.update_indices(file)
    rows, columns, cells = grid({name: number for number, name in enumerate(ranks)})
    labels = {number: (rows[i], columns[j]) for i, row in enumerate(cells) for j, number in enumerate(row)}
    groups: dict[int, dict[str, list[str]]] = {}
    for number, name in enumerate(ranks):
        if name in updates:
            row, column = labels[number]
            groups.setdefault(updates[name], {}).setdefault(column, []).append(row)
    shared_by = [kinds for kinds in groups.values() if sum(map(len, kinds.values())) > 1]
    return ["; ".join(f"{column} of {', '.join(rows)}" for column, rows in kinds.items()) for kinds in shared_by]


def summary(ranks: Mapping[str, int]) -> str:
    """Return total and mean rank as text: `total rank 96, mean 8.0`."""
    total = sum(ranks.values())
    return f"total rank {total}, mean {total / max(len(ranks), 1):.1f}"


def _without_common_prefix(names: Sequence[str]) -> list[str]:
    """Dotted names without their common leading parts; at least the last part of each remains."""
    names = list(names)
    while all("." in name for name in names) and len({name.partition(".")[0] for name in names}) == 1:
        names = [name.partition(".")[2] for name in names]
    return names


def _shortest_suffixes(names: Sequence[str]) -> list[str]:
    """The shortest unique suffix of each dotted name; the whole name if it is a suffix of another."""

    def shortest(name: str) -> str:
        parts = name.split(".")
        suffixes = [".".join(parts[start:]) for start in reversed(range(len(parts)))]
        return next((s for s in suffixes if sum(ends_with(other, s) for other in names) == 1), name)

    return [shortest(name) for name in names]


def _shortened(value: Any) -> str:
    """A value of a JSON file as text of at most 40 characters."""
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
