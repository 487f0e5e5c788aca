"""The README's first commands, run as subprocesses with Ray; PEFT loads the exported adapter."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from tests.cli.commands import autorank
from tests.docs.blocks import blocks
from tests.docs.shell import shortening_arguments


def test_readme_commands_end_with_an_adapter_for_peft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    (commands,) = (
        b.content for b in blocks("README.md") if b.language == "sh" and "--knee --to my-adapter" in b.content
    )
    for line in commands.splitlines():
        program, *words = shlex.split(line)
        assert program == "autorank"
        result = autorank(*words, *shortening_arguments(words[0], words), cwd=tmp_path, HF_HUB_OFFLINE="1")
        assert result.returncode == 0, result.stderr
    assert (tmp_path / "runs" / "mlflow.db").is_file()

    from peft import AutoPeftModelForSequenceClassification

    model = AutoPeftModelForSequenceClassification.from_pretrained(tmp_path / "my-adapter", num_labels=2)
    assert sum(parameter.numel() for name, parameter in model.named_parameters() if "lora_" in name) > 0
