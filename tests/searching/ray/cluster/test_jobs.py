"""Jobs against a fake dashboard in a thread; `test_jobs_real.py` has a real one."""

from __future__ import annotations

import asyncio
import io
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from typer.testing import CliRunner

from autorank.cli import app
from autorank.errors import AutorankError
from autorank.searching.ray.cluster import jobs

TOKEN = "0123456789abcdef0123456789abcdef"
ID = "raysubmit_1"


class Dashboard:
    """The part of Ray's job server that a submission needs; with `breaks` it does not stream the log."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.token = folder, ""
        self.log, self.breaks = "one\ntwo\nthree\n", False
        self.end: dict[str, Any] = {"status": "SUCCEEDED", "driver_exit_code": 0}
        self.job: dict[str, Any] = {}
        self.started = threading.Event()
        self.app = web.Application(middlewares=[self._guard], client_max_size=2**27)
        self.app.router.add_get("/api/version", self._version)
        self.app.router.add_get("/api/packages/gcs/{name}", self._package)
        self.app.router.add_put("/api/packages/gcs/{name}", self._upload)
        self.app.router.add_post("/api/jobs/", self._submit)
        self.app.router.add_get(f"/api/jobs/{ID}", self._details)
        self.app.router.add_get(f"/api/jobs/{ID}/logs", self._logs)
        self.app.router.add_get(f"/api/jobs/{ID}/logs/tail", self._tail)

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> Any:
        authorization = request.headers.get("Authorization")
        if self.token and authorization != f"Bearer {self.token}":
            return web.Response(status=403 if authorization else 401)
        return await handler(request)

    async def _version(self, request: web.Request) -> web.Response:
        return web.json_response({"version": "4", "ray_version": "2.60.0", "ray_commit": "x", "session_name": "s"})

    async def _package(self, request: web.Request) -> web.Response:
        return web.Response(status=200 if (self.folder / request.match_info["name"]).exists() else 404)

    async def _upload(self, request: web.Request) -> web.Response:
        (self.folder / request.match_info["name"]).mkdir()
        zipfile.ZipFile(io.BytesIO(await request.read())).extractall(self.folder / request.match_info["name"])
        return web.Response()

    async def _submit(self, request: web.Request) -> web.Response:
        self.job = await request.json()
        return web.json_response({"job_id": ID, "submission_id": ID})

    async def _details(self, request: web.Request) -> web.Response:
        return web.json_response({"type": "SUBMISSION", "entrypoint": self.job["entrypoint"], **self.end})

    async def _logs(self, request: web.Request) -> web.Response:
        return web.json_response({"logs": self.log})

    async def _tail(self, request: web.Request) -> web.StreamResponse:
        if self.breaks:
            return web.Response(status=502)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        for line in self.log.splitlines(keepends=True):
            await socket.send_str(line)
        await socket.close()
        return socket

    def serve(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.loop.run_until_complete(self._start())
        self.loop.run_forever()

    async def _start(self) -> None:
        runner = web.AppRunner(self.app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.address = f"http://127.0.0.1:{runner.addresses[0][1]}"
        self.started.set()


@pytest.fixture
def dashboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Dashboard]:
    (tmp_path / "home").mkdir()
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv(jobs.VARIABLES[0], "")  # `submit` sets it
    monkeypatch.setattr(jobs, "RECONNECT_INTERVAL_S", 0.01)
    (tmp_path / "packages").mkdir()
    server = Dashboard(tmp_path / "packages")
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()
    assert server.started.wait(30)
    yield server
    server.loop.call_soon_threadsafe(server.loop.stop)
    thread.join(10)


SEARCH = ("search", "--method", "lora", "--task", "demo")


def submit(dashboard: Dashboard, *words: str) -> Any:
    return CliRunner().invoke(app.app, ["submit", "--address", dashboard.address, *words])


def test_the_log_is_printed_and_the_exit_code_is_the_drivers(dashboard: Dashboard) -> None:
    result = submit(dashboard, "--", *SEARCH)
    assert result.exit_code == 0, result.output
    assert f"ray job stop --address {dashboard.address} {ID}" in result.stdout
    assert result.stdout.endswith("one\ntwo\nthree\n")
    words = 'python -P -m autorank search --method lora --task demo --address auto --runs "$HOME"/runs'
    assert dashboard.job["entrypoint"] == words
    for end, code in (
        ({"status": "FAILED", "driver_exit_code": 2, "message": "as the log says"}, 2),
        ({"status": "FAILED", "driver_exit_code": -9}, 137),
        ({"status": "STOPPED"}, 130),
    ):
        dashboard.end = end
        result = submit(dashboard, "--", *SEARCH)
        assert result.exit_code == code and "as the log says" not in result.stdout


def test_a_job_that_never_started_says_why(dashboard: Dashboard) -> None:
    dashboard.log, dashboard.end = "", {"status": "FAILED", "message": "runtime_env setup failed"}
    result = submit(dashboard, "--", *SEARCH)
    assert result.exit_code == 1 and "runtime_env setup failed" in result.stdout


def test_a_broken_connection_repeats_no_output(dashboard: Dashboard) -> None:
    job = jobs.submit(dashboard.address, "x")
    dashboard.end, printed = {"status": "RUNNING"}, []

    def write(text: str) -> None:
        printed.append(text)
        if "three" in text:  # the job goes on and ends, behind a proxy that speaks no websocket
            dashboard.breaks, dashboard.log = True, dashboard.log + "four\n"
        if "four" in text:
            dashboard.end = {"status": "SUCCEEDED", "driver_exit_code": 0}

    assert jobs.follow(job, write) == 0
    assert "".join(printed) == "one\ntwo\nthree\nfour\n"


def test_no_wait_prints_the_command_that_follows_the_job(dashboard: Dashboard) -> None:
    result = submit(dashboard, "--no-wait", "--", "resume", "mine", "--runs", "/shared/runs")
    assert result.exit_code == 0 and "three" not in result.stdout
    assert f"ray job logs --follow --address {dashboard.address} {ID}" in result.stdout
    assert dashboard.job["entrypoint"].endswith("resume mine --runs /shared/runs --address auto")


def test_the_local_autorank_is_uploaded_with_its_methods(dashboard: Dashboard, tmp_path: Path) -> None:
    """A Python without any packages finds code and methods in the uploaded packages, which Ray adds to its path."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "data.csv").write_text("a,b\n")
    data_options = ("--data", "data.csv", "--text", "a", "--label", "b")
    assert submit(dashboard, "--working-dir", str(tmp_path / "mine"), "--", *SEARCH[:3], *data_options).exit_code == 0
    packages = [dashboard.folder / uri.removeprefix("gcs://") for uri in dashboard.job["runtime_env"]["py_modules"]]
    code = (
        "import importlib.metadata as m, importlib.util as u;"
        "print(*sorted(p.value for p in m.entry_points(group='autorank.methods')));"
        "print(*(u.find_spec(n).origin for n in ('autorank.cli.app', 'trainables.lora', 'search_spaces')))"
    )
    process = subprocess.run(
        [sys.executable, "-B", "-S", "-P", "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path,
        env={"PYTHONPATH": os.pathsep.join(map(str, packages))},
    )  # fmt: skip
    methods, files = (line.split() for line in process.stdout.splitlines())
    assert "trainables.lora:LoRA" in methods and len(methods) >= 5
    assert len(files) == 3 and all(file.startswith(str(dashboard.folder)) for file in files)
    assert {"model.safetensors", "lora.yaml"} <= {file.name for file in dashboard.folder.rglob("*")}
    assert [file for file in dashboard.folder.rglob("__pycache__")] == []
    working_dir = dashboard.folder / dashboard.job["runtime_env"]["working_dir"].removeprefix("gcs://")
    assert [file.name for file in working_dir.iterdir()] == ["data.csv"]


@pytest.mark.parametrize("token_source", ["home", "variable", "path"])
def test_a_token_is_used_if_the_cluster_requires_it(
    dashboard: Dashboard, token_source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dashboard.token = TOKEN
    if token_source == "variable":
        monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    else:
        file = tmp_path / "home" / ".ray" / "auth_token" if token_source == "home" else tmp_path / "token"
        file.parent.mkdir(exist_ok=True)
        file.write_text(TOKEN + "\n")
        if token_source == "path":
            monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(file))
    result = submit(dashboard, "--", *SEARCH)
    assert result.exit_code == 0, result.output
    assert "RAY_AUTH_MODE=token ray job stop" in result.stdout and TOKEN not in result.stdout


def test_a_missing_or_wrong_token_is_reported(dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch) -> None:
    dashboard.token = TOKEN
    with pytest.raises(AutorankError, match=r"requires a token.* RAY_AUTH_MODE=token.*~/\.ray/auth_token"):
        jobs.submit(dashboard.address, "x")
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    with pytest.raises(AutorankError, match="RAY_AUTH_MODE requires a token, but none was found"):
        jobs.submit(dashboard.address, "x")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "f" * 32)
    with pytest.raises(AutorankError, match=r"rejects the token from RAY_AUTH_TOKEN.*RAY_AUTH_MODE=token"):
        jobs.submit(dashboard.address, "x")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/nowhere/token")
    with pytest.raises(AutorankError, match="RAY_AUTH_TOKEN_PATH is /nowhere/token"):
        jobs.submit(dashboard.address, "x")


def test_an_address_without_a_job_server_is_reported(dashboard: Dashboard) -> None:
    with pytest.raises(AutorankError, match=r"does not accept Ray jobs \(status 404\).*ray\[default\]"):
        jobs.submit(dashboard.address + "/elsewhere", "x")
    with pytest.raises(AutorankError, match=r"No Ray cluster answers at http://127\.0\.0\.1:1 "):
        jobs.submit("http://127.0.0.1:1", "x")


def test_a_rejected_job_is_reported_in_one_line(dashboard: Dashboard) -> None:
    dashboard.app._client_max_size = 1000
    with pytest.raises(AutorankError, match=r"rejected the job: .*413.* storage that all nodes share"):
        jobs.submit(dashboard.address, "x")


def test_a_ray_without_its_default_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "opencensus" else object())
    with pytest.raises(AutorankError, match="Ray is installed without opencensus"):
        jobs.submit("http://127.0.0.1:1", "x")


def test_the_address_comes_from_the_option_or_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_ADDRESS", "http://there:8265")
    assert jobs.resolve("http://here:1/") == "http://here:1" and jobs.resolve(None) == "http://there:8265"
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    with pytest.raises(AutorankError, match=r"RAY_ADDRESS '10.0.0.1:6379' is not the address of a dashboard"):
        jobs.resolve(None)
    monkeypatch.delenv("RAY_ADDRESS")
    assert jobs.resolve(None) == jobs.DEFAULT


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "The command is missing. Usage: autorank submit"),
        (("front", "x"), "'front' cannot be submitted. Available: search, resume, train"),
        (("--", *SEARCH[:3], "--data", "here.csv", "--text", "a", "--label", "b"), "--data here.csv is not uploaded"),
        (("--working-dir", "in", "--", *SEARCH, "--space", "here.csv"), "--space here.csv is not in --working-dir in"),
        (("--working-dir", "in", "--", *SEARCH, "--model", "model"), "--model model is not in"),
        (("--working-dir", "no", "--", *SEARCH), "--working-dir no is not a directory"),
        (("--", *SEARCH, "--set", "retrain=here.csv"), "--set retrain here.csv is not uploaded"),
        (("--", *SEARCH, "--runs", "runs"), "--runs runs would be lost"),
        (("--", *SEARCH, "--tracking-uri", "sqlite:///runs.db"), "--tracking-uri runs.db would be lost"),
        (("--", "search", "--recipe", "increlora-table1"), "increlora-table1.yaml is not uploaded"),
        (("--", "train", *SEARCH[1:], "--to", "adapter"), "--to adapter would be lost"),
    ],
)
def test_job_that_would_fail_on_the_cluster_is_refused(
    words: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here.csv").touch()
    for name in ("in", "model"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app.app, ["submit", "--address", "http://127.0.0.1:1", *words])
    assert isinstance(result.exception, AutorankError) and message in str(result.exception)


def test_paths_on_the_cluster_are_submitted(
    dashboard: Dashboard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names of the Hub, absolute paths, and paths relative to the working directory."""
    (tmp_path / "in" / "model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    options = ("--model", "model", "--runs", "/shared/runs", "--tracking-uri", "sqlite:////shared/mlflow.db")
    assert submit(dashboard, "--working-dir", "in", "--", *SEARCH, *options).exit_code == 0
    options = ("--model", "org/model", "--data", "/shared/x.csv", "--set", "rank=4")
    assert submit(dashboard, "--", *SEARCH[:3], *options, "--text", "a", "--label", "b").exit_code == 0


def test_a_misspelt_option_is_reported_before_submission() -> None:
    result = CliRunner().invoke(app.app, ["submit", "--address", "http://127.0.0.1:1", "--", "search", "--tsk", "demo"])
    assert result.exit_code == 2 and "--tsk" in result.output
