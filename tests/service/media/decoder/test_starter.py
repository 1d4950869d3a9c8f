import asyncio

import psutil

from service.media.decoder.pool import DecoderPool
from service.media.decoder.starter import DecoderStarter
from service.metrics import Metrics
from service.settings import Settings
from tests.helpers import list_decoders, wait_until


def test_pool_takes_the_children_that_were_begun_early():
    async def story():
        starter = DecoderStarter(Settings(), early=1)
        early = starter._early[0]
        pool = DecoderPool(Settings(), Metrics(), stills=1, videos=1, starter=starter)
        await pool.start()
        async with pool.borrow("still") as child, pool.borrow("video") as other:
            assert child is early.result() and other is not child
        await pool.aclose()
        assert not psutil.pid_exists(child.pid)

    asyncio.run(story())


def test_children_that_nobody_took_end_with_the_starter():
    before = list_decoders()
    starter = DecoderStarter(Settings(), early=2)
    early = list(starter._early)
    first = early[0].result()
    assert psutil.pid_exists(first.pid)
    starter.close()
    wait_until(lambda: list_decoders() <= before)
    assert not psutil.pid_exists(first.pid)
