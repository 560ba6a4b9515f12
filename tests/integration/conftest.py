"""A deployment of its own for each test."""

import asyncio

import pytest
from cluster import Cluster


@pytest.fixture
def cluster(bootstrap, tmp_path):
    made = Cluster(bootstrap, tmp_path, closing={"settle_seconds": 2})
    asyncio.run(made.topics())
    yield made
    made.end()
