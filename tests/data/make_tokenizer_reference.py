"""Writes tokenizer_reference.jsonl: ids that llama.cpp gives for 2,000 strings.

Run once, in an environment of its own:
    pip install llama-cpp-python==0.3.36
    python tests/data/make_tokenizer_reference.py SmolLM2-135M-Instruct.Q4_1.gguf
"""

import json
import random
import sys
from pathlib import Path

from llama_cpp import Llama

WORDS = [
    "delivery",
    "return",
    "refund",
    "order",
    "parcel",
    "boots",
    "tent",
    "price",
    "cost",
    "when",
    "where",
    "how",
    "much",
    "can",
    "I",
    "the",
    "a",
    "my",
    "don't",
    "it's",
    "you've",
    "Delivery",
    "RETURN",
    "Worn-out",
    "naïve",
    "café",
    "£4.95",
    "€12,50",
    "$1,299.00",
    "¥350",
    "50%",
    "3:30pm",
    "15:00",
    "2025-05-12",
    "12/05/2025",
    "+44",
    "1632",
    "960118",
    "help@larkfell.example",
    "https://larkfell.example/a?b=1",
]
CHINESE = "你好请问怎么退货运费多少钱订单什么时候到可以开发票吗支付宝微信客服电话门店营业时间保修"
EMOJI = "😀👍🏽❤️🚚📦🏔️👨‍👩‍👧‍👦🇬🇧✨"
SPECIAL = (
    "<|im_start|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<repo_name>",
    "<file_sep>",
    "<jupyter_code>",
)


def text(rng: random.Random) -> str:
    kind = rng.randrange(8)
    if kind == 0:
        return " ".join(rng.choice(WORDS) for _ in range(rng.randrange(1, 14)))
    if kind == 1:
        return "".join(rng.choice("0123456789 .,:/-") for _ in range(rng.randrange(1, 24)))
    if kind == 2:
        return f"{rng.choice('£$€¥')}{rng.randrange(100000) / 100:.2f} {rng.choice(WORDS)}"
    if kind == 3:
        return "".join(rng.choice(CHINESE) for _ in range(rng.randrange(1, 20)))
    if kind == 4:
        return " ".join(rng.choice([*WORDS, *EMOJI]) for _ in range(rng.randrange(1, 8)))
    if kind == 5:
        return (
            rng.choice(SPECIAL)
            + rng.choice(WORDS)
            + rng.choice(("\n", " ", ""))
            + rng.choice(SPECIAL)
        )
    if kind == 6:
        ranges = (
            (0x20, 0x7E),
            (0xA1, 0x24F),
            (0x370, 0x5FF),
            (0x900, 0xDFF),
            (0x3040, 0x30FF),
            (0xAC00, 0xD7A3),
        )
        low, high = rng.choice(ranges)
        return "".join(chr(rng.randint(low, high)) for _ in range(rng.randrange(1, 24)))
    return "".join(
        rng.choice((" ", "  ", "\n", "\n\n", "\t", rng.choice(WORDS)))
        for _ in range(rng.randrange(2, 14))
    )


def main() -> None:
    model = Llama(sys.argv[1], vocab_only=True, verbose=False)
    rng = random.Random(2025)
    with (Path(__file__).parent / "tokenizer_reference.jsonl").open("w", encoding="utf-8") as file:
        for _ in range(2000):
            string = text(rng)
            ids = model.tokenize(string.encode(), add_bos=False, special=True)
            file.write(json.dumps({"text": string, "ids": ids}, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
