"""Places for videos: refused to requests, waited for by jobs in their order."""

import asyncio

import pytest

from service.clips.slots import VideoSlots
from service.errors import Overloaded
from service.metrics import Metrics


def run(story, count: int = 1) -> None:
    async def main() -> None:
        places = VideoSlots(count, Metrics())
        await story(places)
        assert places.taken == 0

    asyncio.run(main())


def test_requests_are_refused_when_all_places_are_taken():
    async def story(places: VideoSlots):
        with places.enter(), places.enter():
            with pytest.raises(Overloaded) as caught:
                places.check()
            assert (caught.value.limit, caught.value.actual) == (2, 2)
        places.check()

    run(story, count=2)


def test_place_goes_to_the_one_who_has_waited_longest():
    async def story(places: VideoSlots):
        order = []

        async def wait(name: str) -> None:
            await places.wait()
            order.append(name)

        with places.enter():
            waiting = [asyncio.ensure_future(wait(name)) for name in "abc"]
            await asyncio.sleep(0)
        for count in (1, 2, 3):
            with pytest.raises(Overloaded):  # nobody comes in between
                places.check()
            await waiting[count - 1]
            assert order == list("abc")[:count] and places.taken == 1
            places.leave()

    run(story)


@pytest.mark.parametrize("is_given", [False, True], ids=["waiting", "just-given"])
def test_waiting_that_is_cancelled_takes_no_place(is_given):
    async def story(places: VideoSlots):
        await places.wait()
        waiting = [asyncio.ensure_future(places.wait()) for _ in range(2)]
        await asyncio.sleep(0)
        if is_given:
            places.leave()
        waiting[0].cancel()
        await asyncio.gather(waiting[0], return_exceptions=True)
        if not is_given:
            places.leave()
        await waiting[1]
        assert places.taken == 1
        places.leave()

    run(story)
