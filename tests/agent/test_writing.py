"""What the model writes: when its refusal counts, and how messages of several parts are written."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from featherdesk.agent.engine import Agent
from featherdesk.agent.writing import refusal_threshold

PAY = "We accept Visa, Mastercard and PayPal."
DELIVERY = "Standard delivery takes 3 to 5 working days and costs £4.95."


def test_the_surer_the_router_the_surer_the_model_must_be_to_refuse(
    agent_of: Callable[[str], Agent],
) -> None:
    agent = agent_of(DELIVERY)
    manifest = replace(agent.manifest, refusal=0.3, refusal_slope=0.5)
    settings = agent.config.generation
    assert refusal_threshold(manifest, settings, 0.5) == pytest.approx(0.3)
    sure, unsure = (refusal_threshold(manifest, settings, share) for share in (0.9, 0.1))
    assert sure > 0.5 > 0.3 > unsure
    assert refusal_threshold(manifest, replace(settings, refusal=0.25), 0.9) == 0.25
