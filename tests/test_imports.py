"""Modules have no circular imports; `make lint` checks the order of the packages."""

from __future__ import annotations

from graphlib import TopologicalSorter

import grimp


def test_no_ring_of_modules() -> None:
    """Imports in functions and for type checkers count, too."""
    graph = grimp.build_graph("autorank", "trainables", cache_dir=None)
    imported = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    TopologicalSorter(imported).prepare()  # raises CycleError, which names a ring
