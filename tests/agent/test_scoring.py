from collections.abc import Sequence
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from featherdesk.agent.build import _reranker_id
from featherdesk.agent.calibration import Prior, _Found, _thresholds, calibrate
from featherdesk.agent.encoder import MiniLM
from featherdesk.agent.index import FEATURES, Candidate, Index
from featherdesk.agent.reranker import RERANKER, Scores
from featherdesk.agent.scoring import Reading, Scorer, Weights, fit_order
from featherdesk.agent.stages import BotConfig
from featherdesk.agent.types import Entry


class Prefers:
    """A reranker that answers 5 for entries with a word in their answer, -5 for others."""

    id = "prefers"

    def __init__(self, word: str) -> None:
        self.word, self.before = word, ""

    def reads(self, text: str) -> bool:
        return text.isascii()

    def score(self, question: str, entries: Sequence[tuple[str, str]], before: str = "") -> Scores:
        self.before = before
        return np.array([5.0 if self.word in answer else -5.0 for _, answer in entries])


@pytest.fixture(scope="module")
def index(encoder_folder: Path) -> Index:
    entries = [
        Entry("delivery", "How long does delivery take?", "3 to 5 days."),
        Entry("express", "Do you have express delivery?", "Yes, the next day."),
        Entry("returns", "Can I return boots?", "Within 30 days."),
    ]
    return Index.build(entries, MiniLM(encoder_folder, 2))


def _candidates(index: Index, question: str) -> list[Candidate]:
    vector = index.encoder.embed([question])[0]
    return index.candidates(question, vector, today=date.today())


def _ids(index: Index, scorer: Scorer, question: str, before: str = "") -> list[str]:
    found = scorer.scored(question, [_candidates(index, question)], before)
    return [index.entries[s.candidate.entry].id for s in found]


FIRST = (4.0, 0.0, 2.0, 0.0, 0.0, 1.0, 0.0, 0.0, -3.0)


def test_reading_moves_the_order_by_its_weight_only(index: Index) -> None:
    question = "how long does delivery take"
    reranker = Prefers("next")
    for order, best in ((0.0, "delivery"), (2.0, "express")):
        scorer = Scorer(index, Weights(FIRST, order), reranker)
        assert _ids(index, scorer, question, "before")[0] == best
    assert reranker.before == "before"


def test_what_it_does_not_read_keeps_the_order_of_the_search(index: Index) -> None:
    scorer = Scorer(index, Weights(FIRST, 2.0), Prefers("next"))
    assert _ids(index, scorer, "how long does delivery take\u00bf")[0] == "delivery"


def test_several_searches_count_by_their_mean(index: Index) -> None:
    scorer = Scorer(index, Weights(FIRST))
    searches = [_candidates(index, q) for q in ("boots", "how long does delivery take")]
    both = {s.candidate.entry: s.score for s in scorer.scored("x", searches)}
    assert len(both) == 3
    alone = [{s.candidate.entry: s.score for s in scorer.scored("x", [c])} for c in searches]
    for entry, score in both.items():
        assert min(a[entry] for a in alone) <= score <= max(a[entry] for a in alone)


def test_the_order_is_the_smallest_that_finds_most() -> None:
    candidates = tuple(Candidate(n, np.zeros(len(FEATURES)), "") for n in range(2))
    reading = Reading(candidates, np.array([[1.0, -1.0, 0.0], [0.0, 1.0, 0.0]]))
    assert fit_order([(reading, 0)], Weights()).order == 0
    assert fit_order([(reading, 1)], Weights()).order == 0.6


def test_where_no_model_judges_a_doubtful_match_is_offered_not_sent() -> None:
    own = [_Found(score, right=True, share=1.0) for score in np.linspace(0.3, 0.9, 100)]
    foreign = [_Found(score, right=False, share=0.0) for score in np.linspace(0.0, 0.42, 100)]
    prior = Prior(Weights(), 0.5)
    judged, alone = (
        _thresholds(Weights(), own, [], foreign, [], prior=prior, judged=judged)
        for judged in (True, False)
    )
    assert alone.answer > judged.answer
    assert alone.clarify == judged.answer
    assert alone.kept >= 0.79


def test_a_bot_is_calibrated_with_the_reranker_it_is_given(index: Index) -> None:
    assert calibrate(index, Prefers("next")).reranker == "prefers"
    assert calibrate(index).reranker == ""


@pytest.mark.parametrize(
    ("languages", "chosen"),
    [(("en",), RERANKER), (("en", "zh"), RERANKER), (("en", "de"), ""), (("zh",), "")],
)
def test_the_english_reranker_is_taken_where_all_latin_text_is_english(
    languages: tuple[str, ...], chosen: str
) -> None:
    texts = {"en": "How long?", "de": "Wie lange?", "zh": "多久能到？"}
    entries = [Entry(name, texts[name], "a", language=name) for name in languages]
    assert _reranker_id(BotConfig(), entries) == chosen
