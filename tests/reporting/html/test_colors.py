"""Methods' colors differ for each kind of color blindness, and stand out from the page."""

from __future__ import annotations

import re
from importlib.resources import files
from itertools import combinations

import numpy as np
import pytest

from autorank.reporting.html.trace_styles import HUES

# Linear RGB as seen without one kind of cone: Machado, Oliveira and Fernandes 2009, severity 1
VISION_MATRICES = {
    "all": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])  # sRGB, D65
CSS = files("autorank.reporting.html").joinpath("page.css").read_text()


def linear(name, theme):
    """A variable of the style sheet as linear RGB."""
    text = re.search(rf"--{name}: light-dark\(#(\w+), #(\w+)\)", CSS)[1 + theme]
    value = np.array([int(text[i : i + 2], 16) for i in (0, 2, 4)]) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    """CIELAB, where distance is perceived difference."""
    ratio = XYZ @ np.clip(rgb, 0, 1) / (XYZ @ np.ones(3))
    f = np.where(ratio > 0.008856, np.cbrt(ratio), 7.787 * ratio + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("vision", VISION_MATRICES)
def test_hues_differ(theme, vision):
    hues = [lab(VISION_MATRICES[vision] @ linear(name, theme)) for name in ("line", *(f"hue-{i}" for i in range(HUES)))]
    assert min(np.linalg.norm(a - b) for a, b in combinations(hues, 2)) > 10


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_lines_stand_out(theme):
    """WCAG 2 requires a contrast of 3 : 1 for graphics; lines of the lowest score may have 2 : 1."""

    def luminance(name):
        return XYZ[1] @ linear(name, theme)

    min_ratios = {f"hue-{i}": 3 for i in range(HUES)} | {"line": 3, "baseline": 3, "high": 3, "middle": 3, "low": 2}
    for name, ratio in min_ratios.items():
        a, b = sorted((luminance(name), luminance("panel")))
        assert (b + 0.05) / (a + 0.05) >= ratio, name
