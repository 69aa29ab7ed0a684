from featherdesk.agent.lexical import LexicalIndex, words


def test_words_drop_stop_words_and_endings() -> None:
    assert words("How do I return the worn boots?") == ["return", "worn", "boot"]


def test_chinese_is_cut_into_characters_and_bigrams() -> None:
    assert words("退货") == ["退", "货", "退货"]


def test_the_best_text_scores_highest() -> None:
    index = LexicalIndex.build(["delivery takes 3 days", "return worn boots", "我要退货"])
    assert index.scores("can I return boots").argmax() == 1
    assert index.scores("怎么退货").argmax() == 2
    assert not index.scores("weather").any()


def test_covered_is_the_share_of_word_weight() -> None:
    index = LexicalIndex.build(["delivery to Spain", "returns"])
    assert index.covered("delivery Spain", [0]) == 1.0
    assert index.covered("delivery Spain", [1]) == 0.0
    assert 0 < index.covered("delivery Mars", [0]) < 1
    assert index.covered("the", [0]) == 0.0


def test_an_empty_index_scores_nothing() -> None:
    assert LexicalIndex.build([]).scores("anything").shape == (0,)
