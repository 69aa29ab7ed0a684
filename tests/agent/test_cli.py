"""The command line as a contract: exit codes, streams, JSON, clear errors."""

import json
from pathlib import Path
from typing import Any

import pytest

FAQ = """question,answer,variants
How long does delivery take?,It takes 3 to 5 days and costs £4.95.,when will it arrive|delivery time
Can I return worn boots?,"No, worn boots cannot be returned.",send back used boots
How can I pay?,"We accept Visa and PayPal.",payment methods
"""


@pytest.fixture(scope="module")
def acme(tmp_path_factory: pytest.TempPathFactory, cli: Any) -> Path:
    """A built bot of three entries."""
    folder = tmp_path_factory.mktemp("acme")
    (folder / "faq.csv").write_text(FAQ)
    assert cli("init", "acme", "--faq", "faq.csv", cwd=folder).returncode == 0
    done = cli("build", "acme/bot.toml", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "3 entries" in done.stdout
    return folder / "acme"


@pytest.mark.end_to_end
def test_ask_answers_with_its_source(acme: Path, cli: Any) -> None:
    done = cli("ask", acme / "bot", "how long until it is delivered?")
    assert "3 to 5 days" in done.stdout
    assert "source:" in done.stdout
    told = json.loads(cli("ask", acme / "bot", "can i give back used boots", "--json").stdout)
    assert told["entry_id"] == "can-i-return-worn-boots"
    assert told["citations"]


@pytest.mark.end_to_end
def test_explain_tells_route_score_and_author(acme: Path, cli: Any) -> None:
    told = cli("explain", acme / "bot", "how long is delivery?").stdout
    for word in (
        "Route: answer",
        "threshold",
        "Written by",
        "Sources",
        "Guards",
        "int4",
        "checking",
    ):
        assert word in told
    assert "“It takes 3 to 5 days and costs £4.95.”" in told
    told = json.loads(cli("explain", acme / "bot", "how long is delivery?", "--json").stdout)
    assert told["considered"][0]["passed"]
    assert told["bits"] == "int4"
    assert {"route", "first_token", "generate", "check", "total"} <= set(told["ms"])
    assert told["text"]


@pytest.mark.end_to_end
def test_batch_keeps_the_order_and_ids(acme: Path, cli: Any, tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text(
        '{"id": "b", "question": "how do I pay"}\n'
        '{"id": "a", "question": "and the cost?", "history": [{"role": "user", "content": '
        '"how long is delivery"}, {"role": "assistant", "content": "3 to 5 days"}]}\n'
        '{"id": "c", "question": "who is the king of Spain"}\n'
    )
    assert cli("batch", acme / "bot", source, target, "--route-only").returncode == 0
    rows = [json.loads(line) for line in target.read_text().splitlines()]
    assert [row["id"] for row in rows] == ["b", "a", "c"]
    assert rows[2]["route"] in {"handoff", "clarify"}
    assert set(rows[0]) == {
        "id",
        "route",
        "author",
        "cached",
        "confidence",
        "entry_id",
        "candidates",
        "passed",
        "parts",
        "text",
        "raw_text",
        "citations",
        "grounded",
        "handoff",
        "ms",
        "threshold",
        "guards",
        "unsupported",
        "model",
    }


@pytest.mark.end_to_end
def test_an_edited_faq_is_taken_from_the_index_step(acme: Path, cli: Any) -> None:
    faq = acme.parent / "faq.csv"
    faq.write_text(FAQ.replace("£4.95", "£7.25"))
    try:
        done = cli("build", acme / "bot.toml", "--from", "index", "--quick")
        assert done.returncode == 0, done.stderr
        assert "£7.25" in cli("ask", acme / "bot", "what does delivery cost").stdout
    finally:
        faq.write_text(FAQ)
        cli("build", acme / "bot.toml", "--from", "index", "--quick")


@pytest.mark.end_to_end
def test_a_bot_replaces_no_folder_but_a_bot(acme: Path, cli: Any) -> None:
    for out in (acme, acme.parent):
        done = cli("build", acme / "bot.toml", "--out", out)
        assert done.returncode == 1
        assert "--out" in done.stderr
    assert (acme / "bot.toml").exists()


@pytest.mark.end_to_end
def test_a_changed_byte_in_the_bot_folder_is_refused(acme: Path, cli: Any, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(acme / "bot", tmp_path / "bot")
    path = tmp_path / "bot" / "knowledge" / "entries.jsonl"
    path.write_text(path.read_text().replace("4.95", "0.95"))
    done = cli("ask", tmp_path / "bot", "x")
    assert done.returncode == 1
    assert "was changed after the build" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.end_to_end
def test_a_killed_build_goes_on_from_the_last_whole_step(acme: Path, cli: Any) -> None:
    import signal
    import subprocess
    import sys
    import time

    (acme.parent / "faq.csv").write_text(FAQ + "Do you ship abroad?,We ship to France for £9.\n")
    work = acme / ".bot.work"
    process = subprocess.Popen(
        [sys.executable, "-m", "featherdesk.agent.cli", "build", str(acme / "bot.toml")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not (work / "knowledge" / ".done").exists():
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert cli("ask", acme / "bot", "how do I pay").returncode == 0
    done = cli("build", acme / "bot.toml", "--quick")
    assert done.returncode == 0
    assert "knowledge: already done" in done.stderr
    assert "4 entries" in done.stdout
    assert not work.exists()


@pytest.mark.end_to_end
def test_the_inbox_can_be_read_back_by_build(acme: Path, cli: Any, tmp_path: Path) -> None:
    from featherdesk.agent.ingest import read_faq

    cli("chat", acme / "bot", input="what is the capital of Peru?\n\n")
    told = json.loads(cli("inbox", acme / "bot", "--json").stdout)
    assert told[0]["kind"] == "unanswered"
    rows = cli("inbox", acme / "bot", "--csv").stdout
    filled = tmp_path / "more.csv"
    lines = rows.splitlines()
    filled.write_text("\n".join([lines[0], lines[1].replace("?,,", "?,Lima is.,")]) + "\n")
    assert read_faq(filled)[0].answer == "Lima is."


@pytest.mark.end_to_end
def test_a_person_asked_for_in_the_terminal_is_in_the_inbox(acme: Path, cli: Any) -> None:
    done = cli("chat", acme / "bot", input="what is the capital of Peru?\nyes please\n\n")
    assert "Your number is H-0" in done.stdout
    number = "H-" + done.stdout.split("Your number is H-")[1][:5]
    told = cli("inbox", acme / "bot", number).stdout
    assert f"Hand-off {number}" in told
    assert "customer  what is the capital of Peru?" in told
    items = json.loads(cli("inbox", acme / "bot", "--json").stdout)
    [item] = [item for item in items if item["number"] == number]
    assert item["summary"]["conversation"][0]["text"] == "what is the capital of Peru?"
    assert number in cli("inbox", acme / "bot").stdout
    missing = cli("inbox", acme / "bot", "H-99999")
    assert missing.returncode == 1
    assert "there is no hand-off H-99999" in missing.stderr
    assert cli("inbox", acme / "bot", "--resend").stdout.startswith("0 to be sent again")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["ask", "nowhere", "x"], 1, "not a bot folder"),
        (["build", "nowhere.toml"], 1, "featherdesk init"),
        (["check", "nowhere.csv"], 1, "nowhere.csv"),
        (["init", "../up", "--faq", "x.csv"], 1, "folder name"),
        (["models", "fetch", "nope"], 1, "known:"),
        (["nonsense"], 2, "No such command"),
        (["ask"], 2, "Missing argument"),
        (["evaluate", "nowhere", "x.jsonl"], 1, "not a bot folder"),
    ],
)
def test_mistakes_get_one_clear_line(
    cli: Any, tmp_path: Path, arguments: list[str], code: int, said: str
) -> None:
    done = cli(*arguments, cwd=tmp_path)
    assert done.returncode == code
    assert said in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


def test_models_and_plugins_list_as_json(cli: Any) -> None:
    models = json.loads(cli("models", "list", "--json").stdout)
    assert {"smollm2-135m-instruct", "minilm-l6-v2-int8"} <= {m["id"] for m in models}
    plugins = json.loads(cli("plugins", "list", "--json").stdout)
    assert {"build", "serve", "export"} <= {p["name"] for p in plugins}
