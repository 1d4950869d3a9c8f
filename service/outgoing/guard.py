"""Which addresses the service may call: no address that only the service can reach (SSRF)."""

import asyncio
import ipaddress
import socket
from collections.abc import Collection, Iterable
from functools import partial
from urllib.parse import SplitResult, urlsplit

import anyio
import httpcore

from service.errors import InvalidOption
from service.threads import Workers

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
SCHEMES = ("https", "http")
MAX_URL_CHARS = 4096
LOOKUPS = 16  # of hosts, at once
# IPv6 addresses that stand for an IPv4 address in their last four bytes: NAT64 (RFC 6052); in those
# of RFC 8215 it may stand anywhere.
_NAT64, _LOCAL_NAT64 = (ipaddress.ip_network(name) for name in ("64:ff9b::/96", "64:ff9b:1::/48"))


def parse_url(name: str, text: str) -> SplitResult:
    """Return the parts of a URL that a client gave as `name`; raises InvalidOption."""
    try:
        url = urlsplit(text)
        host, _ = url.hostname, url.port
    except ValueError as error:
        raise InvalidOption(f"{name} is no URL: {error}") from None
    if url.scheme not in SCHEMES or not host:
        raise InvalidOption(f"{name} must be a URL that begins with https:// or http://")
    if len(text) > MAX_URL_CHARS or not text.isascii() or not text.isprintable() or " " in text:
        raise InvalidOption(
            f"{name} has other characters than a URL may have, or over {MAX_URL_CHARS}",
            hint="percent-encode it",
        )
    if url.username is not None or url.password is not None:
        raise InvalidOption(f"{name} holds a name or password", hint="use a signed URL")
    return url


def hide_query(text: str) -> str:
    """Return a URL without what may be a secret in it."""
    url = urlsplit(text)
    return f"{url.scheme}://{url.netloc}{url.path}" + ("?…" if url.query else "")


def is_public(address: Address) -> bool:
    """Say whether an address is one of the public internet, in every form it may be written in."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inner = ipaddress.IPv4Address(address.packed[-4:])
        if inner is not None:
            return is_public(inner)
        if address.teredo is not None or address.is_site_local or address in _LOCAL_NAT64:
            return False
    return address.is_global and not (
        address.is_multicast
        or address.is_private
        or address.is_reserved
        or address.is_loopback
        or address.is_link_local
        or address.is_unspecified
    )


def is_allowed(address: Address, allowed: Collection[Network]) -> bool:
    """Say whether the service may call an address; `allowed` are networks of the operator's own."""
    mapped = getattr(address, "ipv4_mapped", None) or address
    return is_public(address) or any(mapped in network for network in allowed)


class Resolver:
    """Looks up hosts, in threads of its own: a name server that does not answer holds up no others.

    `allowed` are networks of the operator's own; `timeout_s` bounds each look-up.
    """

    def __init__(self, allowed: Collection[Network], timeout_s: float) -> None:
        self._allowed = allowed
        self._timeout_s = timeout_s
        self._workers = Workers(LOOKUPS, "resolver")

    async def resolve(self, host: str, port: int) -> list[str]:
        """Return the addresses of a host, all of which may be called; raises InvalidOption."""
        kind = {"type": socket.SOCK_STREAM, "proto": socket.IPPROTO_TCP}
        try:
            async with asyncio.timeout(self._timeout_s):
                look_up = partial(socket.getaddrinfo, host, port, **kind)
                found = await self._workers.run(look_up)
        except TimeoutError:
            raise InvalidOption(
                f"the address of {host[:128]} was not found within {self._timeout_s:g} s",
                hint="try again later",
            ) from None
        except (OSError, UnicodeError):
            raise InvalidOption(f"there is no host {host[:128]}") from None
        addresses = list(dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found))
        for address in addresses:
            if not is_allowed(ipaddress.ip_address(address), self._allowed):
                raise InvalidOption(
                    f"{host[:128]} is not an address of the public internet",
                    hint="the operator can allow its network: MATTING_OUTGOING_ALLOW",
                )
        return addresses

    def close(self) -> None:
        self._workers.close()


class GuardedBackend(httpcore.AsyncNetworkBackend):
    """Connects to the addresses that were checked, and to no other: the name is resolved once.

    Redirects come here too, as they need connections of their own.
    """

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._backend = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        for address in (addresses := await self._resolver.resolve(host, port)):
            try:
                return await self._backend.connect_tcp(
                    address, port, timeout, local_address, socket_options
                )
            except httpcore.ConnectError:
                if address == addresses[-1]:
                    raise
        raise AssertionError("a host has an address")

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        raise InvalidOption("only https:// and http:// can be called")

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)
