"""What a broker's own timing must not change."""

import asyncio

import pytest

from app import kafka
from app.conventions import READ_BY_WORKERS, SAMPLES
from app.core.runs import RunStage
from app.errors import EnvironmentFault


class Broker:
    """Answers as a broker whose metadata comes after the creation of a topic.

    A real one does so now and then; here it does so every time.
    """

    def __init__(self, late: int) -> None:
        self.late = late

    async def describe_topics(self, topics):
        self.late -= 1
        return [{"topic": topic, "partitions": [] if self.late >= 0 else [0, 1, 2, 3]} for topic in topics]


def test_what_workers_read_is_what_their_stages_read():
    assert {*RunStage.topics, SAMPLES} == READ_BY_WORKERS


def test_a_topic_that_the_metadata_does_not_list_yet_is_waited_for():
    assert asyncio.run(kafka._partitions(Broker(late=3), ["a", "b"])) == {"a": 4, "b": 4}


def test_a_topic_that_never_comes_is_said(monkeypatch):
    monkeypatch.setattr(kafka, "CONNECT_SECONDS", 0.0)
    with pytest.raises(EnvironmentFault, match="does not list topic a"):
        asyncio.run(kafka._partitions(Broker(late=1000), ["a"]))
