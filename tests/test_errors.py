"""AutorankError contains no secrets; errors of a full disk are recognized."""

from __future__ import annotations

import errno
import os
import pickle

import pytest
import torch

from autorank.errors import AutorankError, disk_full


def test_a_message_holds_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_0123456789")
    error = AutorankError("No answer from http://me:hunter2@host:5000 for hf_0123456789.")
    assert str(error) == "No answer from http://host:5000 for ***."
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # from one process to another


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_full_disks(number: int) -> None:
    assert disk_full(OSError(number, os.strerror(number)))
    assert disk_full(RuntimeError(f"I/O error: {os.strerror(number)} (os error {number})"))
    assert disk_full(AutorankError("No space left on the disk of runs; free some, then go on."))  # as adapters say
    assert not disk_full(OSError(errno.EACCES, "no")) and not disk_full(RuntimeError("no"))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_checkpoint_on_a_full_disk() -> None:
    with pytest.raises(RuntimeError) as error:
        torch.save({"weights": torch.zeros(200_000)}, "/dev/full")
    assert disk_full(error.value)
