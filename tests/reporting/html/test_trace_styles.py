"""Methods look different from one another."""

from __future__ import annotations

from autorank.reporting.html.search_figures import curves
from autorank.reporting.html.trace_styles import HUES, method_styles
from tests.reporting.html.read import traces
from tests.trials.made_trials import snapshot, trial


def test_methods_differ_in_color_and_symbol_and_many_are_grouped():
    few = [trial(i, (100 * (i + 1), 0.5 + i / 10), method=f"m{i}") for i in range(3)]
    found = method_styles(snapshot(few))
    assert [style.name for style in found.values()] == ["m0", "m1", "m2"]
    assert len({style.color for style in found.values()}) == len({style.symbol for style in found.values()}) == 3
    assert method_styles(snapshot(few[:1])) == {"m0": ("m0", "var(--line)", "circle")}
    many = [*few, *(trial(i, (1000 + i, 0.1), method=f"m{i}") for i in range(3, 12))]
    found = method_styles(snapshot(many))
    assert {name: style.name for name, style in found.items()} == {f"m{i}": f"m{i}" for i in range(3)} | {
        f"m{i}": "other methods" for i in range(3, 12)
    }
    there = traces(curves(snapshot(many)))
    assert len(there["other methods"]["x"]) == 9 * 2 and "m3" not in there
    lost = [trial(i, method=f"m{i}", state="failed") for i in range(12)]
    assert len(set(method_styles(snapshot(lost)).values())) == HUES + 1
