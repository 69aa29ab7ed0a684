"""BLEU, ROUGE-L and chrF of texts against one reference each. Knows nothing of bots."""

import re
from collections.abc import Sequence

import numpy as np

__all__ = ["overlap"]


def overlap(texts: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """Corpus BLEU and chrF (0..100, sacrebleu), mean ROUGE-L F1 (0..1).

    Empty without texts, or where the metric libraries (extra `dev` or `train`) are missing.
    """
    if not texts:
        return {}
    try:
        import sacrebleu
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError:
        return {}
    told, wanted = list(texts), [list(references)]
    scorer = RougeScorer(["rougeL"], tokenizer=_Characters())
    pairs = zip(references, texts, strict=True)
    rouge = np.mean([scorer.score(w, t)["rougeL"].fmeasure for w, t in pairs])
    return {
        "bleu": round(sacrebleu.corpus_bleu(told, wanted).score, 2),
        "chrf": round(sacrebleu.corpus_chrf(told, wanted).score, 2),
        "rouge_l": round(float(rouge), 4),
    }


class _Characters:
    """Words for rouge-score: Latin words whole, CJK one by one (its own drops them)."""

    def tokenize(self, text: str) -> list[str]:
        """The tokens of a text."""
        return re.findall(r"[一-鿿]|[^\W一-鿿]+", text.lower())
