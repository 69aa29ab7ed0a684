"""A bot made of a public set: one portal that answers for the 22 held-out businesses of DSTC9.

    python tests/make_public_bot.py ../shared/data/dstc9_faq_kb/knowledge.train.json OUT

Writes OUT/bot.toml, OUT/faq.jsonl, OUT/test.jsonl and the set's SOURCE.txt, which keeps its texts
out of reports. Every entry and every reworded question names its business, as a customer of a portal
would. The set itself stays where it is: nothing of it is part of the project.
"""

import json
from pathlib import Path
from typing import Any

import click

ROWS = sorted((Path(__file__).parent / "data").glob("dstc9_rewordings_*.jsonl"))
BOT = """[bot]
name = "Portal"
faq = ["faq.jsonl"]

[generation]
adapter = "grounded"

[skills]
use = []
"""


def told_name(name: str) -> str:
    return " ".join(
        word.capitalize() if word.isupper() or word.islower() else word for word in name.split()
    )


@click.command()
@click.argument("faq", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("out", type=click.Path(path_type=Path))
def main(faq: Path, out: Path) -> None:
    """Write the bot's configuration, its FAQ and its test."""
    data: dict[str, Any] = json.loads(faq.read_text(encoding="utf-8"))
    rows = [json.loads(line) for path in ROWS for line in path.read_text("utf-8").splitlines()]
    names = {}
    entries = []
    for business in sorted({row["business"] for row in rows}):
        domain, number = business.split("/")
        names[business] = told_name(data[domain][number]["name"])
        for key, doc in data[domain][number]["docs"].items():
            entries.append(
                {
                    "id": f"{business}/{key}",
                    "question": f"{names[business]}: {doc['title']}",
                    "answer": doc["body"],
                    "category": business,
                }
            )
    known = {entry["id"] for entry in entries}
    tests = []
    for row in rows:
        row["question"] = f"{names[row['business']]}: {row['question']}"
        if set(row["entry_ids"]) <= known:
            tests.append({key: value for key, value in row.items() if key != "business"})
    source = (faq.parent / "SOURCE.txt").read_text(encoding="utf-8")
    out.mkdir(parents=True, exist_ok=True)
    (out / "SOURCE.txt").write_text(source, encoding="utf-8")  # first: reports quote what has none
    (out / "bot.toml").write_text(BOT, encoding="utf-8")
    for name, lines in (("faq.jsonl", entries), ("test.jsonl", tests)):
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        (out / name).write_text(text, encoding="utf-8")
    click.echo(f"{len(entries)} entries of {len(names)} businesses, {len(tests)} questions")


if __name__ == "__main__":
    main()
