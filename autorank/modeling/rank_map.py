"""Which layer has which rank: as a file to hand on and take up, and as a map, layers x kinds."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from autorank import atomic_io
from autorank.errors import AutorankError
from autorank.modeling.target_modules import block, kind

_REMEDY = "`autorank ranks NAME --to ranks.json` writes one."
_SHOWN = 3  # mistakes that a message names


def read(path: Path) -> dict[str, int]:
    """The ranks in a file: a JSON object, layer name -> rank, in the file's order.

    Raises:
        AutorankError: there is no such file, or it holds something else; all wrong ranks are reported at once.
    """
    if not path.is_file():
        raise AutorankError(f"There is no rank file {path}. {_REMEDY}")
    try:
        ranks = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # bytes that are no text, too
        raise AutorankError(f"The rank file {path} is not JSON: {error}. {_REMEDY}") from None
    if not isinstance(ranks, dict):
        raise AutorankError(f'The rank file {path} is no object {{"layer": rank}}: {_shown(ranks)}. {_REMEDY}')
    wrong = [f"{layer!r} has {_shown(rank)}" for layer, rank in ranks.items() if type(rank) is not int or rank < 0]
    if wrong:
        more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise AutorankError(
            f"In the rank file {path} a rank must be a whole number, 0 or more, but {', '.join(wrong[:_SHOWN])}{more}. "
            f"Put that right; {_REMEDY}"
        )
    return ranks


def given(path: Path, layers: Collection[str]) -> dict[str, int]:
    """The ranks in a rank map, in the order of `layers`; those of rank 0, or not in it, are left out.

    Raises:
        AutorankError: the map cannot be read, names a layer that is not among `layers`, or has no rank above 0.
    """
    ranks = read(path)
    if unknown := [name for name in ranks if name not in layers]:
        raise AutorankError(
            f"The rank map {path} names {unknown[0]!r}, which is none of the adapted layers. It must come from the "
            "same model, and `targets` must name all its layers (all-linear does)."
        )
    if not any(ranks.values()):
        raise AutorankError(f"The rank map {path} has no rank above 0.")
    return {name: ranks[name] for name in layers if ranks.get(name)}


def write(path: Path, ranks: Mapping[str, int]) -> None:
    """Write the file that `read` reads; folders on the way are made."""
    with atomic_io.writing(path) as partial:
        partial.write_text(json.dumps(dict(ranks), indent=1) + "\n", encoding="utf-8")


def grid(ranks: Mapping[str, int]) -> tuple[list[str], list[str], list[list[int | None]]]:
    """The ranks as layers x kinds: labels of the rows, labels of the columns, and the cells.

    A row is a layer of the model: the name up to its first number, so that an encoder and a decoder keep apart. A
    column is a kind: the shortest end of the name that no other kind has. Both are in the order of `ranks`, which
    is the model's. A cell that no layer falls into is None.
    """
    halves = [_halves(name) for name in ranks]
    places = [(layer, kind(rest)) for layer, rest in halves]
    if len(set(places)) < len(places):  # numbered again inside a layer, as experts are: the numbers tell them apart
        places = halves
    rows, columns = (list(dict.fromkeys(labels)) for labels in zip(*places, strict=True)) if places else ([], [])
    known = dict(zip(places, ranks.values(), strict=True))
    cells = [[known.get((row, column)) for column in columns] for row in rows]
    return _without_common_start(rows), _shortest_ends(_without_common_start(columns)), cells


def shared(file: Path, ranks: Mapping[str, int]) -> list[str]:
    """Which layers hold one update together, a line each: `query of 0, 3, 5`. `file`: the adapter.

    Empty where none do, and where the file is not there: adapters are kept of a front's points alone.

    Raises:
        AutorankError: the file is not an adapter.
    """
    from autorank.modeling import adapter_file  # torch, which pictures of ranks can do without

    if not file.is_file():
        return []
    updates = adapter_file.held(file)
    rows, columns, cells = grid({name: number for number, name in enumerate(ranks)})
    place = {number: (rows[i], columns[j]) for i, row in enumerate(cells) for j, number in enumerate(row)}
    groups: dict[int, dict[str, list[str]]] = {}
    for number, name in enumerate(ranks):
        if name in updates:
            row, column = place[number]
            groups.setdefault(updates[name], {}).setdefault(column, []).append(row)
    several = [kinds for kinds in groups.values() if sum(map(len, kinds.values())) > 1]
    return ["; ".join(f"{kind} of {', '.join(held)}" for kind, held in kinds.items()) for kinds in several]


def summary(ranks: Mapping[str, int]) -> str:
    """`total rank 96, mean 8.0`."""
    total = sum(ranks.values())
    return f"total rank {total}, mean {total / max(len(ranks), 1):.1f}"


def _halves(name: str) -> tuple[str, str]:
    """`encoder.layer.3` and `attention.self.query`; a name without a number has no first half."""
    layer = block(name)
    return layer, name.removeprefix(f"{layer}.")


def _without_common_start(names: Sequence[str]) -> list[str]:
    """Dotted names without the parts that all of them start with; of each, the last part stays."""
    names = list(names)
    while all("." in name for name in names) and len({name.partition(".")[0] for name in names}) == 1:
        names = [name.partition(".")[2] for name in names]
    return names


def _shortest_ends(names: Sequence[str]) -> list[str]:
    """Of each dotted name the shortest end that no other has; the whole name where it is the end of another."""

    def end(name: str) -> str:
        parts = name.split(".")
        ends = [".".join(parts[start:]) for start in reversed(range(len(parts)))]
        return next((e for e in ends if sum(f".{other}".endswith(f".{e}") for other in names) == 1), name)

    return [end(name) for name in names]


def _shown(value: Any) -> str:
    """A value of a JSON file, cut where it is long."""
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
