"""Waiting for jobs from a test that is itself on the loop."""

import asyncio

import pytest
from fix_servers import wait_until


@pytest.fixture
def settled():
    """Waits, beside the loop, until a job is at rest in one of the states."""

    async def settle(job, *states):
        await asyncio.to_thread(wait_until, lambda: job.state in states, f"for {states}")
        await asyncio.to_thread(job.join, None)

    return settle


@pytest.fixture
def until():
    """Waits, beside the loop, until a condition holds."""

    async def wait(condition):
        await asyncio.to_thread(wait_until, condition)

    return wait
