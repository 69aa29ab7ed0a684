"""A whole bot whose model was made on the spot: it writes one short answer to everything."""

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from featherdesk.agent.artifacts import Manifest, place, seal
from featherdesk.agent.calibration import calibrate
from featherdesk.agent.encoder import MiniLM
from featherdesk.agent.index import Index
from featherdesk.agent.prefill import write_blocks
from featherdesk.agent.prompt import contract_hash
from featherdesk.agent.types import Entry

from ..tiny_llama import make_tokenizer

SAYS = "By card."
WORDS = 260
ENTRIES = (
    Entry("delivery", "How long does delivery take?", SAYS, ("when will my parcel arrive",)),
    Entry("worn", "Can I return worn boots?", SAYS, ("send back used boots",)),
    Entry("pay", "How can I pay?", SAYS, ("which cards do you take", "can I use paypal")),
    Entry("hours", "When is the York store open?", SAYS, ("opening times of the shop",)),
    Entry("invoice", "Where do I find my invoice?", SAYS, ("i need a receipt",)),
)
TOML = '[bot]\nname = "tiny"\n[generation]\nthreads = 1\nstored_mb = 50.0\n'


def make_generator(folder: Path, says: str = SAYS) -> Path:
    """A generator folder whose next token depends on the last alone: a line's end begins `says`.

    No letter may stand twice in `says`. Its keys and values are there and stay zero.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    tokenizer = make_tokenizer()
    chain = [*tokenizer.encode("\n" + says).ids, 2]
    table = np.zeros((WORDS, WORDS), np.float32)
    for here, there in pairwise(chain):
        table[here, there] = 9.0
    cache = ["batch", 1, "room", 2]
    names = [f"0.{part}" for part in ("key", "value")]
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "input_ids"], ["logits"]),
            *(
                helper.make_node("Identity", [f"past_key_values.{name}"], [f"present.{name}"])
                for name in names
            ),
        ],
        "letters",
        [
            helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "n"]),
            *(
                helper.make_tensor_value_info(f"past_key_values.{name}", TensorProto.FLOAT, cache)
                for name in names
            ),
        ],
        [
            *(
                helper.make_tensor_value_info(f"present.{name}", TensorProto.FLOAT, cache)
                for name in names
            ),
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "n", WORDS]),
        ],
        [numpy_helper.from_array(table, "table")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    folder.mkdir(parents=True)
    onnx.save(model, folder / "model.onnx")
    tokenizer.save(str(folder / "tokenizer.json"))
    decoder = {"num_key_value_heads": 1, "head_size": 2}
    told = {"model": {"eos_token_id": 2, "decoder": decoder}}
    (folder / "genai_config.json").write_text(json.dumps(told))
    turning = {"kinds": {"a": [1.0]}, "layers": ["a"], "interleaved": False}
    (folder / "rotary.json").write_text(json.dumps(turning))
    return folder


def make_bot(folder: Path, encoder: Path, entries: Sequence[Entry], generator: Path | None) -> Path:
    """A bot folder; without a generator its answers are the entries' own."""
    writes = ("en",) if generator else ()
    index = Index.build(entries, MiniLM(encoder, 1))
    index.save(folder / "knowledge")
    calibrate(index, writes=writes).save(folder / "knowledge" / "calibration.json")
    place(encoder, folder / "encoder")
    (folder / "bot.toml").write_text(TOML if generator else TOML + "writes = []\n")
    kept = 0
    if generator:
        place(generator, folder / "generator")
        kept = write_blocks(folder, entries, writes, 50.0, 1)
    told = Manifest(
        "tiny",
        "base",
        "",
        "none",
        contract_hash(),
        writes,
        index.encoder.id,
        len(entries),
        ("en",),
        blocks=kept > 0,
    )
    seal(folder, told)
    return folder
