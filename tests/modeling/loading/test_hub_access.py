"""Errors of the Hub clients become clear messages. The clients themselves are tested in tests/tasks/test_hub.py."""

from __future__ import annotations

import errno
from pathlib import Path

try:
    import httpx2
except ImportError:
    import httpx as httpx2
import pytest
from huggingface_hub import errors

from autorank.errors import AutorankError
from autorank.modeling.loading.hub_access import hub_access, hub_error

RESPONSE = httpx2.Response(401, request=httpx2.Request("GET", "http://hub"))


def wrap(cause: BaseException) -> OSError:
    """Wrap an error of the Hub client as transformers does."""
    error = OSError("something went wrong\nwith a long explanation")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (wrap(errors.GatedRepoError("no", response=RESPONSE)), ["gated", "HF_TOKEN"]),
        (wrap(errors.RepositoryNotFoundError("no", response=RESPONSE)), ["There is no model 'x'", "HF_TOKEN"]),
        (wrap(errors.HfHubHTTPError("503 Server Error", response=RESPONSE)), ["refused model 'x'", "later"]),
        (wrap(errors.LocalEntryNotFoundError("no")), ["out of reach", "--data", "--model", "--task demo"]),
        (errors.OfflineModeIsEnabled("no"), ["out of reach", "--task demo"]),
        (httpx2.ConnectError("no"), ["out of reach"]),
        (httpx2.ReadTimeout("no"), ["out of reach"]),
        (ConnectionError("Couldn't reach 'x' on the Hub"), ["out of reach"]),
        (ValueError("Couldn't find cache for x for config 'y'"), ["out of reach"]),
        (errors.HFValidationError("Repo id must be ..."), ["There is no model 'x'"]),
        (OSError(errno.ENOSPC, "No space left on device"), ["No space left", "HF_HOME"]),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), ["No space left", "HF_HOME"]),
        (ValueError("Couldn't instantiate the backend tokenizer from one of: ..."), ["sentencepiece"]),
        (OSError("x does not appear to have a file named config.json."), ["config.json. Expected a directory"]),
        (
            ImportError("\nx requires the following packages: fugashi.\nAnd"),
            ["needs packages", "packages: fugashi. Inst"],
        ),
        (ModuleNotFoundError("You need to install fugashi."), ["needs packages", "fugashi. Install"]),
        (Exception("data did not match any variant of untagged enum ModelWrapper"), ["ModelWrapper. Expected a dir"]),
        (
            errors.StrictDataclassFieldValidationError("hidden_size", TypeError("expected int, got str")),
            ["model 'x': Validation error for field 'hidden_size': TypeError: expected int, got str. Expected"],
        ),
    ],
)
def test_each_failure_has_its_message(error: Exception, words: list[str]) -> None:
    clear_error = hub_error(error, "model 'x'")
    assert clear_error is not None
    assert all(word in str(clear_error) for word in words), str(clear_error)


@pytest.mark.parametrize(
    "error",
    [ValueError("shapes differ"), OSError(errno.EACCES, "denied"), KeyError("a"), wrap(ImportError("an optional one"))],
)
def test_other_errors_are_not_changed(error: Exception) -> None:
    assert hub_error(error, "model 'x'") is None
    with pytest.raises(type(error)), hub_access("model", str(Path(__file__).parent)):
        raise error


def test_pointers_of_git_lfs_are_named(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    expected = pytest.raises(AutorankError, match=r"model\.safetensors in it are pointers of Git LFS.*`git lfs pull`")
    with expected, hub_access("model", str(tmp_path)):
        raise OSError("header too large")
    with hub_access("model", str(tmp_path)):
        pass  # the file was not needed


def test_a_clear_error_is_not_changed() -> None:
    error = AutorankError("clear already")
    assert hub_error(error, "model 'x'") is error


def test_missing_folder_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "my-model").mkdir()
    with (
        pytest.raises(AutorankError, match=r"Did you mean '.*my-model'\?"),
        hub_access("model", f"{tmp_path}/my-modle"),
    ):
        raise AssertionError("not reached")


def test_clients_are_offline_only_inside_the_context(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(AutorankError, match="Did you mean 'FacebookAI/roberta-base'"):  # noqa: SIM117
        with hub_access("model", "FacebookAI/robrta-base"):
            assert constants.is_offline_mode()
            raise errors.OfflineModeIsEnabled("no")
    assert not constants.is_offline_mode()


def test_a_hub_that_does_not_answer_is_not_retried_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub
    from huggingface_hub import constants

    addresses, now = [], [1000.0]

    class Session:
        def head(self, address: str, **_: object) -> None:
            addresses.append(address)
            raise ConnectionError

    monkeypatch.setattr(huggingface_hub, "get_session", Session)
    monkeypatch.setattr("autorank.modeling.loading.hub_access.time.monotonic", lambda: now[0])
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for address, seconds in (("http://dark", 0), ("http://dark", 30), ("http://other", 0), ("http://dark", 31)):
        monkeypatch.setattr(constants, "ENDPOINT", address)
        now[0] += seconds
        with hub_access("model", "a/b"):
            assert constants.is_offline_mode()
    assert addresses == ["http://dark", "http://other", "http://dark"]
