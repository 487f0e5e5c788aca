"""Keeps MLflow up to date while a search runs, in a thread of its own: it never slows or stops it."""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Callable
from contextlib import ExitStack

from autorank.errors import AutorankError
from autorank.redaction import hide
from autorank.tracking.mlflow_projection import Projection, quietly
from autorank.trials.snapshot import Snapshot

logger = logging.getLogger(__name__)

PAUSE = 1.0  # seconds between pushes; snapshots that come meanwhile are merged
LONGEST_PAUSE = 60.0  # after failures the pause doubles up to this


class Tracker:
    """Pushes the latest snapshot of the trials in the background. A store that is away gets one warning."""

    def __init__(self, projection: Projection, warn: Callable[[str], None] = logger.warning) -> None:
        self._projection = projection
        self._warn = warn
        self._warned = False
        self._snapshot = Snapshot([], [], [])
        self._fresh = threading.Event()
        self._closing = threading.Event()
        self._sent = False
        self._within = ExitStack()
        self._within.enter_context(quietly())  # here: in the thread it would change what others read of the environment
        self._thread = threading.Thread(target=self._work, name="autorank-tracker", daemon=True)
        self._thread.start()

    def update(self, snapshot: Snapshot) -> None:
        """Hands over a snapshot; returns at once. One that says nothing new is ignored."""
        if snapshot != self._snapshot:
            self._snapshot = snapshot
            self._fresh.set()

    def close(self, timeout: float = 15.0) -> bool:
        """Sends the last snapshot and ends the search's run; gives up after `timeout` seconds.

        Returns whether all was sent; if not, `autorank sync` does it later.
        """
        self._closing.set()
        self._fresh.set()
        self._thread.join(timeout)
        self._within.close()
        return self._sent

    def _work(self) -> None:
        pause = PAUSE
        while True:
            self._fresh.wait()
            if self._closing.is_set():
                break
            self._fresh.clear()
            if self._push(final=False):
                pause = PAUSE
            else:
                pause = min(2 * pause, LONGEST_PAUSE)
                self._fresh.set()
            self._closing.wait(pause)
        self._sent = self._push(final=True)

    def _push(self, final: bool) -> bool:
        try:
            self._projection.push(self._snapshot, final)
            return True
        except Exception as error:  # whatever it is, a search is worth more than its tracking
            logger.debug("push to MLflow failed: %s", hide(traceback.format_exc()))
            if not self._warned:
                self._warned = True
                self._warn(str(error) if isinstance(error, AutorankError) else f"Tracking failed: {hide(repr(error))}")
            return False
