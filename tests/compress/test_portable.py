import shutil
from pathlib import Path

import onnx
import pytest
import torch
from featherdesk.agent.errors import CatalogError, FeatherdeskError
from featherdesk.compress import portable as module
from featherdesk.compress.model import merge
from featherdesk.compress.portable import export_portable
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

QUESTION = "How long does delivery take?"


def _greedy(model: object, ids: list[int], count: int = 16) -> list[int]:
    found = model.generate(  # type: ignore[attr-defined]
        torch.tensor([ids]),
        attention_mask=torch.ones(1, len(ids), dtype=torch.int64),
        max_new_tokens=count,
        do_sample=False,
    )
    return [int(token) for token in found[0, len(ids) :]]


def _same_answers(exported: Path, model: Path, question: str = QUESTION) -> list[int]:
    from optimum.onnxruntime import ORTModelForCausalLM

    ids = Tokenizer.from_file(str(model / "tokenizer.json")).encode(question).ids
    assert AutoTokenizer.from_pretrained(exported).encode(question) == ids
    wanted = _greedy(AutoModelForCausalLM.from_pretrained(model), ids)
    assert _greedy(ORTModelForCausalLM.from_pretrained(exported), ids) == wanted
    return wanted


def test_optimum_opens_it_and_answers_as_torch(talkative: Path, tmp_path: Path) -> None:
    told = export_portable(talkative, tmp_path / "out")
    assert told["largest"] <= 1e-3
    assert told["agreement"] == 1.0
    assert len(set(_same_answers(tmp_path / "out", talkative))) > 8
    graph = onnx.load(str(tmp_path / "out" / "model.onnx"), load_external_data=False)
    assert {node.domain for node in graph.graph.node} <= {"", "ai.onnx"}


def test_an_adapter_is_merged_first(tiny: Path, adapter: Path, tmp_path: Path) -> None:
    export_portable(tiny, tmp_path / "out", adapter=adapter)
    merge(tiny, adapter, tmp_path / "merged")
    adapted = _same_answers(tmp_path / "out", tmp_path / "merged")
    ids = Tokenizer.from_file(str(tiny / "tokenizer.json")).encode(QUESTION).ids
    assert adapted != _greedy(AutoModelForCausalLM.from_pretrained(tiny), ids)


def test_fewer_words_and_layers_go_through(trimmed: Path, tmp_path: Path) -> None:
    export_portable(trimmed, tmp_path / "out")
    _same_answers(tmp_path / "out", trimmed, "boots?")


def test_fewer_heads_and_channels_go_through(narrowed: Path, tmp_path: Path) -> None:
    export_portable(narrowed, tmp_path / "out")
    assert len(set(_same_answers(tmp_path / "out", narrowed))) > 4


def test_another_graph_is_an_error_and_leaves_nothing(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = module._build

    def damaged(source: Path, out: Path) -> None:
        build(source, out)
        graph = onnx.load(str(out / "model.onnx"))
        weight = next(w for w in graph.graph.initializer if len(w.dims) == 2 and w.raw_data)
        weight.raw_data = bytes(len(weight.raw_data))
        onnx.save(graph, str(out / "model.onnx"))

    monkeypatch.setattr(module, "_build", damaged)
    with pytest.raises(FeatherdeskError, match="portable graph is not the model"):
        export_portable(tiny, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_folder_without_tokenizer_is_refused(tiny: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(tiny, source)
    (source / "tokenizer.json").unlink()
    with pytest.raises(CatalogError, match="has no tokenizer"):
        export_portable(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()
