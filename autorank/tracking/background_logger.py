"""Updates MLflow in a background thread while a search runs, without delaying or stopping the search."""

from __future__ import annotations

import importlib
import logging
import threading
import traceback
from collections.abc import Callable
from contextlib import ExitStack

from autorank.errors import AutorankError
from autorank.redaction import hide
from autorank.tracking.mlflow_client import quietly
from autorank.tracking.mlflow_sync import MLflowSync
from autorank.trials.snapshot import Snapshot

logger = logging.getLogger(__name__)

UPDATE_INTERVAL_S = 1.0  # seconds between updates; only the latest snapshot is sent
MAX_UPDATE_INTERVAL_S = 60.0  # seconds; after failures the pause doubles up to this


class BackgroundLogger:
    """Sends the latest snapshot of a search to MLflow in the background. An unreachable store causes one warning.

    Args:
        sync: Sends snapshots to the store.
        warn: Prints a warning.
    """

    def __init__(self, sync: MLflowSync, warn: Callable[[str], None] = logger.warning) -> None:
        self._sync = sync
        self._warn = warn
        self._warned = False
        self._snapshot = Snapshot([], [], [])
        self._updated = threading.Event()
        self._closing = threading.Event()
        self._sent = False
        self._context = ExitStack()
        self._context.enter_context(quietly())  # not in the thread, because it changes the environment
        importlib.import_module("mlflow.tracking")  # likewise: Ray imports MLflow, too, and two imports can deadlock
        self._thread = threading.Thread(target=self._work, name="autorank-mlflow", daemon=True)
        self._thread.start()

    def update(self, snapshot: Snapshot) -> None:
        """Schedule a snapshot to be sent and return at once. A snapshot equal to the last one is ignored."""
        if snapshot != self._snapshot:
            self._snapshot = snapshot
            self._updated.set()

    def close(self, timeout: float = 15.0) -> bool:
        """Send the last snapshot and end the run of the search.

        Args:
            timeout: Seconds to wait.

        Returns:
            Whether everything was sent; otherwise `autorank sync` can send the rest later.
        """
        self._closing.set()
        self._updated.set()
        self._thread.join(timeout)
        self._context.close()
        return self._sent

    def _work(self) -> None:
        pause = UPDATE_INTERVAL_S
        while True:
            self._updated.wait()
            if self._closing.is_set():
                break
            self._updated.clear()
            if self._push(final=False):
                pause = UPDATE_INTERVAL_S
            else:
                pause = min(2 * pause, MAX_UPDATE_INTERVAL_S)
                self._updated.set()
            self._closing.wait(pause)
        self._sent = self._push(final=True)

    def _push(self, final: bool) -> bool:
        try:
            self._sync.push(self._snapshot, final)
            return True
        except Exception as error:  # tracking must not stop a search
            logger.debug("sending to MLflow failed: %s", hide(traceback.format_exc()))
            if not self._warned:
                self._warned = True
                self._warn(str(error) if isinstance(error, AutorankError) else f"Tracking failed: {hide(repr(error))}")
            return False
