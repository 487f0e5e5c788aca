"""No secrets are written: all files of a search and of later commands are checked."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from autorank.errors import AutorankError
from autorank.redaction import has_password, hide

MARK = "pl4nted"
PROXY = f"http://me-{MARK}:proxy-{MARK}@127.0.0.1:9"
SECRETS = {
    name: f"{name.lower()}-{MARK}"
    for name in (
        "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD",
        "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "RAY_AUTH_TOKEN", "WANDB_API_KEY",
    )
} | {"HTTP_PROXY": PROXY, "HTTPS_PROXY": PROXY, "https_proxy": PROXY}  # fmt: skip
SMALL_TASK = ["--method", "lora", "--task", "demo", "--max-train-examples", "64", "--max-eval-examples", "32"]
PROGRAM = """
import sys
from autorank.cli.app import app
for words in sys.argv[1].split(";"):
    app(words.split(), standalone_mode=False)
"""


@pytest.fixture
def workspace():
    """A directory whose path is short enough for Ray's sockets."""
    with tempfile.TemporaryDirectory(prefix="secret") as folder:
        yield Path(folder)


@pytest.fixture
def refusing_server(closed_port):
    """The address of an MLflow server that refuses all connections, with a password."""
    return f"http://me-{MARK}:uri-{MARK}@127.0.0.1:{closed_port}"


def run(workspace, *words):
    """Runs a command with secrets in its environment that writes only to `workspace`; returns exit code and output."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_"))}
    directories = {
        "HOME": str(workspace),
        "RAY_TMPDIR": str(workspace),
        "AUTORANK_CACHE": str(workspace / "cache"),
        "NO_PROXY": "",
    }
    result = subprocess.run(
        [sys.executable, *words],
        env=inherited | SECRETS | directories,
        cwd=workspace,
        capture_output=True,
        text=True,
        timeout=400,
    )
    return result.returncode, result.stdout + result.stderr


def files_with_secrets(workspace):
    return [
        str(file.relative_to(workspace)) for file in workspace.rglob("*")
        if file.is_file() and not file.is_symlink() and MARK.encode() in file.read_bytes()
    ]  # fmt: skip


@pytest.mark.long
def test_secrets_are_not_written(workspace, refusing_server):
    short = ["--trials", "2", "--epochs", "1", "--concurrency", "1"]
    search = ["search", *SMALL_TASK, *short, "--scheduler", "none", "--name", "s"]
    # the address with its password is on the command line, which Ray reads
    code, search_output = run(workspace, "-m", "autorank.cli.app", *search, "--tracking-uri", refusing_server)
    assert code == 0 and "autorank sync s" in search_output, search_output
    later = ["sync s --tracking-uri sqlite:///runs/mlflow.db", "report s",
             "export s --knee --to adapter", "export s --knee --merge --to model",
             f"train {' '.join(SMALL_TASK)} --steps 2 --to trained"]  # fmt: skip
    code, later_output = run(workspace, "-c", PROGRAM, ";".join(later))
    assert code == 0, later_output
    code, refusal = run(workspace, "-m", "autorank.cli.app", "--debug", "sync", "s", "--tracking-uri", refusing_server)
    assert code == 1 and "Traceback" in refusal and "cannot be reached or rejects the request" in refusal
    assert MARK not in search_output + later_output + refusal

    file_names = {file.name for file in workspace.rglob("*") if file.is_file()}
    expected = {"journal.log", "mlflow.db", "report.html", "front_table.json", "ray.log", "README.md", "raylet.out"}
    assert expected <= file_names, expected - file_names
    assert files_with_secrets(workspace) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://me:pw@host:5000/a", "http://host:5000/a"),
        ("postgresql://me:p/w@d@host/db?x=1", "postgresql://host/db?x=1"),
        ("proxy='http://me:pw@host', tried http://me:pw@host/a", "proxy='http://host', tried http://host/a"),
        ("sqlite:////a/b@c/mlflow.db", "sqlite:////a/b@c/mlflow.db"),
        ("https://host/a@b/c", "https://host/a@b/c"),
        ("https://token-only@host/a", "https://host/a"),
        ("postgresql://host/db?password=pw&x=1", "postgresql://host/db?password=***&x=1"),
        ("mail me@host", "mail me@host"),
        ("http://host:5000/#/models/x@knee", "http://host:5000/#/models/x@knee"),
        ("http://127.0.0.1:8265/a@b", "http://127.0.0.1:8265/a@b"),
        ("http://me:12345@host:5000/a@b", "http://b"),  # a password may hold an @, so the last one counts
        ("http://host:80/?to=http://me:pw@there", "http://host:80/?to=http://there"),
        ("s3://bucket/runs", "s3://bucket/runs"),
        ("http://u:1234/abc@h", "http://h"),
        ("http://u:1234/abc@h/x", "http://h/x"),
    ],
)
def test_addresses_without_passwords(text, expected):
    assert hide(text) == expected and hide(expected) == expected


def test_values_of_secret_variables(monkeypatch):
    for name, value in {
        "HF_TOKEN": "hf_0123456789", "RAY_AUTH_TOKEN_PATH": "/home/me/token", "TOKENIZERS_PARALLELISM": "sometimes",
        "MY_SECRET": "short",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    text = "Bearer hf_0123456789 in /home/me/token, sometimes, in short"
    assert hide(text) == "Bearer *** in /home/me/token, sometimes, in short"


@pytest.mark.parametrize(
    "name",
    [
        "PGPASSWORD", "MYSQL_PWD", "AZURE_STORAGE_KEY", "OPENAI_APIKEY", "DEPLOY_PRIVATE_KEY", "DB_PASS", "GITHUB_PAT",
        "AWS_ACCESS_KEY_ID", "CLIENT_SECRET", "HF_TOKEN", "my_token",
    ],
)  # fmt: skip
def test_names_of_secret_variables(monkeypatch, name):
    monkeypatch.setenv(name, "0123456789")
    assert hide("it is 0123456789") == "it is ***"


@pytest.mark.parametrize(
    "name", ["PWD", "OLDPWD", "GOOGLE_APPLICATION_CREDENTIALS", "TOKEN_FILE", "KEYBOARD", "COMPASS"]
)
def test_names_of_variables_without_secrets(monkeypatch, name):
    monkeypatch.setenv(name, "0123456789")
    assert hide("it is 0123456789") == "it is 0123456789"


def test_short_passwords_and_those_that_begin_with_another(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hunter2")
    monkeypatch.setenv("A_TOKEN", "abcd")
    monkeypatch.setenv("B_TOKEN", "abcdefgh")
    monkeypatch.setenv("C_PASSWORD", "and")
    assert hide("hunter2 and abcdefgh and abcd") == "*** and *** and ***"


def test_a_password_that_is_part_of_a_word(monkeypatch):
    monkeypatch.setenv("DB_PASSWORD", "postgres")
    assert hide("postgresql://h/db") == "postgresql://h/db"
    assert hide("postgresql://postgres:postgres@h/db is no postgres") == "postgresql://h/db is no ***"
    monkeypatch.setenv("ODD_PASSWORD", "/pass!")
    assert hide("x/pass!y") == "x***y"
    monkeypatch.setenv("HF_TOKEN", "0123456789abcdef")
    assert hide("a\\n0123456789abcdefb") == "a\\n***b"  # escapes of repr


def test_a_path_in_a_credentials_variable_is_no_secret(monkeypatch, tmp_path):
    monkeypatch.setenv("SERVICE_CREDENTIALS", str(tmp_path))
    monkeypatch.setenv("OTHER_CREDENTIALS", "a/secret/with/slashes")
    assert hide(f"{tmp_path} a/secret/with/slashes") == f"{tmp_path} ***"


def test_the_error_of_a_failed_trial(monkeypatch):
    from autorank.searching.ray.actors.recorded_run import failed

    monkeypatch.setenv("HF_TOKEN", f"hf_{MARK}")
    try:
        raise OSError(f"No answer through {PROXY} with token hf_{MARK}")
    except OSError as error:
        failure = failed(error)
    assert "No answer through http://127.0.0.1:9 with token ***" in failure["failed"]
    assert "Traceback" in failure["traceback"] and MARK not in str(failure)


def test_the_log_of_a_search(monkeypatch, tmp_path):
    from autorank.searching.ray.cluster import connection

    monkeypatch.setenv("HF_TOKEN", f"hf_{MARK}")
    with connection._quiet(tmp_path / "ray.log"):
        try:
            raise ValueError(f"hf_{MARK} was refused")
        except ValueError:
            logging.getLogger("autorank.searching.journal_searcher").exception("through %s", PROXY)
    text = (tmp_path / "ray.log").read_text()
    assert "ValueError: *** was refused" in text and MARK not in text


def test_tune_passes_no_keys_to_actors(tmp_path, monkeypatch):
    from ray.tune.execution import class_cache

    from autorank.searching.ray import _compat

    def environment_of_actor():
        environments = []
        with monkeypatch.context() as patch:
            patch.setattr("ray.remote", lambda runtime_env: environments.append(runtime_env) or (lambda cls: cls))
            class_cache._ActorClassCache().get(object)
        return environments[0]["env_vars"]

    names = {*class_cache.ENV_VARS_TO_PROPAGATE, "AWS_SECRET_ACCESS_KEY"}  # a search of this process may be at work
    monkeypatch.setattr(class_cache, "ENV_VARS_TO_PROPAGATE", names)
    for name in names:
        monkeypatch.setenv(name, MARK)
    assert environment_of_actor()["AWS_SECRET_ACCESS_KEY"] == MARK  # else there is nothing to hold back any more
    with _compat.without_secrets():
        assert (
            not [name for name in environment_of_actor() if name.startswith("AWS_")]
            and "RAY_CHDIR_TO_TRIAL_DIR" in environment_of_actor()
        )
    assert environment_of_actor()["AWS_SECRET_ACCESS_KEY"] == MARK


def test_a_password_in_a_storage_address_is_refused():
    from autorank.trials.retention import storage_folder

    address = f"ftp://me:{MARK}@host/runs"
    assert has_password(address) and not has_password("s3://bucket/runs") and not has_password("s3://me@bucket/runs")
    with pytest.raises(AutorankError, match="contains a password, which would be stored in the journal") as error:
        storage_folder(address, "s")
    assert MARK not in str(error.value)


@pytest.mark.parametrize(
    "word",
    [f"http://me:{MARK}@host:5000", f"--tracking-uri=http://me:{MARK}@host", "hf_token", "--set=hf_token"],
)
def test_passwords_in_the_command_line_of_a_job_are_refused(monkeypatch, word):
    from autorank.cli.app import app

    monkeypatch.setenv("HF_TOKEN", "hf_token")
    with pytest.raises(AutorankError, match="a cluster shows its jobs' command lines") as error:
        app(["submit", "--", "search", "--task", "mrpc", word], standalone_mode=False)
    assert MARK not in str(error.value)


def test_words_that_contain_a_short_password_are_allowed(monkeypatch):
    from autorank.cli.cluster import _refuse_passwords

    monkeypatch.setenv("DB_PASSWORD", "lora")
    _refuse_passwords(["search", "--method", "lora-drop", "--tracking-uri", "postgresql://me@lora/db"])
    with pytest.raises(AutorankError, match="a cluster shows"):
        _refuse_passwords(["search", "--method", "lora"])
