import json
from dataclasses import asdict
from pathlib import Path

import pytest
from featherdesk.compress import proof as module
from featherdesk.compress.export import ExportFast
from featherdesk.compress.precision import Quantization


def test_an_export_is_kept_only_with_the_same_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Quantization] = []

    def export(model: Path, out: Path, plan: Quantization) -> None:
        made.append(plan)
        out.mkdir(exist_ok=True)
        (out / "parity.json").write_text(json.dumps({"quantization": asdict(plan)}))

    monkeypatch.setattr(module, "export", export)
    place = tmp_path / "measured"
    for plan, count in (
        (ExportFast("int4", 32), 1),
        (ExportFast("int4", 32), 1),
        (ExportFast("int4", 64), 2),
        (ExportFast("int4", 64, finer=(0, 1)), 3),  # tuples are lists in JSON
        (ExportFast("int4", 64, finer=(0, 1)), 3),
    ):
        assert module._once(tmp_path, place, plan) == place
        assert len(made) == count
    (place / "parity.json").write_text("{")
    module._once(tmp_path, place, made[-1])
    assert len(made) == 4


def test_only_a_base_that_was_fetched_has_a_fetched_size(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert module._fetched_mb("smollm2-135m-instruct") == 98.36
    assert module._fetched_mb("gemma-3-270m") == 253.11
    assert module._fetched_mb("smollm2-135m-instruct-hub") == 0
    assert module._fetched_mb(str(tiny)) == 0
