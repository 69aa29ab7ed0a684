"""A whole bot whose model was made on the spot: it writes one short answer to everything."""

from collections.abc import Sequence
from pathlib import Path

from featherdesk.agent.artifacts import Manifest, place, seal
from featherdesk.agent.calibration import calibrate
from featherdesk.agent.encoder import MiniLM
from featherdesk.agent.index import Index
from featherdesk.agent.prefill import write_blocks
from featherdesk.agent.prompt import contract_hash
from featherdesk.agent.types import Entry
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

SAYS = "Yes, do"
TOML = '[bot]\nname = "tiny"\n[generation]\nthreads = 1\nstored_mb = 50.0\n'


def make_model(folder: Path, says: str = SAYS) -> Path:
    """A llama whose next token depends on the last alone: a line's end begins `says`.

    No letter may stand twice in `says`.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    tokenizer = Tokenizer(models.BPE(_vocabulary(), []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    config = LlamaConfig(
        vocab_size=320,
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=2048,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config)
    chain = [*tokenizer.encode("\n" + says).ids, 2]
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        table = torch.randn(320, 64)
        model.model.embed_tokens.weight.copy_(table)
        head = torch.zeros(320, 64)
        for here, there in zip(chain, chain[1:], strict=False):
            head[there] += table[here] / table[here].norm()
        model.lm_head.weight.copy_(head)
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
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


def _vocabulary() -> dict[str, int]:
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    return {token: number for number, token in enumerate([*special, *letters])}
