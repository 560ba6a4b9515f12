"""What processes that serve have in common."""

import asyncio
import gc
import weakref

from app.serving import collect_cycles


class Held:
    """An object that can be in a cycle."""


def test_cycles_are_collected_in_a_process_that_would_not_look_for_hours():
    async def run():
        gone = asyncio.Event()
        one = Held()
        one.itself = one
        weakref.finalize(one, gone.set)
        del one
        collecting = asyncio.ensure_future(collect_cycles(0.01))
        try:
            await asyncio.wait_for(gone.wait(), 30)
        finally:
            collecting.cancel()

    thresholds = gc.get_threshold()
    gc.set_threshold(1_000_000, 20, 20)
    try:
        asyncio.run(run())
    finally:
        gc.set_threshold(*thresholds)
