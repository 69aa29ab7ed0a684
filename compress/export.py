"""Exports a model folder to the fast ONNX graph, and proves that it is the model.

Fused QKV, GroupQueryAttention, weights in the precision asked for. Knows nothing of adapters
(merge first) or of bots.
"""

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from .architecture import shape_of
from .cache_scales import cache_scales
from .graph import build_graph
from .model import write_atomically
from .nbits import round_graph
from .parity import PROMPTS, Parity, check_device, compare, judge
from .precision import Precision, Quantization
from .steps import Task

<<<<<<< HEAD
__all__ = ["ExportFast", "Parity", "Precision", "Quantization", "export", "size_mb"]
=======
from ..agent.encoder import MiniLM
from ..agent.errors import FeatherdeskError
from ..agent.reranker import CrossEncoder, pair_ids
from ..agent.runtime import OnnxGenerator
from .embedding_scale import exact_embedding_scale
from .model import load_model, load_tokenizer, write_atomically
>>>>>>> portable

_PASSAGES = 48


@dataclass(frozen=True, slots=True)
class ExportFast(Quantization):
    """The step `export`: the generator folder that serving reads."""

    kind: ClassVar[str] = "export"

    def run(self, source: Path, out: Path, task: Task) -> Mapping[str, Any]:
        """Write model.onnx, genai_config.json, tokenizer.json and parity.json."""
        texts = tuple(itertools.islice(task.material.passages(), _PASSAGES)) if self.kv else ()
        parity = export(source, out, self, texts=texts)
        return {"size_mb": size_mb(out), "parity": asdict(parity)}


def export(
    model: Path,
    out: Path,
    plan: Quantization | None = None,
    *,
    prompts: Sequence[str] = (),
    texts: Sequence[str] = (),
) -> Parity:
    """Write `out/model.onnx` with genai_config.json, tokenizer.json and parity.json.

    Parity is measured on `prompts`; `texts` tell, with them, the scales of an int8 cache.

    Raises:
        ConfigError: a setting does not fit the model.
        FeatherdeskError: the graph does not compute what the torch model does.
    """
    plan = plan or Quantization()
    plan.check(shape_of(model).layers)
    check_device(plan)
    parity: list[Parity] = []

    def write(folder: Path) -> None:
        _build(model, folder, plan, (*PROMPTS, *texts))
        parity.append(compare(model, folder, plan, prompts or PROMPTS))
        judge(parity[0], plan)
        told = {**asdict(parity[0]), "quantization": asdict(plan)}
        (folder / "parity.json").write_text(json.dumps(told, indent=1))

    write_atomically(out, write)
    return parity[0]


def _build(model: Path, out: Path, plan: Quantization, texts: Sequence[str]) -> None:
    build_graph(model, out, plan, cache_scales(model, texts) if plan.kv else None)
    if plan.rounds:
        round_graph(out / "model.onnx", plan)


<<<<<<< HEAD
def size_mb(folder: Path) -> float:
    """What the files of a folder take, in MB (10^6 bytes)."""
    return round(sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) / 1e6, 2)
=======
def _build(model: Path, out: Path, precision: Precision, block_size: int) -> None:
    from onnxruntime_genai.models.builder import create_model, parse_extra_options

    cache = out / ".cache"
    place = ("", str(model), str(out), precision.value, "cpu", str(cache))
    wanted = [
        f"int4_block_size={block_size}",
        "int4_accuracy_level=4",
        "int4_algo_config=rtn",
        "int4_is_symmetric=false",
    ]
    with _quiet():
        options = parse_extra_options(*place, wanted if precision is Precision.INT4 else [])
        create_model(*place, **options)
    exact_embedding_scale(model, out)
    shutil.rmtree(cache, ignore_errors=True)
    _keep(model, out)


def _keep(model: Path, out: Path) -> None:
    """Only what serving reads stays; the end of turn is the model's own."""
    for path in out.iterdir():
        if path.name not in {"model.onnx", "model.onnx.data", "genai_config.json"}:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.copy(model / "tokenizer.json", out / "tokenizer.json")
    if (model / "chat_template.jinja").exists():
        shutil.copy(model / "chat_template.jinja", out / "chat_template.jinja")
    written = json.loads((out / "genai_config.json").read_text())
    own = json.loads((model / "config.json").read_text())
    written["model"]["eos_token_id"] = own["eos_token_id"]
    written["model"]["bos_token_id"] = own.get("bos_token_id")
    written["search"].update(do_sample=False, max_length=2048)
    (out / "genai_config.json").write_text(json.dumps(written, indent=1))


@contextmanager
def _quiet() -> Iterator[None]:
    """Builder and exporter print thousands of lines; FEATHERDESK_DEBUG lets them through."""
    if os.environ.get("FEATHERDESK_DEBUG"):
        yield
        return
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(),
            open(os.devnull, "w", encoding="utf-8") as sink,
            redirect_stdout(sink),
            redirect_stderr(sink),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _parity(model: Path, out: Path, prompts: Sequence[str]) -> Parity:
    import torch

    tokenizer = load_tokenizer(model)
    reference = load_model(model).eval()
    generator = OnnxGenerator(out)
    same: list[NDArray[np.bool_]] = []
    distance: list[NDArray[np.float32]] = []
    for prompt in prompts:
        ids = tokenizer.encode(prompt, add_special_tokens=False).ids
        with torch.no_grad():
            wanted = reference(input_ids=torch.tensor([ids])).logits[0].float().numpy()
        got = generator.logits(ids)
        same.append(wanted.argmax(-1) == got.argmax(-1))
        distance.append(np.abs(wanted - got) / wanted.std())
    return Parity(
        prompts=len(prompts),
        positions=sum(len(s) for s in same),
        agreement=float(np.concatenate(same).mean()),
        largest=float(max(d.max() for d in distance)),
        mean=float(np.mean([d.mean() for d in distance])),
    )


def _judge(parity: Parity, precision: Precision) -> None:
    """fp32 must be equal; int4 must mostly agree (its answers are judged by evaluation)."""
    failed = (
        parity.largest > FP32_TOLERANCE
        if precision is Precision.FP32
        else parity.agreement < INT4_AGREEMENT
    )
    if failed:
        raise FeatherdeskError(
            f"the exported {precision.value} graph is not the model: {parity.agreement:.0%} of "
            f"tokens agree, logits differ by up to {parity.largest:.4f} of their spread; "
            "nothing was written"
        )


def export_encoder(model: Path, out: Path) -> float:
    """Write the encoder of a Hugging Face folder as `out/model.onnx`: int8, dynamic activations.

    A reranker's `head.npy` goes along. Returns how far the graph agrees with torch: the lowest
    cosine of mean-pooled vectors, or the correlation of a reranker's scores.

    Raises:
        FeatherdeskError: the graph does not compute what the torch model does.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from optimum.exporters.onnx import main_export

    agreed: list[float] = []

    def write(folder: Path) -> None:
        scratch = folder / "scratch"
        with _quiet():
            main_export(str(model), scratch, task="feature-extraction", do_validation=False)
            # a scale a column for matrices; word vectors would be scaled along the wrong axis
            for operator, source, target in (
                ("MatMul", scratch / "model.onnx", scratch / "int8.onnx"),
                ("Gather", scratch / "int8.onnx", folder / "model.onnx"),
            ):
                quantize_dynamic(
                    source,
                    target,
                    weight_type=QuantType.QInt8,
                    op_types_to_quantize=[operator],
                    per_channel=operator == "MatMul",
                )
        shutil.rmtree(scratch)
        reranks = (model / "head.npy").exists()
        for name in ("tokenizer.json", *(("head.npy",) if reranks else ())):
            shutil.copy2(model / name, folder / name)
        agreed.append((_reranker_parity if reranks else _encoder_parity)(model, folder))
        if agreed[0] < INT8_AGREEMENT:
            raise FeatherdeskError(
                f"the int8 {'reranker' if reranks else 'encoder'} is not the model: they agree to "
                f"{agreed[0]:.3f} only; nothing was written"
            )

    write_atomically(out, write)
    return agreed[0]


def _encoder_parity(model: Path, out: Path) -> float:
    """The lowest cosine between torch's and the graph's vectors."""
    import torch
    from transformers import AutoModel

    encoder = MiniLM(out)
    tokenizer = load_tokenizer(model)
    tokenizer.no_padding()
    reference = AutoModel.from_pretrained(model, add_pooling_layer=False).eval()
    found = []
    for text in _PROMPTS:
        ids = torch.tensor([tokenizer.encode(text).ids])
        with torch.no_grad():
            states = reference(ids, torch.ones_like(ids)).last_hidden_state[0].mean(0).numpy()
        found.append(float(encoder.embed([text])[0] @ (states / np.linalg.norm(states))))
    return min(found)


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
>>>>>>> portable
