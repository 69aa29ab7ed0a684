"""Exports sentence encoders and rerankers to int8 ONNX through optimum, and proves the result.

Weights are int8, activations quantized as they come. Knows nothing of generators or of bots.
"""

import json
import shutil
from pathlib import Path

import numpy as np

from ..agent.destination import PARITY
from ..agent.encoder import MiniLM
from ..agent.errors import FeatherdeskError
from ..agent.reranker import CrossEncoder, pair_ids
from .graph import quiet
from .model import load_tokenizer, write_atomically
from .parity import PROMPTS

__all__ = ["export_encoder"]

INT8_AGREEMENT = 0.97


def export_encoder(model: Path, out: Path) -> float:
    """Write the encoder of a Hugging Face folder as `out/model.onnx`: int8, dynamic activations.

    A reranker's `head.npy` goes along. Returns how far the graph agrees with torch: the lowest
    cosine of mean-pooled vectors, or the correlation of a reranker's scores.

    Raises:
        FeatherdeskError: the graph does not compute what the torch model does.
    """
    from optimum.exporters.onnx import main_export

    reranks = (model / "head.npy").exists()
    agreed: list[float] = []

    def write(folder: Path) -> None:
        scratch = folder / "scratch"
        with quiet():
            main_export(str(model), scratch, task="feature-extraction", do_validation=False)
            if not reranks:
                _fuse(scratch)
            _round(scratch, folder / "model.onnx")
        shutil.rmtree(scratch)
        for name in ("tokenizer.json", *(("head.npy",) if reranks else ())):
            shutil.copy2(model / name, folder / name)
        agreed.append((_reranker_parity if reranks else _encoder_parity)(model, folder))
        if not agreed[0] >= INT8_AGREEMENT:
            raise FeatherdeskError(
                f"the int8 {'reranker' if reranks else 'encoder'} is not the model: they agree to "
                f"{agreed[0]:.3f} only; nothing was written"
            )
        (folder / PARITY).write_text(json.dumps({"agreement": agreed[0]}), encoding="utf-8")

    write_atomically(out, write)
    return agreed[0]


def _fuse(folder: Path) -> None:
    """Fuse attention, normalization and activation, exactly (optimum's level O2).

    MiniLM loads in half the time and answers short questions an eighth faster; from 150 characters
    on it is up to a tenth slower, so rerankers, which read a question with an entry, go without.
    """
    from optimum.onnxruntime import ORTOptimizer
    from optimum.onnxruntime.configuration import AutoOptimizationConfig

    level = AutoOptimizationConfig.O2()
    ORTOptimizer.from_pretrained(folder).optimize(level, folder, file_suffix=None)


def _round(scratch: Path, out: Path) -> None:
    """int8 weights: a scale a column for matrices; word vectors would be scaled along the wrong
    axis."""
    from onnx import TensorProto
    from onnxruntime.quantization import QuantType, quantize_dynamic

    for operators, source, target in (
        (["MatMul", "Attention"], scratch / "model.onnx", scratch / "int8.onnx"),
        (["Gather"], scratch / "int8.onnx", out),
    ):
        quantize_dynamic(
            source,
            target,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=operators,
            per_channel="MatMul" in operators,
            extra_options={"DefaultTensorType": TensorProto.FLOAT},
        )


def _encoder_parity(model: Path, out: Path) -> float:
    """The lowest cosine between torch's and the graph's vectors."""
    import torch
    from transformers import AutoModel

    encoder = MiniLM(out)
    tokenizer = load_tokenizer(model)
    tokenizer.no_padding()
    reference = AutoModel.from_pretrained(model, add_pooling_layer=False).eval()
    found = []
    for text in PROMPTS:
        ids = torch.tensor([tokenizer.encode(text).ids])
        with torch.no_grad():
            states = reference(ids, torch.ones_like(ids)).last_hidden_state[0].mean(0).numpy()
        found.append(float(encoder.embed([text])[0] @ (states / np.linalg.norm(states))))
    return float(np.min(found))  # which is no number where one of them is none


def _reranker_parity(model: Path, out: Path) -> float:
    """The correlation of torch's and the graph's scores of every question with every entry."""
    import torch
    from transformers import AutoModel

    reranker = CrossEncoder(out)
    tokenizer = load_tokenizer(model)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    reference = AutoModel.from_pretrained(model, add_pooling_layer=False).eval()
    head = np.load(model / "head.npy", allow_pickle=False)
    wanted: list[float] = []
    got: list[float] = []
    for question, before in _QUESTIONS:
        got.extend(reranker.score(question, _ENTRIES, before))
        for wording, answer in _ENTRIES:
            ids, kinds = (
                torch.tensor([told])
                for told in pair_ids(tokenizer, question, wording, answer, before)
            )
            with torch.no_grad():
                states = reference(ids, torch.ones_like(ids), kinds).last_hidden_state[0]
            wanted.append(float(states.mean(0).numpy() @ head[:-1] + head[-1]))
    return float(np.corrcoef(np.array(wanted), np.array(got))[0, 1])


_QUESTIONS = (
    ("when will my parcel be here", ""),
    ("worn boots, can they go back?", ""),
    ("are you open on sundays", ""),
    ("and to Ireland?", "how much is delivery"),
    ("who founded your company", ""),
)
_ENTRIES = (
    ("How long does delivery take?", "Delivery takes 3 to 5 working days and costs £4.95."),
    ("Do you deliver to Ireland?", "Yes, delivery to Ireland costs £9 and takes a week."),
    ("Can I return worn boots?", "No, worn boots cannot be returned."),
    ("When is the store open?", "Monday to Saturday from 9:30 to 18:00; closed on Sundays."),
)
