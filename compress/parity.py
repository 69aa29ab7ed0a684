"""Proves that an exported graph computes what the torch model does, and refuses it otherwise.

A rounded graph is held against the torch model with the same rounding: so close that a scrambled
scale, a layer in the wrong place or a lost norm shows, while honest rounding passes. What the
rounding itself costs is told beside it, and judged by evaluation. Knows nothing of how graphs
are built.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..agent.errors import CatalogError, FeatherdeskError
from ..agent.runtime import OnnxGenerator
from .architecture import open_model
from .graph import has_cuda
from .nbits import blocks_of, restored
from .precision import Quantization

__all__ = ["PROMPTS", "Parity", "check_device", "compare", "judge"]

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
    `reference`, which is `model`, or `rounded model` where the graph holds integers. `kept` is the
    agreement with the model before it was rounded.
    """

    prompts: int
    positions: int
    agreement: float
    largest: float
    mean: float
    kept: float = 1.0
    reference: str = "model"


@dataclass(frozen=True, slots=True)
class Tolerance:
    """The least `agreement` and `kept`, the greatest `largest` and `mean` that pass."""

    agreement: float
    largest: float
    mean: float
    kept: float = 0.0


_TOLERANCES = {
    "fp32": Tolerance(0.99, 1e-3, 1e-3),
    "fp16": Tolerance(0.97, 0.2, 0.02),
    "bf16": Tolerance(0.9, 1.0, 0.1),
    "int8": Tolerance(0.95, 0.5, 0.05, kept=0.9),
    "int4": Tolerance(0.95, 0.5, 0.05, kept=0.5),
}


def compare(model: Path, out: Path, plan: Quantization, prompts: Sequence[str] = PROMPTS) -> Parity:
    """Logits of the folder `model` in torch and of the graph in `out`, position by position.

    The prompts are read by the tokenizer in `out`, as in serving.

    Raises:
        CatalogError: the tokenizer makes tokens that the model has no row for.
    """
    generator = OnnxGenerator(out, device=plan.provider if has_cuda() else "cpu")
    told = [ids for ids in (generator.encode(prompt) for prompt in prompts) if ids]
    torch_model = open_model(model)
    rows = torch_model.config.vocab_size
    if max(max(ids) for ids in told) >= rows:
        raise CatalogError(
            f"{model}: tokenizer.json makes tokens past the {rows} rows of the model; it belongs "
            "to another one"
        )
    got = [generator.logits(ids) for ids in told]
    whole = _logits(torch_model, told)
    wanted = whole
    if plan.rounds:
        round_matrices(torch_model, plan)
        wanted = _logits(torch_model, told)
    distance = [np.abs(w - g) / w.std() for w, g in zip(wanted, got, strict=True)]
    return Parity(
        prompts=len(told),
        positions=sum(len(ids) for ids in told),
        agreement=_agreement(wanted, got),
        largest=float(max(d.max() for d in distance)),
        mean=float(np.mean([d.mean() for d in distance])),
        kept=_agreement(whole, got),
        reference="rounded model" if plan.rounds else "model",
    )


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
    allowed = _TOLERANCES["int8" if plan.kv and not plan.rounds else plan.precision]
    if (
        parity.agreement >= allowed.agreement
        and parity.kept >= allowed.kept
        and parity.largest <= allowed.largest
        and parity.mean <= allowed.mean
    ):
        return
    raise FeatherdeskError(
        f"the exported {plan.precision} graph is not the {parity.reference}: "
        f"{parity.agreement:.0%} of tokens agree (at least {allowed.agreement:.0%} must), logits "
        f"differ by {parity.mean:.4f} of their spread (at most {allowed.mean}) and up to "
        f"{parity.largest:.4f} ({allowed.largest}); {parity.kept:.0%} of tokens are those of the "
        f"model before rounding (at least {allowed.kept:.0%}); nothing was written"
    )


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
