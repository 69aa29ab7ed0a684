from featherdesk.agent.lookup import LONGEST, MOST, Guess, Lookup, Pace
from hypothesis import given
from hypothesis import strategies as st


def test_the_longest_match_of_the_likeliest_source_wins() -> None:
    lookup = Lookup([[1, 2, 3, 4, 5], [9, 3, 7, 8], [1, 2, 3, 6]])
    assert lookup.opening(3).tokens == (1, 2, 3)
    assert lookup.after([1, 2, 3], 2) == Guess((4, 5), 3)
    assert lookup.after([9, 3], 8) == Guess((7, 8), 2)
    assert lookup.after([0, 3], 1) == Guess((4,), 1)
    assert lookup.after([5], 4) == Guess()
    assert lookup.after([0], 4) == Guess()


def test_without_sources_nothing_is_guessed() -> None:
    lookup = Lookup([])
    assert lookup.opening(4).tokens == ()
    assert lookup.after([1, 2], 4) == Guess()


@given(st.lists(st.lists(st.integers(0, 5), max_size=12), max_size=4), st.lists(st.integers(0, 5)))
def test_a_guess_follows_the_end_somewhere(sources: list[list[int]], written: list[int]) -> None:
    guess = Lookup(sources).after(written, 3)
    if guess.tokens:
        wanted = [*written[-guess.matched :], *guess.tokens]
        assert any(
            source[n : n + len(wanted)] == wanted for source in sources for n in range(len(source))
        )


def test_what_is_accepted_is_guessed_more() -> None:
    pace = Pace()
    before = pace.most(2)
    for _ in range(30):
        pace.judged(Guess((1, 2, 3, 4), 2), 4)
    assert pace.most(2) > before
    for _ in range(60):
        pace.judged(Guess((1, 2, 3, 4), 2), 0)
    assert pace.most(2) == 0
    assert pace.most(LONGEST) > 0


def test_what_was_given_up_is_tried_again() -> None:
    pace = Pace()
    for _ in range(60):
        pace.judged(Guess((1, 2, 3, 4), 2), 0)
    assert pace.most(2) == 0
    for _ in range(60):
        pace.passed_over(2)
    assert 0 < pace.most(2) <= Pace().most(2)


def test_how_answers_begin_is_learned_apart() -> None:
    pace, opening = Pace(), Lookup([[7, 8, 9]]).opening(2)
    before = pace.most(LONGEST)
    for _ in range(60):
        pace.judged(opening, 0)
    assert pace.most(opening.matched) == 0
    assert pace.most(LONGEST) == before


def test_what_costs_as_much_as_a_step_is_not_guessed() -> None:
    dear, cheap = Pace(), Pace()
    for n in range(40):
        tokens = 1 + n % 5
        dear.timed(tokens, 0.01 * tokens)
        cheap.timed(tokens, 0.01 + 0.0001 * tokens)
    assert dear.ratio > 0.9
    assert cheap.ratio < 0.05
    assert dear.most(1) == 0
    assert cheap.most(4) == MOST


def test_who_is_in_company_guesses_less() -> None:
    pace = Pace()
    for n in range(40):
        pace.timed(1 + n % 5, 0.0051 + 0.0017 * (1 + n % 5))  # a quarter more for each token
    assert pace.most(LONGEST, 1) >= pace.most(LONGEST, 2) > 0
    assert pace.most(LONGEST, 8) == 0
    assert 0 < pace.most(LONGEST, 8, shared=True) < pace.most(LONGEST, 1)
    assert pace.most(LONGEST, 1, shared=True) == pace.most(LONGEST, 1)
