import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from featherdesk.agent.errors import ConfigError, FeatherdeskError
from featherdesk.agent.reranker import CrossEncoder
from featherdesk.compress.bert import merge_encoder
from featherdesk.compress.export_encoder import INT8_AGREEMENT, export_encoder
from featherdesk.compress.pairs import Group
from featherdesk.compress.reranker import RerankerConfig, train_reranker

ENTRIES = (
    ("Do you have a spa?", "Yes, there is a spa."),
    ("Is there parking?", "Parking costs £9 a night."),
    ("When is check-out?", "Check-out is at 11:00."),
)
GROUPS = [
    Group("somewhere to be pampered", "", ENTRIES, 0, "t"),
    Group("where do we leave the car", "", (ENTRIES[1], ENTRIES[0]), 0, "t"),
    Group("by when must we be gone", "", ENTRIES[::-1], 0, "t"),
    Group("and what does it cost", "can we park", (ENTRIES[1], ENTRIES[2]), 0, "t"),
    Group("who built the spa", "", ENTRIES[:2], -1, "t"),
    Group("is the parking guarded at night", "", ENTRIES, -1, "t"),
]


@pytest.fixture(scope="module")
def folder(encoder_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("reranker")
    config = RerankerConfig(steps=24, batch=6, evaluate_every=12, learning_rate=2e-4)
    told = train_reranker(encoder_folder, None, GROUPS, GROUPS, out, config, progress=False)
    assert told["curve"][-1][1] > told["curve"][0][1]
    assert (out / "adapter_model.safetensors").stat().st_size <= 12e6
    merge_encoder(encoder_folder, out, out / "hf")
    export_encoder(out / "hf", out / "int8")
    return out / "int8"


def test_what_was_trained_ranks_so_after_merge_and_int8_export(folder: Path) -> None:
    reranker = CrossEncoder(folder, 2)
    told = [
        (group.right, reranker.score(group.question, group.entries, group.before))
        for group in GROUPS
    ]
    right = [int(np.argmax(scores)) == 0 for place, scores in told if place == 0]
    assert sum(right) >= 3
    answered = np.mean([scores[0] for place, scores in told if place == 0])
    missed = np.mean([scores.max() for place, scores in told if place < 0])
    assert answered > missed


def test_its_export_is_proven_not_fused_and_keeps_its_head(folder: Path) -> None:
    proven = json.loads((folder / "parity.json").read_text())["agreement"]
    assert INT8_AGREEMENT <= proven < 1  # rounded, and still the model
    graph = onnx.load(folder / "model.onnx").graph
    operators = {node.op_type for node in graph.node}
    assert "MatMulInteger" in operators
    assert not operators & {"Attention", "QAttention"}
    heads = [
        np.load(one / "head.npy", allow_pickle=False) for one in (folder, folder.parent / "hf")
    ]
    assert np.array_equal(*heads)


def test_too_few_groups_and_wrong_settings_are_refused(
    encoder_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(FeatherdeskError, match="1 groups to train on and 6 to judge by"):
        train_reranker(encoder_folder, None, GROUPS[:1], GROUPS, tmp_path, RerankerConfig())
    with pytest.raises(ConfigError, match="steps must be at least 1"):
        RerankerConfig(steps=0)
    with pytest.raises(ConfigError, match="learning_rate must be in"):
        RerankerConfig(learning_rate=0)
