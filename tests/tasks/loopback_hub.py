"""A stand-in for the Hugging Face Hub on loopback: the part of its HTTP protocol that the real clients use."""

from __future__ import annotations

import base64
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
def serve(repositories: Repositories, token: str | None = None, writable: bool = False) -> Iterator[str]:
    """Serve until the end of the block; yields the address for HF_ENDPOINT. With a token, all repositories are gated.

    `writable`: commits change `repositories`; a commit is a single request.
    """

    class Handler(_Writable if writable else _Handler):  # type: ignore[misc]
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
        segments = path.split("/".join(repository.split("/")[-2:]), 1)[1].strip("/").split("/", 2)
        match segments:
            case ["resolve", _, file] if file in files:
                self._file(files[file])
            case ["tree", _, *folder] if any(name.startswith("".join(folder)) for name in files):
                self._json(_entries(files, "".join(folder)))
            case ["paths-info", _]:
                paths = json.loads(body)["paths"] if body.startswith("{") else parse_qs(body).get("paths", [])
                self._json([entry for entry in _entries(files, "") if entry["path"] in paths])
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

    def _json(self, value: object, status: int = 200) -> None:
        self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(HTTPStatus(status))
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class _Writable(_Handler):
    """The token's owner is `me`; repositories of anyone else are refused."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.token and self.headers.get("Authorization") != f"Bearer {self.token}":
            return self._refuse(401, "Invalid username or password.")
        match urlparse(self.path).path.strip("/").split("/"):
            case ["api", "validate-yaml"]:
                self._json({"warnings": [], "errors": []})
            case ["api", "repos", "create"]:
                self._create(json.loads(body))
            case ["api", "models", "me", name, "preupload", "main"] if f"models/me/{name}" in self.repositories:
                names = [file["path"] for file in json.loads(body)["files"]]
                self._json({"files": [{"path": n, "uploadMode": "regular", "shouldIgnore": False} for n in names]})
            case ["api", "models", "me", name, "commit", "main"] if f"models/me/{name}" in self.repositories:
                for line in body.splitlines():
                    entry = json.loads(line)
                    if entry["key"] == "deletedFile":
                        del self.repositories[f"models/me/{name}"][entry["value"]["path"]]
                    if entry["key"] == "file":
                        content = base64.b64decode(entry["value"]["content"])
                        self.repositories[f"models/me/{name}"][entry["value"]["path"]] = content
                address = f"http://{self.headers['Host']}/me/{name}/commit/{COMMIT}"
                self._json({"commitUrl": address, "commitOid": COMMIT})
            case _:
                self._refuse(404, "not here")

    def _create(self, request: dict[str, str]) -> None:
        owner, name = request.get("organization") or "me", request["name"]
        if owner != "me":
            return self._refuse(403, f"You don't have the rights to create a model under the namespace {owner}")
        exists = f"models/me/{name}" in self.repositories
        self.repositories.setdefault(f"models/me/{name}", {".visibility": request["visibility"].encode()})
        self._json({"url": f"http://{self.headers['Host']}/me/{name}"}, 409 if exists else 200)

    def _refuse(self, status: int, message: str) -> None:
        self._send(status, json.dumps({"error": message}).encode(), {"X-Error-Message": message})


def _entries(files: dict[str, bytes], folder: str) -> list[dict[str, object]]:
    """All files of a directory and its subdirectories, and these directories, as the Hub's tree endpoint lists them."""
    entries: list[dict[str, object]] = []
    for name, content in files.items():
        if name.startswith(folder):
            oid = hashlib.sha1(content).hexdigest()
            entries.append({"type": "file", "path": name, "size": len(content), "oid": oid})
    folders = {name.rpartition("/")[0] for name in files if "/" in name and name.startswith(folder)}
    return entries + [{"type": "directory", "path": name, "size": 0, "oid": "0" * 40} for name in sorted(folders)]
