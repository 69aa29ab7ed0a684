import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from featherdesk.agent import sessions
from featherdesk.agent.errors import CatalogError, ConfigError, FeatherdeskError
from featherdesk.agent.runtime import OnnxGenerator
from featherdesk.agent.wide import RAGGED
from featherdesk.compress import export as module
from featherdesk.compress.architecture import shape_of
from featherdesk.compress.export import ExportFast, Quantization, export
from featherdesk.compress.material import Material
from featherdesk.compress.measure import size_mb
from featherdesk.compress.steps import Task, check_fit

from .conftest import kin


@pytest.fixture(scope="module")
def exported(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "generator"
    parity = export(tiny, out, Quantization("fp32"))
    assert parity.agreement == 1.0
    assert parity.largest < 1e-3
    return out


def test_only_what_serving_reads_is_written(exported: Path) -> None:
    names = {path.name for path in exported.iterdir()}
    assert names <= {
        "model.onnx",
        "model.onnx.data",
        "genai_config.json",
        "tokenizer.json",
        "parity.json",
        "rotary.json",
        "chat_template.jinja",
    }
    config = json.loads((exported / "genai_config.json").read_text())
    assert config["model"]["eos_token_id"] == 2


def test_decoding_with_kept_keys_equals_a_full_pass(exported: Path, tiny: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    generator = OnnxGenerator(exported, 1)
    ids = generator.encode("How long does delivery take?")
    got = [
        step.token
        for step in generator.generate(
            ids, max_tokens=12, deadline=time.monotonic() + 60, stopped=lambda: False
        )
    ]
    model = AutoModelForCausalLM.from_pretrained(tiny).eval()
    wanted = list(ids)
    with torch.no_grad():
        for _ in range(12):
            token = int(model(input_ids=torch.tensor([wanted])).logits[0, -1].argmax())
            if token == 2:
                break
            wanted.append(token)
    assert got == wanted[len(ids) :]


def test_the_first_token_can_be_vetoed_and_forced(exported: Path) -> None:
    generator = OnnxGenerator(exported, 1)
    ids = generator.encode("hello")
    best = int(generator.logits(ids)[-1].argmax())

    def first(token: int, threshold: float) -> int:
        steps = generator.generate(
            ids,
            max_tokens=1,
            deadline=time.monotonic() + 60,
            stopped=lambda: False,
            first_veto=(token, threshold),
        )
        return next(steps).token

    assert first(best, 1.1) != best
    assert first(77, 0.0) == 77
    assert np.isclose(generator.first(ids, [best]).sum(), generator.first(ids, [best])[0])


def test_a_deadline_that_passed_is_an_error(exported: Path) -> None:
    from featherdesk.agent.errors import GenerationError

    with pytest.raises(GenerationError, match="too long"):
        list(
            OnnxGenerator(exported, 1).generate(
                [5], max_tokens=3, deadline=time.monotonic() - 1, stopped=lambda: False
            )
        )


def test_a_wrong_graph_fails_loudly_and_leaves_nothing(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = module._build

    def damaged(model: Path, out: Path, plan: Quantization, texts: Sequence[str]) -> None:
        build(model, out, plan, texts)
        data = out / "model.onnx.data"
        weights = np.fromfile(data, np.float32)
        weights[: len(weights) // 2] = 0.01
        weights.tofile(data)

    monkeypatch.setattr(module, "_build", damaged)
    with pytest.raises(FeatherdeskError, match="is not the model"):
        export(tiny, tmp_path / "g", Quantization("fp32"))
    assert not list(tmp_path.iterdir())


def _change(folder: Path, wanted: str, change: Any) -> None:
    """Change the initializers of a graph whose name holds `wanted`."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(folder / "model.onnx")
    found = [one for one in model.graph.initializer if wanted in one.name]
    assert found
    for tensor in found:
        tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor)), tensor.name))
    (folder / "model.onnx").unlink()
    (folder / "model.onnx.data").unlink()
    onnx.save_model(
        model, folder / "model.onnx", save_as_external_data=True, location="model.onnx.data"
    )


@pytest.mark.parametrize("precision", ["int4", "int8"])
@pytest.mark.parametrize("part", ["layers.1.attn.qkv_proj", "layers.0.mlp.down_proj", "lm_head"])
def test_scales_scrambled_in_one_matrix_are_an_error(
    precision: str, part: str, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    round_graph = module.round_graph

    def scrambled(graph: Path, plan: Quantization) -> None:
        round_graph(graph, plan)
        shuffle = np.random.default_rng(3).permutation
        name = f"{part}.MatMul.weight.scales"
        _change(graph.parent, name, lambda a: shuffle(a.ravel()).reshape(a.shape))

    monkeypatch.setattr(module, "round_graph", scrambled)
    with pytest.raises(FeatherdeskError, match=r"is not the rounded model.*nothing was written"):
        export(_spread(tiny, tmp_path / "m"), tmp_path / "g", Quantization(precision))
    assert not (tmp_path / "g").exists()


def _spread(source: Path, out: Path) -> Path:
    """The model with rows of unlike size, as learned ones are: their scales differ."""
    import torch
    from transformers import AutoModelForCausalLM

    shutil.copytree(source, out)
    model = AutoModelForCausalLM.from_pretrained(source)
    torch.manual_seed(1)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Linear):
                rows = module.weight.shape[0]
                module.weight.mul_(4 * torch.exp(0.7 * torch.randn(rows, 1)))
    model.save_pretrained(out)
    return out


@pytest.mark.parametrize("kind", ["gemma3_text", "llama", "mistral", "qwen2", "qwen3", "smollm3"])
def test_every_architecture_goes_out_in_every_precision(
    kind: str, tiny: Path, tmp_path: Path
) -> None:
    model = kin(kind, tiny, tmp_path / "m")
    exact = export(model, tmp_path / "fp32", Quantization("fp32"))
    assert exact.largest < 1e-3
    assert exact.reference == "model"
    for plan in (Quantization(), Quantization("int8"), Quantization(algorithm="k_quant")):
        parity = export(model, tmp_path / "g", plan)
        assert parity.reference == "rounded model"
        assert parity.mean < 0.05
        (tmp_path / "g" / RAGGED).unlink()  # half a MB, whatever the model's size
        assert size_mb(tmp_path / "g") < size_mb(tmp_path / "fp32") / 2


@pytest.mark.parametrize("block_size", [16, 32, 64, 128])
@pytest.mark.parametrize("symmetric", [False, True])
def test_blocks_may_leave_a_rest_in_every_width_of_the_model(
    block_size: int, symmetric: bool, tiny: Path, tmp_path: Path
) -> None:
    """Hidden 72 and 136 channels are multiples of no block: as after pruning."""
    model = kin("llama", tiny, tmp_path / "m", hidden_size=72, intermediate_size=136)
    plan = Quantization(block_size=block_size, symmetric=symmetric)
    parity = export(model, tmp_path / "g", plan)
    assert parity.mean < 0.05


def test_pruned_shapes_go_out(tiny: Path, tmp_path: Path) -> None:
    """Fewer heads than the hidden size holds, fewer channels, a vocabulary cut short."""
    changed = {
        "vocab_size": 260,
        "num_attention_heads": 3,
        "num_key_value_heads": 1,
        "intermediate_size": 96,
        "num_hidden_layers": 1,
    }
    model = kin("llama", tiny, tmp_path / "m", **changed)
    assert export(model, tmp_path / "g").mean < 0.05


def test_word_vectors_apart_from_the_head_stay_as_they_are(tiny: Path, tmp_path: Path) -> None:
    model = kin("llama", tiny, tmp_path / "m", tie_word_embeddings=False)
    assert export(model, tmp_path / "g").mean < 0.05


def _ops(folder: Path) -> dict[str, tuple[str, int]]:
    """Operator and bits of every rounded node, by the name it had."""
    import onnx

    model = onnx.load(folder / "model.onnx", load_external_data=False)
    found = {}
    for node in model.graph.node:
        bits = [one.i for one in node.attribute if one.name == "bits"]
        if bits:
            found[node.name.rpartition("_Q")[0]] = (node.op_type, bits[0])
    return found


def test_the_head_and_the_word_vectors_it_shares_have_bits_of_their_own(
    tiny: Path, tmp_path: Path
) -> None:
    export(tiny, tmp_path / "a", Quantization(head="int8"))
    found = _ops(tmp_path / "a")
    assert found["/lm_head/MatMul"] == ("MatMulNBits", 8)
    assert found["/model/embed_tokens/Gather"] == ("GatherBlockQuantized", 8)
    assert found["/model/layers.0/attn/qkv_proj/MatMul"] == ("MatMulNBits", 4)
    export(tiny, tmp_path / "b", Quantization("int8", head="int4"))
    assert _ops(tmp_path / "b")["/lm_head/MatMul"] == ("MatMulNBits", 4)


def test_finer_layers_are_int8_among_int4_ones(tiny: Path, tmp_path: Path) -> None:
    export(tiny, tmp_path / "g", Quantization(finer=(1,)))
    bits = {name: count for name, (_, count) in _ops(tmp_path / "g").items()}
    assert {count for name, count in bits.items() if "layers.1/" in name} == {8}
    assert {count for name, count in bits.items() if "layers.1/" not in name} == {4}


def test_mixed_finds_the_layers_to_keep_finer_itself(tiny: Path, tmp_path: Path) -> None:
    task = Task(tiny, Material((), (), ("Delivery takes 3 days.",)), tmp_path, progress=False)
    told = ExportFast(mixed=1).run(tiny, tmp_path / "g", task)
    (chosen,) = told["finer"]
    assert sorted(told["layer_sweep"]) == ["0", "1"]
    assert told["layer_sweep"][str(chosen)] == max(told["layer_sweep"].values()) > 0
    assert "layer_sweep" not in ExportFast().run(tiny, tmp_path / "plain", task)
    kept = json.loads((tmp_path / "g" / "parity.json").read_text())["quantization"]
    assert kept["finer"] == told["finer"]
    with pytest.raises(ConfigError, match="leave finer out"):
        ExportFast(mixed=1, finer=(0,))


def test_finer_names_layers_that_the_model_has(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="finer names layer 2; the model has layers 0 to 1"):
        export(tiny, tmp_path / "g", Quantization(finer=(0, 2)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"precision": "int3"}, "precision must be one of int4, int8, fp16, bf16, fp32"),
        ({"block_size": 48}, "block_size must be one of 16, 32, 64, 128, not 48"),
        ({"algorithm": "magic"}, "algorithm must be one of rtn, k_quant"),
        ({"algorithm": "k_quant", "symmetric": True}, "k_quant has zero points always"),
        ({"precision": "fp32", "head": "int8"}, "fp32 rounds nothing"),
        ({"precision": "int8", "finer": (1,)}, "take precision int4"),
        ({"finer": (-1,)}, "finer holds layer numbers"),
        ({"precision": "fp16"}, "add provider cuda"),
        ({"precision": "fp32", "provider": "cuda"}, "take fp16 or bf16"),
        ({"kv": "int4"}, "kv must be one of"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Quantization(**settings)


def test_what_needs_a_gpu_is_said_before_any_step_runs(tiny: Path) -> None:
    from featherdesk.compress.graph import has_cuda

    if not has_cuda():
        with pytest.raises(FeatherdeskError, match="runs on an NVIDIA GPU only"):
            check_fit([("export", ExportFast("bf16", provider="cuda"))], tiny)
    assert ExportFast("fp16", provider="cuda").fits(shape_of(tiny)) == shape_of(tiny)


def _greedy(generator: OnnxGenerator, ids: Sequence[int], count: int) -> list[int]:
    steps = generator.generate(
        ids, max_tokens=count, deadline=time.monotonic() + 60, stopped=lambda: False
    )
    return [step.token for step in steps]


@pytest.mark.parametrize("precision", ["fp32", "int4"])
def test_keys_and_values_in_a_byte_each_say_what_whole_ones_do(
    precision: str, talkative: Path, tmp_path: Path
) -> None:
    """Rounding moves a near tie at times, so that tokens are compared behind the same text."""
    export(talkative, tmp_path / "whole", Quantization(precision))
    export(talkative, tmp_path / "g", Quantization(precision, kv="int8"))
    whole, generator = (OnnxGenerator(tmp_path / name, 1) for name in ("whole", "g"))
    assert generator._decoder._dtype is np.int8
    ids = generator.encode("How long does delivery take?")
    found = _greedy(generator, ids, 24)
    assert len(set(found)) > 8  # it wanders: a kept key in the wrong place would show
    told, wanted = (one.logits([*ids, *found])[len(ids) - 1 : -1] for one in (generator, whole))
    assert found == told.argmax(-1).tolist()  # token by token as in one pass
    assert (told.argmax(-1) == wanted.argmax(-1)).mean() > 0.8
    assert np.abs(told - wanted).mean() < 0.04 * wanted.std()


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gemma3_text"])
@pytest.mark.parametrize("precision", ["fp16", "int4"])
def test_graphs_for_gpus_are_built_and_proven_without_one(
    kind: str, precision: str, tiny: Path, tmp_path: Path
) -> None:
    model = kin(kind, tiny, tmp_path / "m")
    parity = export(model, tmp_path / "g", Quantization(precision, provider="cuda"))
    assert parity.agreement > 0.95
    told = json.loads((tmp_path / "g" / "genai_config.json").read_text())
    options = told["model"]["decoder"]["session_options"]["provider_options"]
    assert [next(iter(one)) for one in options] == ["cuda"]


def test_bf16_is_refused_where_it_cannot_be_proven(tiny: Path, tmp_path: Path) -> None:
    from featherdesk.compress.graph import has_cuda

    if has_cuda():
        pytest.skip("there is a GPU here")
    with pytest.raises(FeatherdeskError, match="cannot be proven here"):
        export(tiny, tmp_path / "g", Quantization("bf16", provider="cuda"))
    assert not list(tmp_path.iterdir())


@pytest.mark.needs_gpu
@pytest.mark.parametrize("precision", ["fp16", "bf16", "int4"])
def test_graphs_for_gpus_run_on_one(precision: str, tiny: Path, tmp_path: Path) -> None:
    from featherdesk.compress.graph import has_cuda

    if not has_cuda():
        pytest.skip("no CUDA here")
    parity = export(tiny, tmp_path / "g", Quantization(precision, provider="cuda"))
    assert parity.agreement > 0.9


def test_the_end_of_turn_of_the_generation_config_wins(tiny: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny, tmp_path / "m")
    (tmp_path / "m" / "generation_config.json").write_text('{"eos_token_id": [0, 2]}')
    export(tmp_path / "m", tmp_path / "g", Quantization("fp32"))
    told = json.loads((tmp_path / "g" / "genai_config.json").read_text())["model"]
    assert told["eos_token_id"] == [0, 2]
    assert told["bos_token_id"] == 1
    assert OnnxGenerator(tmp_path / "g", 1)._ends == {0, 2}


def test_a_model_that_names_no_end_is_refused(tiny: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny, tmp_path / "m")
    (tmp_path / "m" / "generation_config.json").unlink()
    path = tmp_path / "m" / "config.json"
    told = json.loads(path.read_text())
    told["eos_token_id"] = None
    path.write_text(json.dumps(told))
    with pytest.raises(CatalogError, match=r"neither generation_config.json nor config"):
        export(tmp_path / "m", tmp_path / "g", Quantization("fp32"))


@pytest.mark.parametrize("precision", ["fp32", "int4"])
def test_another_models_tokenizer_is_an_error(precision: str, tiny: Path, tmp_path: Path) -> None:
    model = kin("llama", tiny, tmp_path / "m", vocab_size=100)
    with pytest.raises(CatalogError, match="tokens past the 100 rows of the model"):
        export(model, tmp_path / "g", Quantization(precision))
    assert not (tmp_path / "g").exists()


@pytest.mark.parametrize("plan", [Quantization("fp32"), Quantization(), Quantization("int8")])
def test_onnxruntime_genai_says_what_our_runtime_says(
    plan: Quantization, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the graph that both open; test_wide.py holds our own against it."""
    import onnxruntime_genai as genai

    monkeypatch.setattr(sessions, "sums_bytes", lambda: False)

    export(kin("llama", tiny, tmp_path / "m", tie_word_embeddings=False), tmp_path / "g", plan)
    generator = OnnxGenerator(tmp_path / "g", 1)
    ids = generator.encode("Can I return worn boots?")
    wanted = _greedy(generator, ids, 24)
    model = genai.Model(str(tmp_path / "g"))
    settings = genai.GeneratorParams(model)
    settings.set_search_options(max_length=len(ids) + 24, do_sample=False)
    other = genai.Generator(model, settings)
    other.append_tokens(np.array([ids], np.int32))
    while not other.is_done():
        other.generate_next_token()
    found = other.get_sequence(0)[len(ids) :].tolist()
    assert len(set(wanted)) > 1
    assert [token for token in found if token != 2][: len(wanted)] == wanted


def test_the_step_is_registered_and_tells_size_and_parity(tiny: Path, tmp_path: Path) -> None:
    from featherdesk.agent.plugins import load

    assert load("featherdesk.steps", "export") is ExportFast
    task = Task(tiny, Material((), (), ("Delivery takes 3 days.",)), tmp_path)
    told = ExportFast(kv="int8").run(tiny, tmp_path / "g", task)
    assert ExportFast.kind == "export"
    assert told["size_mb"] == size_mb(tmp_path / "g")
    assert told["parity"]["agreement"] >= 0.95
    kept = json.loads((tmp_path / "g" / "parity.json").read_text())
    assert kept["quantization"]["kv"] == "int8"


def test_a_recipe_takes_every_setting(tmp_path: Path) -> None:
    from featherdesk.compress.recipe import load_recipe

    (tmp_path / "r.toml").write_text(
        '[[steps]]\nuse = "export"\nprecision = "int4"\nblock_size = 64\nfiner = [0, 3]\n'
        'head = "int8"\nsymmetric = true\n'
    )
    (_, step), *_ = load_recipe(str(tmp_path / "r.toml")).steps
    assert step == ExportFast(block_size=64, finer=(0, 3), head="int8", symmetric=True)


def test_the_default_is_int4_in_blocks_of_32_with_zero_points() -> None:
    assert ExportFast() == ExportFast("int4", 32, False, "rtn", "", (), "", "cpu")


def test_turning_tables_are_as_long_as_prompts_are(tiny: Path, tmp_path: Path) -> None:
    import onnx

    long = tmp_path / "long"
    shutil.copytree(tiny, long)
    config = json.loads((long / "config.json").read_text())
    (long / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 8192}))
    export(long, tmp_path / "g")
    graph = onnx.load(tmp_path / "g" / "model.onnx", load_external_data=False).graph
    rows = {tensor.name: tensor.dims[0] for tensor in graph.initializer}
    assert rows["cos_cache"] == rows["sin_cache"] == 4096
    told = json.loads((tmp_path / "g" / "genai_config.json").read_text())
    assert told["model"]["context_length"] == 4096
    assert OnnxGenerator(tmp_path / "g", 1).logits([5] * 700).shape == (700, 320)
