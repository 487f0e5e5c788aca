"""The README's first commands, run as subprocesses with Ray; PEFT loads the exported adapter."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

from tests.docs.blocks import blocks
from tests.docs.shell import shortening_arguments


def test_readme_commands_end_with_an_adapter_for_peft(tmp_path: Path) -> None:
    (commands,) = (
        b.content for b in blocks("README.md") if b.language == "sh" and "--knee --to my-adapter" in b.content
    )
    environment = {
        name: value for name, value in os.environ.items() if name not in ("MLFLOW_TRACKING_URI", "RAY_ADDRESS")
    }
    environment |= {"AUTORANK_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}
    for line in commands.splitlines():
        program, *words = shlex.split(line)
        assert program == "autorank"
        result = subprocess.run(
            [sys.executable, "-m", "autorank.cli.app", *words, *shortening_arguments(words[0], words)],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert result.returncode == 0, result.stderr
    assert (tmp_path / "runs" / "mlflow.db").is_file()

    from peft import AutoPeftModelForSequenceClassification

    model = AutoPeftModelForSequenceClassification.from_pretrained(tmp_path / "my-adapter", num_labels=2)
    assert sum(parameter.numel() for name, parameter in model.named_parameters() if "lora_" in name) > 0
