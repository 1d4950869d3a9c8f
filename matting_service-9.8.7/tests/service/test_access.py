"""Keys: who holds which, what for, how much, and the file that they come from."""

import hashlib
import os
from pathlib import Path

import pytest

from service.access import ANONYMOUS, LOOK_S, MAX_KEY_BYTES, Access, make_key
from service.errors import Forbidden, QuotaExceeded
from service.metrics import Metrics
from service.settings import Settings, SettingsError, check_exposure

KEY, OTHER = "alpha-key-1234", "beta-key-5678"


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def table(name: str, *keys: str, more: str = "") -> str:
    digests = ", ".join(f'"{digest(key)}"' for key in keys)
    return f"[{name}]\nsha256 = [{digests}]\n{more}\n"


def open_access(clock: Clock | None = None, **settings: object) -> Access:
    return Access(Settings(**settings), Metrics(), clock=clock or Clock())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "keys.toml"
    path.write_text(table("shop", KEY))
    return path


def test_owners_differ_by_key_and_do_not_contain_it() -> None:
    access = open_access(api_keys=f"{KEY},{OTHER}")
    first, second = access.find_holder(KEY.encode()), access.find_holder(OTHER.encode())
    assert first.owner != second.owner and len(first.owner) == len(second.owner) == 32
    assert KEY not in first.owner and first == open_access(api_keys=KEY).find_holder(KEY.encode())
    assert (first.name, second.name) == ("key-1", "key-2")


@pytest.mark.parametrize(
    "candidate",
    [None, b"", b" ", b"alpha-key-123", b"ALPHA-KEY-1234", b"\xe9\xff\0", b"k" * 10**6],
)
def test_wrong_key_has_no_holder(file, candidate: bytes | None) -> None:
    assert open_access(api_keys=KEY).find_holder(candidate) is None
    assert open_access(keys_file=file).find_holder(candidate) is None


def test_without_keys_everybody_is_anonymous() -> None:
    for candidate in (None, b"whatever"):
        assert open_access().find_holder(candidate).owner == ANONYMOUS


def test_key_over_the_size_limit_is_refused_even_when_it_is_set() -> None:
    long = "k" * (MAX_KEY_BYTES + 1)
    assert open_access(api_keys=long).find_holder(long.encode()) is None


def test_key_of_the_file_has_its_name_scopes_and_owner(file) -> None:
    file.write_text(table("shop", KEY, OTHER, more='scopes = ["image"]'))
    access = open_access(keys_file=file)
    holder = access.find_holder(KEY.encode())
    assert holder.name == "shop" and holder.scopes == {"image"}
    assert access.find_holder(OTHER.encode()) == holder, "keys of one name are one owner"
    access.check(holder, "image", "megapixels")
    with pytest.raises(Forbidden, match="video"):
        access.check(holder, "video", None)


def test_file_is_read_again_without_a_restart(file, caplog) -> None:
    clock = Clock()
    access = open_access(clock, keys_file=file)
    assert access.find_holder(OTHER.encode()) is None
    file.write_text(table("other-shop", OTHER))
    clock.now_s += LOOK_S
    assert access.find_holder(OTHER.encode()).name == "other-shop"
    assert access.find_holder(KEY.encode()) is None, "revoked"
    file.write_text("[broken")
    clock.now_s += LOOK_S
    assert access.find_holder(OTHER.encode()) is not None and "stay as they were" in caplog.text
    file.unlink()
    clock.now_s += LOOK_S
    assert access.find_holder(OTHER.encode()) is not None


def test_emptied_file_opens_the_service_to_nobody(file) -> None:
    clock = Clock()
    access = open_access(clock, keys_file=file)
    file.write_text("")
    clock.now_s += LOOK_S
    assert access.find_holder(KEY.encode()) is None and access.find_holder(None) is None


@pytest.mark.parametrize(
    "text, told",
    [
        ("[a", "keys.toml"),
        ("a = 1", "a"),
        ("[a]\n", "a.sha256"),
        ('[a]\nsha256 = ["short"]', "a.sha256.0"),
        (table("a", KEY, more='scopes = ["imag"]'), "a.scopes.0"),
        (table("a", KEY, more="megapixels_per_minute = 0"), "a.megapixels_per_minute"),
        (table("a", KEY, more="megapixel_per_minute = 5"), "a.megapixel_per_minute"),
        (table('"two words"', KEY), "two words"),
    ],
)
def test_bad_file_is_refused_and_the_place_is_named(tmp_path, text: str, told: str) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(text)
    with pytest.raises(SettingsError) as caught:
        open_access(keys_file=path)
    assert told in str(caught.value)


def test_missing_file_is_refused(tmp_path) -> None:
    with pytest.raises(SettingsError, match="none"):
        open_access(keys_file=tmp_path / "none.toml")


def test_quota_comes_back_evenly(file) -> None:
    file.write_text(table("shop", KEY, more="megapixels_per_minute = 60"))
    clock = Clock()
    access = open_access(clock, keys_file=file)
    holder = access.find_holder(KEY.encode())
    access.check(holder, "image", "megapixels")
    access.charge(holder.owner, "megapixels", 80)  # what began may end
    with pytest.raises(QuotaExceeded) as caught:
        access.check(holder, "image", "megapixels")
    assert caught.value.limit == 60 and caught.value.headers["Retry-After"] == "21"
    assert dict(access.describe(holder)) == {
        b"ratelimit-policy": b'"megapixels";q=60;w=60',
        b"ratelimit": b'"megapixels";r=0;t=80',
    }
    clock.now_s += 21
    access.check(holder, "image", "megapixels")
    access.check(holder, "image", None)
    clock.now_s += 1000
    assert dict(access.describe(holder))[b"ratelimit"] == b'"megapixels";r=60;t=0'


def test_use_is_counted_by_name(file) -> None:
    metrics = Metrics()
    access = Access(Settings(keys_file=file), metrics)
    access.charge(access.find_holder(KEY.encode()).owner, "video-seconds", 2.5)
    access.charge(ANONYMOUS, "megapixels", 1)
    read = metrics.registry.get_sample_value
    labels = {"key": "shop", "unit": "video-seconds"}
    assert read("matting_key_use_total", labels) == 2.5
    assert read("matting_key_use_total", {"key": ANONYMOUS, "unit": "megapixels"}) == 1


def test_new_key_is_good_for_its_table(tmp_path) -> None:
    text = make_key("shop")
    (key,) = [line.rsplit(" ", 1)[1] for line in text.splitlines() if line.startswith("#")]
    path = tmp_path / "keys.toml"
    path.write_text(text)
    assert len(key) >= 43 and key not in text.split("\n", 1)[1]
    assert open_access(keys_file=path).find_holder(key.encode()).name == "shop"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "matting.example"])
def test_address_that_others_reach_needs_keys_or_a_decision(file, host: str) -> None:
    with pytest.raises(SettingsError, match="MATTING_ALLOW_ANONYMOUS=1"):
        check_exposure(Settings(host=host))
    for more in ({"api_keys": KEY}, {"keys_file": file}, {"allow_anonymous": True}):
        check_exposure(Settings(host=host, **more))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.8.8.8"])
def test_loopback_needs_no_keys(host: str) -> None:
    check_exposure(Settings(host=host))


def test_file_on_a_new_inode_is_seen(file) -> None:
    """Secrets of Kubernetes are replaced by renaming."""
    clock = Clock()
    access = open_access(clock, keys_file=file)
    new = file.with_suffix(".new")
    new.write_text(table("shop", OTHER)[:-1].ljust(len(file.read_text()) - 1) + "\n")
    before = file.stat()
    os.utime(new, ns=(before.st_atime_ns, before.st_mtime_ns))
    new.rename(file)
    clock.now_s += LOOK_S
    assert access.find_holder(OTHER.encode()) is not None
