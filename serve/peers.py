"""What a user could run instead: llama.cpp, onnxruntime-genai and transformers, each as one writes
it by its manual. Their libraries are imported when one is opened.

Every one is greedy, is given the same token ids, and is timed at the same places as ours. Knows
nothing of bots.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .contender import Marks, Opened, Settings, Told, Written

__all__ = ["PEERS", "GenAI", "LlamaCpp", "Peer", "Transformers", "not_native"]

_UNITS = {"avx2": "AVX2", "avx512f": "AVX512", "avx512_vnni": "AVX512_VNNI", "fma": "FMA"}


@dataclass(frozen=True, slots=True)
class Peer:
    """How a peer is opened, and the extra that brings it."""

    make: Callable[[Settings], Opened]
    extra: str


class LlamaCpp:
    """llama.cpp through llama-cpp-python.

    `cache` is `off`, `prefix` (what stands from the prompt before is used where it begins alike)
    or `ram` (states of all prompts before are kept; keeping one is not counted). `own_ids` has it
    encode the text itself: for a model of another vocabulary.
    """

    def __init__(self, settings: Settings) -> None:
        import llama_cpp
        from llama_cpp.llama_speculative import LlamaPromptLookupDecoding

        self._module, self._settings = llama_cpp, settings
        began = time.perf_counter()
        lookup = settings["lookup"]
        self._llama = llama_cpp.Llama(
            model_path=settings["model"],
            n_ctx=settings["n_ctx"],
            n_batch=settings["n_batch"],
            n_ubatch=settings["n_batch"],
            n_threads=settings["threads"],
            n_threads_batch=settings["threads"],
            n_gpu_layers=-1 if settings["device"] == "cuda" else 0,
            flash_attn=settings["flash_attn"],
            logits_all=lookup,  # its buffer of logits is as long as the context only then
            draft_model=LlamaPromptLookupDecoding() if lookup else None,
            verbose=False,
        )
        self._ram = llama_cpp.LlamaRAMCache() if settings["cache"] == "ram" else None
        self._ends = {*settings["ends"], self._llama.token_eos()}
        self._load = time.perf_counter() - began
        self._steps = self._fed = 0
        self._count()

    def _count(self) -> None:
        """Count forward steps where it takes them."""
        run = self._llama.eval

        def counted(tokens: Any) -> None:
            self._steps += 1
            self._fed += len(tokens)
            run(tokens)

        self._llama.eval = counted

    def told(self) -> Told:
        """Version and what it was built for."""
        info = self._module.llama_print_system_info().decode()
        return Told(
            f"llama-cpp-python {self._module.__version__}: {info.strip()}",
            self._settings["threads"],
            round(self._load, 2),
        )

    def write(self, prompt: Settings) -> Written:
        """Answer a prompt greedily."""
        ids = self._ids(prompt)
        fed, at_first = self._fed, 0
        marks = Marks()
        self._before(ids)
        for token in self._llama.generate(ids, temp=0.0, top_k=1, repeat_penalty=1.0):
            if token in self._ends:
                break
            marks.add(int(token))
            at_first = at_first or self._steps
            if len(marks.tokens) == prompt["limit"]:
                break
        text = self._llama.detokenize(marks.tokens).decode("utf-8", "ignore")
        steps = self._steps - at_first + 1 if at_first else 1
        told = marks.written(text, prompt["limit"], steps=steps, fed=self._fed - fed)
        if self._ram is not None:
            self._ram[[*ids, *marks.tokens]] = self._llama.save_state()
        return told

    def tokens(self, text: str) -> list[int]:
        """Token ids of a text."""
        found = self._llama.tokenize(text.encode(), add_bos=False, special=True)
        return [int(token) for token in found]

    def _ids(self, prompt: Settings) -> list[int]:
        if not self._settings["own_ids"]:
            return [int(token) for token in prompt["ids"]]
        return [token for text in prompt["texts"] for token in self.tokens(text)]

    def _before(self, ids: list[int]) -> None:
        """What it may know of earlier prompts, as its completion does it."""
        if self._settings["cache"] == "off":
            self._llama.reset()
        elif self._ram is not None and ids in self._ram:
            state, longest = self._ram[ids], self._llama.longest_token_prefix
            stands = self._llama.input_ids[: self._llama.n_tokens].tolist()
            if longest(state.input_ids.tolist(), ids) > longest(stands, ids):
                self._llama.load_state(state)


class GenAI:
    """onnxruntime-genai on the bot's own generator folder; `threads` 0 is as it comes."""

    def __init__(self, settings: Settings) -> None:
        import onnxruntime_genai as genai
        from tokenizers import Tokenizer

        folder = Path(settings["folder"])
        began = time.perf_counter()
        config = genai.Config(str(folder))
        if settings["device"] == "cuda":
            config.clear_providers()
            config.append_provider("cuda")
        self._threads = settings["threads"]
        if self._threads:
            options = f'{{"intra_op_num_threads": {self._threads}}}'
            config.overlay(f'{{"model": {{"decoder": {{"session_options": {options}}}}}}}')
        self._genai, self._model = genai, genai.Model(config)
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._ends = set(settings["ends"])
        self._load = time.perf_counter() - began

    def told(self) -> Told:
        """Its version."""
        threads = f"{self._threads} threads" if self._threads else "threads as it comes"
        info = f"onnxruntime-genai {self._genai.__version__}, {threads}"
        return Told(info, self._threads, round(self._load, 2))

    def write(self, prompt: Settings) -> Written:
        """Answer a prompt greedily."""
        import numpy as np

        ids, limit = prompt["ids"], prompt["limit"]
        marks = Marks()
        params = self._genai.GeneratorParams(self._model)
        params.set_search_options(max_length=len(ids) + limit, do_sample=False)
        generator = self._genai.Generator(self._model, params)
        generator.append_tokens(np.array([ids], np.int32))
        ended = False
        while not (ended or generator.is_done()):
            generator.generate_next_token()
            token = int(generator.get_next_tokens()[0])
            ended = token in self._ends
            if not ended:
                marks.add(token)
        count = len(marks.tokens)
        steps = count + (count < limit)
        text = self._tokenizer.decode(marks.tokens, skip_special_tokens=True)
        return marks.written(text, limit, steps=steps, fed=len(ids) + steps - 1)

    def tokens(self, text: str) -> list[int]:
        """Token ids of a text, by the folder's tokenizer.json."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)


class Transformers:
    """transformers on a Hugging Face folder, float32 on a CPU and float16 on a GPU, `generate`."""

    def __init__(self, settings: Settings) -> None:
        import torch
        import transformers
        from tokenizers import Tokenizer

        transformers.logging.set_verbosity_error()
        torch.set_num_threads(settings["threads"])
        folder, self._device = Path(settings["folder"]), settings["device"]
        began = time.perf_counter()
        self._torch, self._threads = torch, settings["threads"]
        self._version = transformers.__version__
        half = torch.float16 if self._device == "cuda" else torch.float32
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=half)
        self._model = model.to(self._device).eval()
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._ends = list(settings["ends"])
        self._load = time.perf_counter() - began

    def told(self) -> Told:
        """Versions."""
        info = f"transformers {self._version} on torch {self._torch.__version__}, eager"
        return Told(info, self._threads, round(self._load, 2))

    def write(self, prompt: Settings) -> Written:
        """Answer a prompt greedily."""
        ids, limit = prompt["ids"], prompt["limit"]
        marks = Marks()
        given = self._torch.tensor([ids], device=self._device)
        with self._torch.no_grad():
            self._model.generate(
                given,
                attention_mask=self._torch.ones_like(given),
                max_new_tokens=limit,
                do_sample=False,
                num_beams=1,
                eos_token_id=self._ends,
                pad_token_id=self._ends[0],
                streamer=_Streamer(marks, self._ends),
            )
        count = len(marks.tokens)
        steps = count + (count < limit)
        text = self._tokenizer.decode(marks.tokens, skip_special_tokens=True)
        return marks.written(text, limit, steps=steps, fed=len(ids) + steps - 1)

    def tokens(self, text: str) -> list[int]:
        """Token ids of a text, by the folder's tokenizer.json."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)


class _Streamer:
    """Marks tokens as `generate` hands them over; the prompt comes first."""

    def __init__(self, marks: Marks, ends: list[int]) -> None:
        self._marks, self._ends, self._prompt = marks, ends, True

    def put(self, value: Any) -> None:
        """The prompt, then a token at a time."""
        if self._prompt:
            self._prompt = False
            return
        for token in value.reshape(-1).tolist():
            if token not in self._ends:
                self._marks.add(int(token))

    def end(self) -> None:
        """Nothing is left."""


PEERS = {
    "llama": Peer(LlamaCpp, "peer"),
    "genai": Peer(GenAI, "cpu"),
    "torch": Peer(Transformers, "train"),
}


def not_native(info: str, units: tuple[str, ...]) -> list[str]:
    """Vector units that the processor has and a build of llama.cpp does not tell of."""
    told = {name.strip() for name in info.replace("|", " ").replace("=", " ").split()}
    return [name for flag, name in _UNITS.items() if flag in units and name not in told]
