from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from featherdesk.compress.lowrank import fuse
from featherdesk.compress.model import load_model
from peft import LoraConfig, get_peft_model

TARGETS = ["q_proj", "v_proj", "o_proj", "down_proj"]


def _adapted(base: Path, dtype: torch.dtype = torch.float32, **changes: Any) -> Any:
    torch.manual_seed(3)
    told: dict[str, Any] = {"r": 4, "target_modules": TARGETS, "task_type": "CAUSAL_LM"}
    model = get_peft_model(load_model(base, dtype), LoraConfig(**{**told, **changes}))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3)
    return model


def _learned(model: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Gradients by name, after one pass over fixed ids."""
    ids = torch.randint(0, 320, (2, 24), generator=torch.Generator().manual_seed(5))
    model(input_ids=ids, labels=ids).loss.backward()
    return ((n, p.grad) for n, p in model.named_parameters() if p.requires_grad)


def _same(one: Any, other: Any, tolerance: float) -> None:
    for (name, mine), (also, theirs) in zip(_learned(one), _learned(other), strict=True):
        assert name == also
        assert mine.dtype == theirs.dtype
        assert float((mine - theirs).norm()) <= tolerance * float(theirs.norm()), name


def test_fused_layers_give_the_gradients_of_pefts_own(family: Path) -> None:
    plain, fused = _adapted(family), _adapted(family)
    assert fuse(fused) == 4 * len(TARGETS)
    _same(fused, plain, 1e-4)


def test_fused_layers_in_bf16_keep_their_adapter_in_fp32(lively: Path) -> None:
    fused = _adapted(lively, torch.bfloat16)
    fuse(fused)
    _same(fused, _adapted(lively), 0.06)


def test_nothing_flows_back_below_the_first_adapted_layer(lively: Path) -> None:
    model = _adapted(lively, layers_to_transform=[2, 3])
    assert fuse(model) == 2 * len(TARGETS)
    below = model.get_base_model().get_decoder().layers[1]
    seen: list[bool] = []
    below.register_forward_hook(
        lambda _m, _i, out: seen.append((out[0] if isinstance(out, tuple) else out).requires_grad)
    )
    _same(model, _adapted(lively, layers_to_transform=[2, 3]), 1e-4)
    assert seen == [False]


@pytest.mark.parametrize("changes", [{"lora_dropout": 0.1}, {"use_dora": True}])
def test_what_is_no_plain_adapter_keeps_pefts_way(lively: Path, changes: dict[str, Any]) -> None:
    assert fuse(_adapted(lively, **changes)) == 0


def test_a_fused_model_merges_into_what_it_said(lively: Path) -> None:
    model = _adapted(lively)
    fuse(model)
    ids = torch.arange(20)[None]
    with torch.no_grad():
        before = model(input_ids=ids).logits
        after = model.merge_and_unload()(input_ids=ids).logits
    assert float((before - after).abs().max()) < 1e-3 * float(before.std())
