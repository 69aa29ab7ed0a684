import os
from pathlib import Path

import numpy  # noqa: F401 - whose BLAS it is
import pytest
from featherdesk.agent.cores import available_cores, one_blas_thread
from threadpoolctl import threadpool_info, threadpool_limits


def test_a_containers_quota_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    quota = tmp_path / "cpu.max"
    quota.write_text("250000 100000\n")
    assert available_cores(quota) == 2
    quota.write_text("50000 100000\n")
    assert available_cores(quota) == 1


@pytest.mark.parametrize("text", ["max 100000\n", "", "what\n"])
def test_without_a_quota_all_cores_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    quota = tmp_path / "cpu.max"
    quota.write_text(text)
    assert available_cores(quota) == 64
    assert available_cores(tmp_path / "none") == 64


def test_numpy_multiplies_in_one_thread() -> None:
    before = threadpool_info()
    try:
        one_blas_thread()
        told = [one for one in threadpool_info() if one["user_api"] == "blas"]
        assert told
        assert all(one["num_threads"] == 1 for one in told)
    finally:
        for one in before:
            if one["user_api"] == "blas":
                threadpool_limits({one["prefix"]: one["num_threads"]})
