"""Quotas of keys that two services on one PostgreSQL share."""

import asyncio
from pathlib import Path

import pytest

from service.access import Access
from service.errors import QuotaExceeded
from service.jobs.rows.postgres import PostgresJobStore
from service.jobs.rows.quotas import SharedQuotas
from service.metrics import Metrics
from service.settings import Settings
from tests.fakes import FakeEngine
from tests.helpers import assert_problem, encode, wait_until
from tests.postgres import Postgres, needs_postgres, run_postgres
from tests.service.test_access import KEY, Clock, table

pytestmark = needs_postgres
QUOTA = 12.0
SLACK = 60.0  # what comes back in five minutes, should a test take so long


class Machine:
    """The quotas of one service, whose own clock stands still."""

    def __init__(self, url: str, folder: Path) -> None:
        keys = folder / "keys.toml"
        more = f"megapixels_per_minute = {QUOTA}\nvideo_s_per_minute = 30"
        keys.write_text(table("shop", KEY, more=more))
        self.access = Access(Settings(keys_file=keys), Metrics(), clock=Clock())
        self.holder = self.access.find_holder(KEY.encode())
        self.store = PostgresJobStore.open_shared(url, folder, 30)
        self.quotas = SharedQuotas(self.access, self.store)

    def use(self, amount: float) -> None:
        self.access.charge(self.holder.owner, "megapixels", amount)

    @property
    def left(self) -> float:
        return self.access._balances[self.holder.owner, "megapixels"].left

    def check(self) -> None:
        self.access.check(self.holder, "image", "megapixels")

    def pass_time(self, seconds: float) -> None:
        """Make it look as if so long had passed in the database."""
        self.store._execute("UPDATE matting_quotas SET at = at - ? * interval '1 second'", seconds)


async def share(*machines: Machine) -> None:
    for machine in machines:
        await machine.quotas.exchange()


@pytest.fixture
def two(postgres: Postgres, tmp_path: Path):
    url = postgres.make_database()
    machines = [Machine(url, tmp_path) for _ in range(2)]
    yield machines
    for machine in machines:
        machine.store.close()


def test_what_one_service_has_used_is_used_up_at_the_other(two):
    one, other = two
    one.use(8)
    one.check()
    other.check()
    other.use(700)
    asyncio.run(share(one, other, one))
    for machine in two:
        assert machine.left == pytest.approx(QUOTA - 708, abs=SLACK)
        with pytest.raises(QuotaExceeded, match="12 megapixels a minute"):
            machine.check()
    asyncio.run(share(one, other))
    assert one.left == pytest.approx(QUOTA - 708, abs=SLACK), "told once"


def test_quota_comes_back_evenly_and_to_all_alike(two):
    one, other = two
    one.use(2000)
    asyncio.run(share(one, other))
    one.pass_time(5000)  # 1000 are back
    asyncio.run(share(other, one))
    for machine in two:
        assert machine.left == pytest.approx(QUOTA - 1000, abs=SLACK)
    one.pass_time(60_000)
    asyncio.run(share(one, other))
    assert (one.left, other.left) == (QUOTA, QUOTA)


def test_use_while_balances_are_on_their_way_is_not_forgotten(two):
    one, other = two
    one.use(200)

    async def story() -> None:
        exchange = asyncio.ensure_future(one.quotas.exchange())
        await asyncio.sleep(0)
        one.use(300)
        await exchange
        assert one.left == pytest.approx(QUOTA - 500, abs=SLACK)
        await share(one, other)
        assert other.left == pytest.approx(QUOTA - 500, abs=SLACK)

    asyncio.run(story())


def test_end_of_a_service_leaves_what_it_has_used_to_the_others(two):
    one, other = two

    async def story() -> None:
        one.quotas.start()
        one.use(900)
        await one.quotas.aclose()
        await other.quotas.exchange()

    asyncio.run(story())
    assert other.left == pytest.approx(QUOTA - 900, abs=SLACK)


def test_each_service_counts_alone_while_the_database_is_away_and_tells_it_later(tmp_path):
    with run_postgres() as server:
        url = server.make_database()
        one, other = (Machine(url, tmp_path) for _ in range(2))
        server.stop()
        one.use(8)
        other.use(8)
        asyncio.run(share(one, other))
        for machine in (one, other):
            assert machine.left == QUOTA - 8
            machine.check()
        one.use(500)
        with pytest.raises(QuotaExceeded):
            one.check()
        server.start()
        asyncio.run(share(one, other, one))
        for machine in (one, other):
            assert machine.left == pytest.approx(QUOTA - 516, abs=SLACK)
            machine.store.close()


def test_two_services_hold_one_quota(postgres, make_client, tmp_path, portrait):
    keys = tmp_path / "keys.toml"
    keys.write_text(table("small", KEY, more="megapixels_per_minute = 0.01"))
    shared = {"database_url": postgres.make_database(), "jobs_dir": tmp_path, "keys_file": keys}
    one, other = (make_client(FakeEngine(), **shared) for _ in range(2))
    image = encode(portrait[:200, :200], "PNG")
    headers = {"X-API-Key": KEY, "Content-Type": "image/png"}
    assert one.post("/v1/image", content=image, headers=headers).status_code == 200

    def is_told() -> bool:
        quotas = other.get("/v1/models", headers=headers).headers["ratelimit"]
        return '"megapixels";r=0;t=0' not in quotas

    wait_until(is_told, 30)
    problem = other.post("/v1/image", content=image, headers=headers)
    assert_problem(problem, 429, "quota-exceeded")
