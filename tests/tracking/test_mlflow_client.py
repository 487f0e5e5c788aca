"""The cause of MLflow's errors, from real failed requests."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from autorank.tracking.mlflow_client import root_cause


class Busy(BaseHTTPRequestHandler):
    """A server that is overloaded."""

    def do_GET(self) -> None:
        self.send_response(503)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def busy() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Busy) as server:
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


def test_urllib3_is_not_quoted(busy: str) -> None:
    assert cause(busy) == "HTTP status 503"
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        assert cause(f"http://127.0.0.1:{closed.getsockname()[1]}") == "Connection refused"  # it does not listen


def test_other_errors_are_their_first_line() -> None:
    assert root_cause(ValueError("not found.\nmore")) == "not found" and root_cause(ValueError()) == "ValueError"
