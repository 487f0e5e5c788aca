"""The cause of MLflow's errors, from real failed requests."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from autorank.tracking.mlflow_client import root_cause


class BusyHandler(BaseHTTPRequestHandler):
    """Answers with status 503, as an overloaded server does."""

    def do_GET(self) -> None:
        self.send_response(503)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def busy_server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), BusyHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def cause(url: str) -> str:
    """The cause of a request with retries on status 503, as MLflow's client makes and wraps them."""
    with requests.Session() as session:
        session.mount("http://", HTTPAdapter(max_retries=Retry(0, status_forcelist=[503])))
        with pytest.raises(RuntimeError) as raised:
            try:
                session.get(url, timeout=10)
            except requests.RequestException as error:
                raise RuntimeError(f"API request failed with exception {error}") from error
    return root_cause(raised.value)


def test_the_cause_has_no_text_of_urllib3(busy_server: str, closed_port: int) -> None:
    assert cause(busy_server) == "HTTP status 503"
    assert cause(f"http://127.0.0.1:{closed_port}") == "Connection refused"


def test_the_cause_of_other_errors_is_their_first_line() -> None:
    assert root_cause(ValueError("not found.\nmore")) == "not found" and root_cause(ValueError()) == "ValueError"
