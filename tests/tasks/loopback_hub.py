"""A Hub on the loopback for tests: as much of its HTTP protocol as the real clients need to load from it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlparse

COMMIT = "f" * 40
Repositories = dict[str, dict[str, bytes]]  # "datasets/org/name" or "models/org/name" -> path -> content


@contextlib.contextmanager
def serve(repositories: Repositories, token: str | None = None) -> Iterator[str]:
    """Serves until the end of the block; gives the address for HF_ENDPOINT. With a token, all is gated."""

    class Handler(_Handler):
        pass

    Handler.repositories, Handler.token = repositories, token
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    repositories: Repositories
    token: str | None

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        if self.token and self.headers.get("Authorization") != f"Bearer {self.token}":
            return self._send(401, b"", {"X-Error-Code": "GatedRepo"})
        path = unquote(urlparse(self.path).path).strip("/")
        api = path.startswith("api/")
        repository = next((name for name in self.repositories if self._names(path, name, api)), None)
        if repository is None:
            return self._send(404, b"", {"X-Error-Code": "RepoNotFound"})
        files = self.repositories[repository]
        rest = path.split("/".join(repository.split("/")[-2:]), 1)[1].strip("/").split("/", 2)
        match rest:
            case ["resolve", _, file] if file in files:
                self._file(files[file])
            case ["tree", _, *folder] if any(name.startswith("".join(folder)) for name in files):
                self._json(_entries(files, "".join(folder)))
            case ["paths-info", _]:
                wanted = json.loads(body)["paths"] if body.startswith("{") else parse_qs(body).get("paths", [])
                self._json([entry for entry in _entries(files, "") if entry["path"] in wanted])
            case [""] | ["revision", _]:
                siblings = [{"rfilename": name} for name in files]
                self._json({"id": "/".join(repository.split("/")[1:]), "sha": COMMIT, "siblings": siblings})
            case _:
                self._send(404, b"", {"X-Error-Code": "EntryNotFound"})

    do_HEAD = do_POST = do_GET

    def _names(self, path: str, repository: str, api: bool) -> bool:
        prefix = f"api/{repository}" if api else repository.removeprefix("models/")
        return path == prefix or path.startswith(prefix + "/")

    def _file(self, content: bytes) -> None:
        tag = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": COMMIT}
        first, _, last = self.headers.get("Range", "").removeprefix("bytes=").partition("-")
        if not first:
            return self._send(200, content, tag)
        part = content[int(first) : int(last or len(content)) + 1]
        span = f"bytes {first}-{int(first) + len(part) - 1}/{len(content)}"
        self._send(206, part, {**tag, "Content-Range": span})

    def _json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(HTTPStatus(status))
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _entries(files: dict[str, bytes], folder: str) -> list[dict[str, object]]:
    """All files of a folder and below, and their folders, as the tree call lists them."""
    found: list[dict[str, object]] = []
    for name, content in files.items():
        if name.startswith(folder):
            oid = hashlib.sha1(content).hexdigest()
            found.append({"type": "file", "path": name, "size": len(content), "oid": oid})
    folders = {name.rpartition("/")[0] for name in files if "/" in name and name.startswith(folder)}
    return found + [{"type": "directory", "path": name, "size": 0, "oid": "0" * 40} for name in sorted(folders)]
