"""Proves that an exported graph computes what the torch model does, and refuses it otherwise.

A rounded graph is held against the torch model with the same rounding, and for that computes with
float activations: then the two are so close that one scrambled scale, a layer in the wrong place
or a lost norm shows. What int8 activations and the rounding itself cost is told beside it and
judged by evaluation. Knows nothing of how graphs are built.
"""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from ..agent.artifacts import place
from ..agent.decoder import Decoder
from ..agent.errors import CatalogError, FeatherdeskError
from ..agent.runtime import OnnxGenerator
from ..agent.sessions import Opener
from ..agent.wide import RAGGED, SLOTS, WIDE
from .architecture import open_model
from .graph import has_cuda
from .nbits import blocks_of, restored
from .precision import Quantization

__all__ = ["PROMPTS", "Parity", "check_crowd", "check_device", "compare", "failures", "judge"]

PROMPTS = (
    "Q: How long does delivery take?\nA: Delivery takes 3 to 5 working days and costs £4.95.\n",
    "Q: Can I return worn boots?\nA: No, worn boots cannot be returned after 30 days.\n",
    "The store opens at 9:30 am on Monday, 12 May 2025, at 14 Mill Lane. Call +44 20 7946 0018.",
    "<|im_start|>user\nDo you ship to Ireland?<|im_end|>\n<|im_start|>assistant\nYes, we ship to "
    "Ireland within a week; the parcel is insured and can be tracked from our website.<|im_end|>\n",
    "To reset your password, open the settings, choose 'Security' and follow the link that we "
    "send to your email address. If it does not arrive, look into the spam folder first.",
)
"""What parity is measured on, unless other texts are given."""


@dataclass(frozen=True, slots=True)
class Parity:
    """torch against ONNX on the same prompts.

    `agreement` is the share (0..1) of positions with the same likeliest token, `largest` and
    `mean` the absolute logit difference, over the logits' standard deviation: all against
    `reference`, which is `model`, or `rounded model` where the graph holds integers; activations
    are floats. `served` is the agreement with the reference of the graph as it is served, `kept`
    that with the model before it was rounded.
    """

    prompts: int
    positions: int
    agreement: float
    largest: float
    mean: float
    served: float = 1.0
    kept: float = 1.0
    reference: str = "model"


@dataclass(frozen=True, slots=True)
class Tolerance:
    """The least agreements, the greatest `largest` and `mean` that pass."""

    agreement: float
    largest: float
    mean: float
    served: float
    kept: float


# Of the default model 5e-5 was the largest distance of a rounded graph, in blocks of 32 and of 128;
# with the scales of one matrix of layer 15 scrambled it is 0.5. int8 activations agree to 96.6 %,
# and 60.9 % (blocks of 128) of tokens are those of the model before rounding.
_EXACT = Tolerance(0.99, 1e-3, 1e-3, 0.99, 0.99)
_TOLERANCES = {
    "fp32": _EXACT,
    "fp16": Tolerance(0.97, 0.2, 0.02, 0.97, 0.97),
    "bf16": Tolerance(0.9, 1.0, 0.1, 0.9, 0.9),
    "int8": Tolerance(0.99, 0.01, 1e-3, 0.9, 0.9),
    "int4": Tolerance(0.99, 0.01, 1e-3, 0.9, 0.4),
}


_CROWD = 1e-3
"""Mean distance of a customer's logits among others and alone, over their spread: sums in another
order, 1e-7 of the default model."""

_TURNS = 3
"""Prompts that each slot is asked: now and then a rounding falls the other way, and all of one
prompt's logits with it (a tenth of their spread, of the default model)."""

_BEHIND = 4
"""Tokens of a prompt that are fed behind the rest."""


def allowed(plan: Quantization) -> Tolerance:
    """What passes. Half floats, and keys and values in bytes, are further off than rounding is."""
    exact = _TOLERANCES[plan.precision]
    if plan.kv:
        return Tolerance(0.95, 0.6, 0.05, 0.9, min(0.9, exact.kept))
    if plan.provider == "cuda" and plan.rounds:
        return Tolerance(0.95, 0.3, 0.03, 0.9, exact.kept)
    return exact


def compare(model: Path, out: Path, plan: Quantization, prompts: Sequence[str] = PROMPTS) -> Parity:
    """Logits of the folder `model` in torch and of the graph in `out`, position by position.

    The prompts are read by the tokenizer in `out`, as in serving.

    Raises:
        CatalogError: the tokenizer makes tokens that the model has no row for.
    """
    device = plan.provider if has_cuda() else "cpu"
    generator = OnnxGenerator(out, device=device)
    told = [ids for ids in (generator.encode(prompt) for prompt in prompts) if ids]
    torch_model = open_model(model)
    rows = torch_model.config.vocab_size
    if max(max(ids) for ids in told) >= rows:
        raise CatalogError(
            f"{model}: tokenizer.json makes tokens past the {rows} rows of the model; it belongs "
            "to another one"
        )
    served = got = [generator.logits(ids) for ids in told]
    whole = wanted = _logits(torch_model, told)
    if plan.rounds:
        with _float_activations(out) as twin:
            generator = OnnxGenerator(twin, device=device)
            got = [generator.logits(ids) for ids in told]
        round_matrices(torch_model, plan)
        wanted = _logits(torch_model, told)
    distance = [np.abs(w - g) / w.std() for w, g in zip(wanted, got, strict=True)]
    return Parity(
        prompts=len(told),
        positions=sum(len(ids) for ids in told),
        agreement=_agreement(wanted, got),
        largest=float(max(d.max() for d in distance)),
        mean=float(np.mean([d.mean() for d in distance])),
        served=_agreement(wanted, served),
        kept=_agreement(whole, served),
        reference="rounded model" if plan.rounds else "model",
    )


def check_crowd(out: Path) -> None:
    """See that the graph for several customers tells each of them what it would be told alone.

    Raises:
        FeatherdeskError: it does not.
    """
    decoder = Decoder(out)
    decoder.prepare(wait=True)
    if not decoder.slots:
        if Opener(out).open_ragged() is None:  # as on a processor that opens no second graph
            return
        raise FeatherdeskError("the exported graph for several customers cannot be opened")
    tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
    prompts = [tokenizer.encode(prompt, add_special_tokens=False).ids for prompt in PROMPTS]
    wrong = set(range(SLOTS))
    for turn in range(_TURNS):
        texts = [prompts[(slot + turn) % len(prompts)][slot:] for slot in range(SLOTS)]
        wrong &= _told_otherwise(decoder, texts)
        if not wrong:
            return
    raise FeatherdeskError(
        f"the exported graph for several customers tells customer {min(wrong) + 1} something else "
        "than the one for one does; nothing was written"
    )


def _told_otherwise(decoder: Decoder, texts: Sequence[Sequence[int]]) -> set[int]:
    """The slots whose customer is told something else among others than alone: all but the last
    tokens are read first, then those, with slots that stand empty in turn."""
    decoder.reserve(SLOTS, max(map(len, texts)))
    wanted = []
    for slot, ids in enumerate(texts):
        decoder.alone(slot, ids[:-_BEHIND], 0, last=1)
        wanted.append(decoder.alone(slot, ids[-_BEHIND:], len(ids) - _BEHIND).copy())
        decoder.clear(slot)
    decoder.several({slot: (ids[:-_BEHIND], 0, 1) for slot, ids in enumerate(texts)})
    behind = {s: (ids[-_BEHIND:], len(ids) - _BEHIND, _BEHIND) for s, ids in enumerate(texts)}
    wrong = set[int]()
    for some in (range(0, SLOTS, 2), range(1, SLOTS, 2)):
        for slot, rows in decoder.several({slot: behind[slot] for slot in some}).items():
            if not np.abs(rows - wanted[slot]).mean() <= _CROWD * wanted[slot].std():
                wrong.add(slot)
    return wrong


@contextmanager
def _float_activations(folder: Path) -> Iterator[Path]:
    """The same folder for a while, its rounded matrices multiplied with float activations."""
    import onnx

    with tempfile.TemporaryDirectory(dir=folder.parent) as name:
        twin = Path(name)
        for path in folder.iterdir():
            if path.name not in {"model.onnx", WIDE, RAGGED}:
                place(path, twin / path.name)
        model = onnx.load(folder / "model.onnx", load_external_data=False)
        for node in model.graph.node:
            for attribute in node.attribute:
                if attribute.name == "accuracy_level":
                    attribute.i = 1
        (twin / "model.onnx").write_bytes(model.SerializeToString())
        yield twin


def check_device(plan: Quantization) -> None:
    """See that this machine can run the graph, for what cannot be run cannot be proven.

    onnxruntime runs fp16 graphs, rounded or not, on a CPU as well; bf16 it does not.

    Raises:
        FeatherdeskError: it cannot.
    """
    if plan.precision == "bf16" and not has_cuda():
        raise FeatherdeskError(
            "a bf16 graph runs on an NVIDIA GPU only, so it cannot be proven here; export it on a "
            "machine with one (featherdesk[gpu]), or take precision fp16"
        )


def judge(parity: Parity, plan: Quantization) -> None:
    """See that the graph is the model.

    Raises:
        FeatherdeskError: it is not.
    """
    told = failures(parity, plan)
    if told:
        raise FeatherdeskError(
            f"the exported {plan.precision} graph is not the {parity.reference}: "
            f"{', '.join(told)}; nothing was written"
        )


def failures(parity: Parity, plan: Quantization) -> list[str]:
    """What is out of bounds, each with its bound."""
    limits = allowed(plan)
    shares = ("agreement", "served", "kept")
    distances = ("largest", "mean")
    low = [name for name in shares if not getattr(parity, name) >= getattr(limits, name)]
    far = [name for name in distances if not getattr(parity, name) <= getattr(limits, name)]
    told = [f"{n} {getattr(parity, n):.1%} (at least {getattr(limits, n):.0%})" for n in low]
    told += [f"{n} distance {getattr(parity, n):.4f} (at most {getattr(limits, n)})" for n in far]
    return told


def round_matrices(model: Any, plan: Quantization) -> None:
    """Replace every matrix of a torch model by what its rounded blocks stand for."""
    import torch

    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            weight = module.weight.detach().float().numpy()
            exact = restored(blocks_of(weight, plan.bits(name), plan))
            with torch.no_grad():
                module.weight.copy_(torch.from_numpy(exact))


def _logits(model: Any, told: Sequence[Sequence[int]]) -> list[NDArray[np.float32]]:
    import torch

    with torch.no_grad():
        return [model(input_ids=torch.tensor([ids])).logits[0].float().numpy() for ids in told]


def _agreement(wanted: Sequence[NDArray[np.float32]], got: Sequence[NDArray[np.float32]]) -> float:
    same: Iterator[NDArray[np.bool_]] = (
        w.argmax(-1) == g.argmax(-1) for w, g in zip(wanted, got, strict=True)
    )
    return float(np.concatenate(list(same)).mean())
