"""MLflow's server as `autorank ui` runs it: model training first, no telemetry, no assistant.

MLflow's pages keep these settings in the browser and have no option for them. The start page therefore sets them before
MLflow's own code runs, unless the user has changed them. `mlflow ui` with the same store shows MLflow as it is.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.requests import Request
    from starlette.responses import Response

ASSISTANT = "/ajax-api/3.0/mlflow/assistant/{path:path}"
SETTINGS = {  # keys and values in the browser's local storage
    "mlflow.workflowType_v1": "machine_learning",
    "mlflow.settings.telemetry.enabled_v1": False,
    "mlflow.telemetry.info.alert.dismissed_v1": True,  # the notice that usage data is collected
    "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": True,  # else the assistant opens on the first visit
}
HEAD = f"""<script>
for (const [key, value] of Object.entries({json.dumps(SETTINGS)}))
  if (localStorage.getItem(key) === null) localStorage.setItem(key, JSON.stringify(value));
if (!location.hash) location.replace("#/experiments");
</script>
<style>[data-assistant-ui] {{ display: none !important; }}</style>
"""


def create_app() -> FastAPI:
    """Create MLflow's server with another start page and without the assistant's interface.

    Returns:
        The application, for uvicorn. MLflow finds this function by the entry point `mlflow.app`.
    """
    from mlflow.server import app as pages
    from mlflow.server.fastapi_app import create_fastapi_app
    from starlette.responses import HTMLResponse, PlainTextResponse
    from starlette.routing import Route

    html = Path(str(pages.static_folder), "index.html").read_text(encoding="utf-8").replace("<head>", f"<head>{HEAD}")

    async def start_page(request: Request) -> Response:
        return HTMLResponse(html, headers={"Cache-Control": "no-store"})

    async def no_assistant(request: Request) -> Response:
        return PlainTextResponse("autorank ui serves MLflow without its assistant.", status_code=404)

    app: FastAPI = create_fastapi_app()
    every = ["GET", "POST", "PUT", "PATCH", "DELETE"]
    app.router.routes[:0] = [Route("/", start_page), Route(ASSISTANT, no_assistant, methods=every)]
    return app
