"""Each method has its own color and symbol."""

from __future__ import annotations

from autorank.reporting.html.search_figures import curves
from autorank.reporting.html.trace_styles import HUES, method_styles
from tests.reporting.html.page_reader import traces
from tests.trials.trial_factories import snapshot, trial


def test_methods_differ_in_color_and_symbol_and_many_are_grouped():
    three_methods = [trial(i, (100 * (i + 1), 0.5 + i / 10), method=f"m{i}") for i in range(3)]
    styles = method_styles(snapshot(three_methods))
    assert [style.name for style in styles.values()] == ["m0", "m1", "m2"]
    assert len({style.color for style in styles.values()}) == len({style.symbol for style in styles.values()}) == 3
    assert method_styles(snapshot(three_methods[:1])) == {"m0": ("m0", "var(--line)", "circle")}
    twelve_methods = [*three_methods, *(trial(i, (1000 + i, 0.1), method=f"m{i}") for i in range(3, 12))]
    styles = method_styles(snapshot(twelve_methods))
    assert {name: style.name for name, style in styles.items()} == {f"m{i}": f"m{i}" for i in range(3)} | {
        f"m{i}": "other methods" for i in range(3, 12)
    }
    by_name = traces(curves(snapshot(twelve_methods)))
    assert len(by_name["other methods"]["x"]) == 9 * 2 and "m3" not in by_name
    failed = [trial(i, method=f"m{i}", state="failed") for i in range(12)]
    assert len(set(method_styles(snapshot(failed)).values())) == HUES + 1
