"""Addresses that the service may call, in every form that is known to slip through."""

import asyncio
import ipaddress
import socket

import pytest

from service.errors import InvalidOption
from service.outgoing.guard import Resolver, hide_query, is_allowed, is_public, parse_url


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "10.1.2.3",
        "100.64.0.1",
        "127.0.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "192.0.0.1",
        "192.168.1.1",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b:1::a00:1",
        "64:ff9b:1:7f00:0:100:101:101",
        "2002:7f00:1::",
        "2001:0:1:2:3:4:5:6",
        "fc00::1",
        "fe80::1",
        "fec0::1",
        "ff02::1",
    ],
)
def test_address_that_only_the_service_can_reach_is_refused(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "93.184.216.34", "2606:4700::1", "::ffff:1.1.1.1", "64:ff9b::101:101"]
)
def test_public_address_is_allowed(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


def test_operator_allows_networks_in_either_form() -> None:
    allowed = [ipaddress.ip_network("10.0.0.0/8")]
    assert is_allowed(ipaddress.ip_address("10.1.2.3"), allowed)
    assert is_allowed(ipaddress.ip_address("::ffff:10.1.2.3"), allowed)
    assert not is_allowed(ipaddress.ip_address("127.0.0.1"), allowed)


def resolve(host: str) -> list[str]:
    resolver = Resolver([], timeout_s=20)
    try:
        return asyncio.run(resolver.resolve(host, 80))
    finally:
        resolver.close()


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "2130706433", "0x7f.1", "0177.0.0.1", "::ffff:7f00:1", "0"]
)
def test_every_spelling_of_this_machine_is_refused(host: str) -> None:
    with pytest.raises(InvalidOption, match="not an address of the public internet"):
        resolve(host)


def test_host_with_one_address_of_the_inside_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(*arguments, **options):
        kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        return [(*kind, ("1.1.1.1", 80)), (*kind, ("192.168.0.1", 80))]

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    with pytest.raises(InvalidOption):
        resolve("both.example")


@pytest.mark.parametrize(
    "text",
    [
        "file:///etc/passwd",
        "ftp://example.com/",
        "gopher://example.com/",
        "//example.com/",
        "example.com",
        "http://",
        "http://user:secret@example.com/",
        "http://example.com/a b",
        "http://example.com/\r\nHost: x",
        "http://example.com:99999/",
        "http://[::1/",
        "http://exämple.com/",
        "https://example.com/" + "a" * 5000,
    ],
)
def test_what_is_no_url_to_call_is_refused(text: str) -> None:
    with pytest.raises(InvalidOption, match="^webhook "):
        parse_url("webhook", text)


def test_signature_of_a_url_is_not_shown() -> None:
    assert hide_query("https://a.example/b?X-Signature=1") == "https://a.example/b?…"
    assert hide_query("https://a.example/b") == "https://a.example/b"
