from pathlib import Path

import numpy as np
import pytest
from featherdesk.agent.encoder import MiniLM
from featherdesk.agent.errors import ArtifactError
from featherdesk.agent.reranker import MAX_PAIR, CrossEncoder, pair_ids
from tokenizers import Tokenizer


@pytest.fixture(scope="module")
def reranker(encoder_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> CrossEncoder:
    """The plain encoder under a head of ones: scores without a meaning, but real ones."""
    folder = tmp_path_factory.mktemp("reranker")
    for name in ("model.onnx", "tokenizer.json"):
        (folder / name).symlink_to(encoder_folder / name)
    np.save(folder / "head.npy", np.ones(MiniLM.dimensions + 1, np.float32), allow_pickle=False)
    return CrossEncoder(folder, 2)


def test_a_pair_is_question_then_entry_each_in_its_segment(encoder_folder: Path) -> None:
    tokenizer = Tokenizer.from_file(str(encoder_folder / "tokenizer.json"))
    tokenizer.no_padding()
    ids, kinds = pair_ids(tokenizer, "how long", "Delivery time?", "3 days.", "delivery")
    words = [tokenizer.id_to_token(i) for i in ids]
    assert " ".join(words) == (
        "[CLS] delivery [SEP] how long [SEP] delivery time ? [SEP] 3 days . [SEP]"
    )
    assert kinds == [0] * 6 + [1] * 8


def test_long_text_is_cut_on_every_side(encoder_folder: Path) -> None:
    tokenizer = Tokenizer.from_file(str(encoder_folder / "tokenizer.json"))
    long = "delivery of parcels " * 500
    ids, kinds = pair_ids(tokenizer, long, long, long, long)
    assert len(ids) == len(kinds) == MAX_PAIR
    assert ids[-1] == tokenizer.token_to_id("[SEP]")


def test_scores_do_not_depend_on_what_is_scored_beside_them(reranker: CrossEncoder) -> None:
    entries = [("Delivery?", "3 days."), ("Returns?", "Within 30 days, in the box, unworn.")]
    both = reranker.score("how long does it take", entries)
    alone = [reranker.score("how long does it take", [entry])[0] for entry in entries]
    assert both.shape == (2,)
    assert np.allclose(both, alone, atol=0.35)


def test_nothing_to_read_and_other_scripts(reranker: CrossEncoder) -> None:
    assert reranker.score("how long", []).shape == (0,)
    assert reranker.reads("how long?")
    assert not reranker.reads("多久能到？")


def test_a_folder_without_a_head_is_refused(encoder_folder: Path) -> None:
    with pytest.raises(ArtifactError, match="holds no reranker"):
        CrossEncoder(encoder_folder)
