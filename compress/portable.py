"""Exports a causal LM to plain ONNX with optimum: what `ORTModelForCausalLM` loads anywhere.

No operators of onnxruntime's own and no quantization: bigger and slower than the fast graph, but
it runs where only ONNX runs. optimum warns when its graph computes something else; here that is
an error and nothing is written.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..agent.artifacts import atomic_folder
from ..agent.errors import FeatherdeskError
from .graph import quiet
from .huggingface import write_tokenizer
from .measure import size_mb
from .merged import Notify, logits_of, merged, probes, proved

__all__ = ["export_portable"]

TOLERANCE = 1e-3
"""Largest logit difference, over the logits' standard deviation."""

_KEPT = ("config.json", "generation_config.json")


def export_portable(
    model: Path, out: Path, *, adapter: Path | None = None, notify: Notify = lambda _: None
) -> dict[str, Any]:
    """Write `out/model.onnx` with its configuration and tokenizer; tell what was proved.

    Compared with torch on whole prompts, and again with the first half in the cache.

    Raises:
        CatalogError: the model, its tokenizer or the adapter cannot be used.
        FeatherdeskError: the graph does not compute what the torch model does.
    """
    with merged(model, adapter, out, notify) as source, atomic_folder(out) as fresh:
        notify("exporting to portable ONNX")
        _build(source, fresh)
        notify("comparing it with torch")
        told = _compare(source, fresh)
        if not told["largest"] <= TOLERANCE:
            raise FeatherdeskError(
                f"the portable graph is not the model: logits differ by up to "
                f"{told['largest']:.4f} of their spread and {told['agreement']:.0%} of tokens "
                "agree; nothing was written"
            )
        return proved(fresh, {"format": "portable", **told, "megabytes": size_mb(fresh)})


def _build(source: Path, out: Path) -> None:
    from optimum.exporters.onnx import main_export

    with quiet():
        main_export(
            str(source),
            out,
            task="text-generation-with-past",
            dtype="fp32",
            do_validation=False,
            local_files_only=True,
        )
    for path in out.iterdir():
        if path.name not in _KEPT and not path.name.startswith("model.onnx"):
            path.unlink()
    write_tokenizer(source, out)
    _leave_head_size_open(out / "model.onnx")


def _leave_head_size_open(path: Path) -> None:
    """optimum begins with an empty cache as wide as the hidden size over the heads, which is not
    that of pruned ones. Left open in the graph, onnxruntime takes it: it is empty."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    for one in model.graph.input:
        if one.name.startswith("past_key_values."):
            one.type.tensor_type.shape.dim[-1].dim_param = "head_size"
    onnx.save(model, path)


def _compare(source: Path, out: Path) -> dict[str, float]:
    """How far optimum's own runtime is from torch."""
    ids = probes(source)
    same, far = [], []
    for wanted, (whole, halves) in zip(logits_of(source, ids), _opened(out, ids), strict=True):
        for got in (whole, halves):
            same.append(float((wanted.argmax(-1) == got.argmax(-1)).mean()))
            far.append(float((np.abs(wanted - got) / wanted.std()).max()))
    return {"agreement": sum(same) / len(same), "largest": max(far)}


def _opened(
    out: Path, prompts: list[list[int]]
) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Logits of each prompt in one pass, and in two with the first half in the cache."""
    import torch
    from optimum.onnxruntime import ORTModelForCausalLM

    found = []
    with quiet(), torch.inference_mode():
        model = ORTModelForCausalLM.from_pretrained(out)
        for ids in prompts:
            given = torch.tensor([ids])
            half = len(ids) // 2
            whole = model(input_ids=given, attention_mask=torch.ones_like(given)).logits
            first = model(
                input_ids=given[:, :half],
                attention_mask=torch.ones(1, half, dtype=torch.int64),
                use_cache=True,
            )
            rest = model(
                input_ids=given[:, half:],
                attention_mask=torch.ones_like(given),
                past_key_values=first.past_key_values,
            ).logits
            halves = torch.cat([first.logits, rest], 1)
            found.append((whole[0].numpy(), halves[0].numpy()))
    return found
