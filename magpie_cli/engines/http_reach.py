"""The first connection to one of a host's addresses (RFC 8305).

asyncio's own race leaves a socket open where it is cancelled as that connects (CPython 3.11), and a
server that is left does not hear of it.
"""

import asyncio
import socket
import ssl
from ipaddress import ip_address

from magpie_cli.engines.http_connection import Connection

SECOND_ADDRESS = 0.25  # seconds, until the next address is tried too


async def reach(host: str, port: int, tls: ssl.SSLContext | None) -> Connection:
    """At the first address that takes it; the next is tried where one fails. Raises OSError."""
    addresses = await _addresses(host, port)
    if len(addresses) == 1:
        return await _reach_at(addresses[0], host, port, tls)
    made: list[Connection] = []
    errors: list[OSError] = []
    trying: set[asyncio.Task[None]] = set()

    async def attempt(address: str) -> None:
        try:
            made.append(await _reach_at(address, host, port, tls))
        except OSError as error:
            errors.append(error)

    try:
        while not made and (addresses or trying):
            if addresses:
                trying.add(asyncio.create_task(attempt(addresses.pop(0))))
            patience = SECOND_ADDRESS if addresses else None
            _, trying = await asyncio.wait(
                trying, timeout=patience, return_when=asyncio.FIRST_COMPLETED
            )
        if not made:
            raise errors[0]
        return made.pop()
    finally:
        for task in trying:
            task.cancel()
        for connection in made:
            connection.abort()


async def _reach_at(address: str, host: str, port: int, tls: ssl.SSLContext | None) -> Connection:
    loop, name = asyncio.get_running_loop(), host if tls else None
    made = await loop.create_connection(Connection, address, port, ssl=tls, server_hostname=name)
    return made[1]


async def _addresses(host: str, port: int) -> list[str]:
    """Of a name; an address has itself alone."""
    try:
        return [str(ip_address(host))]
    except ValueError:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return list(dict.fromkeys(str(address[0]) for *_, address in found))
