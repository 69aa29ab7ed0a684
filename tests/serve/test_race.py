import os
from dataclasses import dataclass, field, replace

import pytest
from featherdesk.serve.prompts import Prompt
from featherdesk.serve.race import Answer, Race, compared, figures

PROMPTS = [Prompt(str(n), "?", (), (5,) * 10, ("x",), (), (), 8) for n in range(4)]


@dataclass
class Fake:
    """A side with made-up times that keeps what it was asked."""

    name: str
    kind: str
    times: float
    order: list[str]
    author: str = "model"
    says: str = "yes"
    stops_at: str = ""
    pid: int = field(default_factory=os.getpid)

    def answer(self, prompt: Prompt) -> Answer:
        if prompt.id == self.stops_at:
            raise KeyboardInterrupt
        self.order.append(self.name)
        author = self.author if prompt.id != "3" else "fallback"
        first, whole = self.times * 0.1, self.times * 0.5
        return Answer(prompt.id, self.says, 10, 5, first, whole, 6, 14, author=author)


def _race(order: list[str], **more: str) -> Race:
    return Race(
        [
            Fake("served", "served", 1.5, order),
            Fake("runtime", "ours", 1.0, order),
            Fake("peer", "peer", 4.0, order, **more),
        ]
    )


def test_all_sides_are_asked_a_question_before_the_next_in_changing_order() -> None:
    order: list[str] = []
    race = _race(order)
    many = [replace(PROMPTS[0], id=str(n)) for n in range(40)]
    race.run(many, PROMPTS[0])
    assert order[:3] == ["served", "runtime", "peer"]  # warming up
    asked = [tuple(order[n : n + 3]) for n in range(3, len(order), 3)]
    assert all(set(turn) == {"served", "runtime", "peer"} for turn in asked)
    assert len(set(asked)) == 6  # each order comes, so that nobody always follows the same one
    assert race.done == [str(n) for n in range(40)]


def test_only_what_the_model_wrote_for_the_customer_counts() -> None:
    race = _race([])
    race.run(PROMPTS)
    assert race.counted() == {"0", "1", "2"}
    assert len(race.of("peer")) == 3


def test_an_interrupted_run_keeps_whole_questions() -> None:
    race = _race([], stops_at="2")
    with pytest.raises(KeyboardInterrupt):
        race.run(PROMPTS)
    assert race.done == ["0", "1"]
    assert {name: len(found) for name, found in race.answers.items()} == {
        "served": 2,
        "runtime": 2,
        "peer": 2,
    }


def test_ratios_say_how_many_times_faster_we_are() -> None:
    race = _race([])
    race.run(PROMPTS)
    whole = compared(race, "peer", "runtime", "whole")
    assert whole is not None
    assert (whole.value, whole.of) == (4.0, 3)
    decode = compared(race, "peer", "runtime", "decode")
    assert decode is not None
    assert decode.value == pytest.approx(4.0)
    race = _race([], says="no")
    race.run(PROMPTS)
    assert compared(race, "peer", "runtime", "whole", equal=True) is None
    assert compared(race, "peer", "runtime", "whole", only=()) is None
    assert compared(race, "served", "runtime", "whole", equal=True) is not None


def test_decode_leaves_the_first_token_out() -> None:
    one = Answer("a", "x", 10, 5, 1.0, 3.0, steps=5)
    assert one.writing == one.behind == (4, 2.0)
    assert replace(one, opening=3).behind == (2, 2.0)
    assert Answer("a", "x", 10, 1, 1.0, 1.0, steps=2).writing is None
    assert Answer("a", "x", 10, 5, 1.0, 1.1, steps=1).writing is None  # all came in one step
    assert Answer("a", "x", 10, 5, 1.0, 1.1).writing is None  # words over HTTP


def test_a_question_counts_as_stored_only_with_all_of_its_blocks() -> None:
    race = _race([])
    race.run(PROMPTS)
    found = [(3, 0), (2, 1), (0, 0)]  # the fourth question was not answered by the model
    race.answers["runtime"] = [
        replace(one, hits=hits, misses=misses)
        for one, (hits, misses) in zip(race.of("runtime"), found, strict=True)
    ]
    told = figures(race.sides[1], race, {}, "", 0.0)
    assert told.hits == pytest.approx(5 / 6, abs=1e-4)
    assert told.stored == 0.5


def test_figures_of_a_side() -> None:
    race = _race([], says="no")
    race.run(PROMPTS)
    texts = {one.id: one.text for one in race.of("runtime")}
    told = figures(race.sides[2], race, texts, "a peer", 0.5)
    assert told.equal == 0.0
    assert told.first_ms.median == pytest.approx(400.0)
    assert told.prefill.median == pytest.approx(25.0)
    assert told.decode.median == told.decode_all == told.decode_behind == pytest.approx(2.5)
    assert told.tokens_a_step == 1.0  # five tokens and the end of turn in six steps
    assert told.hits is told.stored is None
    assert told.resident_mb > 0
    assert figures(race.sides[1], race, texts, "", 0.0).equal == 1.0
