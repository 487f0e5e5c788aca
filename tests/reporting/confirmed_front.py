"""Three points of a front, two of them confirmed with new seeds."""

from __future__ import annotations

from tests.trials.trial_factories import trial

THREE = [trial(0, (9216, 0.7)), trial(1, (147_456, 0.8)), trial(2, (200_000, 0.9))]
CONFIRMED = {
    (0, 10, 9216, 1): {"score": 0.68},
    (0, 10, 9216, 2): {"score": 0.7},
    (1, 10, 147_456, 1): {"score": 0.75},
    (1, 10, 147_456, 2): {"failed": "out of memory"},
    (1, 20, 147_456, 1): {"score": 0.1},  # no point of the front
}
