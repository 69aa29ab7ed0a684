"""A BERT-like encoder in torch: read from its ONNX file, trained layers saved and merged.

What `retriever` and `reranker` have in common; knows nothing of what they train it for.
"""

import math
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors.torch import load_file, save_file

from ..agent.errors import ArtifactError

__all__ = [
    "Schedule",
    "batches",
    "fit",
    "load_onnx_bert",
    "mean_states",
    "merge_encoder",
    "merged",
    "padded",
    "save_layers",
]

T = TypeVar("T")
HEAD = "head"
_WORDS = "embeddings.word_embeddings.weight"
_LAYER = (
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
)


@dataclass(frozen=True, slots=True)
class Schedule:
    """Steps, the share of them that warms up, and how often the model is judged."""

    steps: int
    warmup_share: float
    evaluate_every: int

    def share(self, step: int) -> float:
        """The share of the learning rate at a step: warm-up, then a cosine to 3 %."""
        warmup = max(1, round(self.steps * self.warmup_share))
        if step <= warmup:
            return step / warmup
        done = (step - warmup) / max(1, self.steps - warmup)
        return 0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * done))


def load_onnx_bert(path: Path) -> Any:
    """A torch BertModel with the weights of a BERT-like ONNX file, int8 ones de-quantized.

    Raises:
        ArtifactError: the file is not such a model.
    """
    from transformers import BertConfig, BertModel

    graph = onnx.load(str(path)).graph
    held = {item.name: numpy_helper.to_array(item) for item in graph.initializer}

    def weight(name: str) -> np.ndarray[Any, Any]:
        if f"{name}_q" in held:
            return np.asarray(held[f"{name}_q"].astype(np.float32) * held[f"{name}_scale"])
        return np.asarray(held[name])

    named = {
        name.removeprefix("inner."): value
        for name, value in held.items()
        if name.startswith("inner.") and not name.endswith(("_q", "_scale", "position_ids"))
    }
    for part in ("word", "position"):
        name = f"embeddings.{part}_embeddings.weight"
        named[name] = weight(f"inner.{name}")
    matrices = [
        node.input[1]
        for node in graph.node
        if node.op_type == "MatMul" and (f"{node.input[1]}_q" in held or node.input[1] in held)
    ]
    layers = len(matrices) // len(_LAYER)
    if not layers or layers * len(_LAYER) != len(matrices):
        raise ArtifactError(f"{path} is not a BERT-like encoder: {len(matrices)} weight matrices")
    for place, matrix in enumerate(matrices):
        layer, kind = divmod(place, len(_LAYER))
        named[f"encoder.layer.{layer}.{_LAYER[kind]}.weight"] = weight(matrix).T
    vocabulary, hidden = named["embeddings.word_embeddings.weight"].shape
    model = BertModel(
        BertConfig(
            vocab_size=vocabulary,
            hidden_size=hidden,
            num_hidden_layers=layers,
            num_attention_heads=hidden // 32,
            intermediate_size=named["encoder.layer.0.intermediate.dense.bias"].shape[0],
            max_position_embeddings=named["embeddings.position_embeddings.weight"].shape[0],
        ),
        add_pooling_layer=False,
    )
    tensors = {name: torch.tensor(np.array(value)) for name, value in named.items()}
    missing = model.load_state_dict(tensors, strict=False)
    if missing.missing_keys or missing.unexpected_keys:
        raise ArtifactError(f"{path} is not a BERT-like encoder: {missing}")
    return model.eval()


def save_layers(model: Any, out: Path, head: torch.Tensor | None = None) -> None:
    """Write everything but the word vectors: int8 matrices with a scale a row, the rest fp32.

    `head` are the weights (bias last) of a score over the mean token state, of a reranker.
    """
    tensors = {} if head is None else {HEAD: head.detach().clone()}
    for name, value in model.state_dict().items():
        if name == _WORDS:
            continue
        if value.ndim == 2 and "Norm" not in name:
            scale = value.abs().amax(1, keepdim=True).clamp(min=1e-8) / 127
            tensors[name] = (value / scale).round().to(torch.int8)
            tensors[f"{name}.scale"] = scale
        elif value.is_floating_point():
            tensors[name] = value.clone()
    out.mkdir(parents=True, exist_ok=True)
    save_file(tensors, out / "adapter_model.safetensors")


def merge_encoder(base: Path, adapter: Path, out: Path) -> None:
    """Write the encoder of `base` with the layers of `adapter` as a Hugging Face folder.

    A reranker's head goes beside it, `head.npy`.
    """
    model, head = merged(base, adapter)
    model.save_pretrained(out)
    if head is not None:
        np.save(out / "head.npy", head.numpy(), allow_pickle=False)
    shutil.copy2(base / "tokenizer.json", out / "tokenizer.json")


def merged(base: Path, adapter: Path) -> tuple[Any, torch.Tensor | None]:
    """The torch encoder: word vectors of `base`, layers and head that `save_layers` wrote.

    Raises:
        ArtifactError: the adapter was made from another encoder.
    """
    model = load_onnx_bert(base / "model.onnx")
    tensors = load_file(adapter / "adapter_model.safetensors")
    head = tensors.pop(HEAD, None)
    layers = {
        name: value.float() * tensors[f"{name}.scale"] if value.dtype == torch.int8 else value
        for name, value in tensors.items()
        if not name.endswith(".scale")
    }
    found = model.load_state_dict(layers, strict=False)
    if found.unexpected_keys or set(found.missing_keys) - {_WORDS}:
        raise ArtifactError(f"{adapter} was not made from this encoder: {found}")
    return model.eval(), head


def fit(
    parameters: Sequence[dict[str, Any]],
    loss: Callable[[], torch.Tensor],
    judge: Callable[[], float],
    save: Callable[[], None],
    schedule: Schedule,
    *,
    name: str,
    progress: bool = True,
) -> list[tuple[int, float]]:
    """Minimise `loss()` over parameter groups with AdamW; returns the curve of `judge()`.

    Each group has its own `lr`. `save()` is called whenever the judgement is the best so far.
    """
    optimizer = torch.optim.AdamW(list(parameters), weight_decay=0.01)
    rates = [group["lr"] for group in optimizer.param_groups]
    weights = [p for group in optimizer.param_groups for p in group["params"]]
    curve = [(0, judge())]
    save()
    bar = Progress(
        TextColumn(name),
        BarColumn(),
        TextColumn("{task.fields[state]}"),
        TimeRemainingColumn(),
        disable=not progress,
    )
    with bar:
        task = bar.add_task("train", total=schedule.steps, state="")
        for step in range(1, schedule.steps + 1):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * schedule.share(step)
            value = loss()
            value.backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            bar.update(task, advance=1, state=f"{step}/{schedule.steps} loss {value.item():.3f}")
            if step % schedule.evaluate_every == 0 or step == schedule.steps:
                curve.append((step, judge()))
                if curve[-1][1] >= max(judged for _, judged in curve):
                    save()
    return curve


def batches(items: Sequence[T], size: int, seed: int) -> Iterator[list[T]]:
    """Whole batches without end, shuffled anew each time round."""
    rng = random.Random(seed)
    order = list(items)
    while True:
        rng.shuffle(order)
        for start in range(0, len(order) - size + 1, size):
            yield order[start : start + size]


def padded(tokens: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token lists as one tensor filled with zeros, and the mask of what is real."""
    shape = (len(tokens), max(len(ids) for ids in tokens))
    ids, seen = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
    for row, found in enumerate(tokens):
        ids[row, : len(found)] = torch.tensor(found)
        seen[row, : len(found)] = 1
    return ids, seen


def mean_states(
    model: Any, ids: torch.Tensor, seen: torch.Tensor, kinds: torch.Tensor | None = None
) -> torch.Tensor:
    """The mean of a BERT's token states, shape (rows, hidden), computed in bf16."""
    with torch.autocast("cpu", torch.bfloat16):
        states = model(input_ids=ids, attention_mask=seen, token_type_ids=kinds).last_hidden_state
    weights = seen[:, :, None].float()
    return torch.as_tensor((states.float() * weights).sum(1) / weights.sum(1))
