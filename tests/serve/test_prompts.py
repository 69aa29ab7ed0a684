import json
from pathlib import Path

import pytest
from featherdesk.agent.artifacts import Manifest
from featherdesk.agent.engine import Agent
from featherdesk.agent.errors import ArtifactError, FeatherdeskError
from featherdesk.agent.prompt import render
from featherdesk.serve.prompts import gather, needs_generator, shorter

from .tiny_bot import ENTRIES, make_bot


def test_prompts_are_those_that_are_served(tiny_bot: Path) -> None:
    gathered = gather(tiny_bot, None, 4)
    assert len(gathered.prompts) == 4
    agent = Agent.load(tiny_bot)
    assert agent.generator is not None
    for prompt in gathered.prompts:
        reply = agent.reply(prompt.question)
        shown = [agent.entry(name) for name in reply.route.passed]
        wanted = render(shown, prompt.question).texts
        assert prompt.texts == wanted
        assert prompt.parts == [tuple(agent.generator.encode(text)) for text in wanted]
        assert len(prompt.ids) == reply.prompt_tokens
        assert prompt.sources
    assert gathered.warm is not None
    assert gathered.warm.question not in {one.question for one in gathered.prompts}


def test_a_shorter_prompt_holds_the_best_entry_alone(tiny_bot: Path) -> None:
    prompt = gather(tiny_bot, None, 1).prompts[0]
    short = shorter(prompt)
    assert short.texts == (prompt.texts[0], prompt.texts[1], prompt.texts[-1])
    assert short.parts == [prompt.parts[0], prompt.parts[1], prompt.parts[-1]]
    assert shorter(short) == short


def test_what_the_model_would_not_answer_is_left_out(tiny_bot: Path, tmp_path: Path) -> None:
    rows = [
        {"id": "a", "question": "which cards do you take"},
        {"id": "b", "question": "Which  cards do you take"},
        {"id": "c", "question": "thanks!"},
        {"id": "d", "question": "who won the cup", "out_of_scope": True},
        {
            "id": "e",
            "question": "send back used boots",
            "history": [{"role": "user", "content": "hello"}],
        },
    ]
    path = tmp_path / "test.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    gathered = gather(tiny_bot, path, 10)
    asked = [*gathered.prompts, gathered.warm]
    assert [one.id for one in asked if one] == ["0:a", "1:e"]
    assert gathered.left_out == {"asked before": 1, "not the model's": 1, "several parts": 0}
    assert gathered.warm is not None
    assert gathered.warm.history[0].content == "hello"


def test_without_a_question_for_the_model_there_is_nothing_to_measure(
    tiny_bot: Path, tmp_path: Path
) -> None:
    path = tmp_path / "test.jsonl"
    path.write_text('{"question": "thanks!"}\n')
    with pytest.raises(FeatherdeskError, match=r"none of the 1 questions.*--questions"):
        gather(tiny_bot, path, 10)


def test_a_bot_without_a_generator_is_refused(tmp_path: Path, encoder_folder: Path) -> None:
    bot = make_bot(tmp_path / "bot", encoder_folder, ENTRIES, None)
    with pytest.raises(ArtifactError, match="has no generator"):
        needs_generator(bot, Manifest.load(bot))
