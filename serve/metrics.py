"""What Prometheus is told: replies, and how the generator copes with its crowd.

Knows nothing of HTTP.
"""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector

from ..agent.runtime import OnnxGenerator
from ..agent.types import Reply
from .live import LiveBot

__all__ = ["Metrics"]


class Metrics:
    """Counters of replies, and of the generator that serves now; a rebuilt bot begins anew."""

    def __init__(self, bot: LiveBot) -> None:
        self.registry = CollectorRegistry()
        self.replies = Counter(
            "featherdesk_replies",
            "Replies by route and author.",
            ["route", "author"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "featherdesk_reply_seconds", "Whole replies.", registry=self.registry
        )
        self.first = Histogram(
            "featherdesk_first_token_seconds", "First released word.", registry=self.registry
        )
        self.registry.register(_Crowd(bot))
        self.registry.register(_Kept(bot))

    def saw(self, reply: Reply) -> None:
        """Count a reply."""
        self.replies.labels(reply.route.kind.value, reply.author.value).inc()
        self.seconds.observe(reply.ms.get("total", 0.0) / 1000)
        if "first_token" in reply.ms:
            self.first.observe(reply.ms["first_token"] / 1000)


class _Crowd(Collector):
    """Reads the generator when it is asked."""

    def __init__(self, bot: LiveBot) -> None:
        self._bot = bot

    def describe(self) -> Iterator[Metric]:
        """Nothing is read before the first scrape."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        generator = self._bot.agent.generator
        if not isinstance(generator, OnnxGenerator):
            return
        scheduler, tally = generator.scheduler, generator.scheduler.tally
        yield GaugeMetricFamily(
            "featherdesk_queue_length", "Questions that wait for the model.", scheduler.waiting
        )
        yield GaugeMetricFamily(
            "featherdesk_writing", "Questions that the model is at.", scheduler.company
        )
        yield SummaryMetricFamily(
            "featherdesk_wait_seconds", "Waits in the queue.", tally.admitted, tally.waited
        )
        yield SummaryMetricFamily(
            "featherdesk_pass_requests", "Requests in a pass.", tally.passes, tally.rows
        )
        yield SummaryMetricFamily(
            "featherdesk_pass_tokens", "Tokens fed in a pass.", tally.passes, tally.tokens
        )
        yield CounterMetricFamily(
            "featherdesk_pass_seconds", "Time that passes took.", tally.seconds
        )
        yield CounterMetricFamily(
            "featherdesk_refused", "Questions that found the queue full.", tally.refused
        )
        blocks = CounterMetricFamily(
            "featherdesk_blocks", "Blocks of prompts, stored or read anew.", labels=["stored"]
        )
        if generator.store is not None:
            blocks.add_metric(["yes"], generator.store.hits)
            blocks.add_metric(["no"], generator.store.misses)
        yield blocks


class _Kept(Collector):
    """How often an answer was found that the model had written before, by bot and not by reply:
    the chat page asks too."""

    def __init__(self, bot: LiveBot) -> None:
        self._bot = bot

    def collect(self) -> Iterator[Metric]:
        answers = self._bot.agent.answers
        told = CounterMetricFamily(
            "featherdesk_answer_cache", "Answers looked for among those kept.", labels=["result"]
        )
        told.add_metric(["hit"], 0 if answers is None else answers.hits)
        told.add_metric(["miss"], 0 if answers is None else answers.misses)
        yield told
