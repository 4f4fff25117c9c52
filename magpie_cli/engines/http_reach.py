"""A connection to the first of a host's addresses that takes it (RFC 8305).

asyncio's own race leaves a socket open where it is cancelled as that connects (CPython 3.11), and a
server that is left does not hear of it; aiohttp's closes it.
"""

import asyncio
import socket
import ssl

from aiohappyeyeballs import start_connection

from magpie_cli.engines.http_connection import Connection

SECOND_ADDRESS = 0.25  # seconds, until the next address is tried too


async def reach(host: str, port: int, tls: ssl.SSLContext | None) -> Connection:
    """At the first address that takes it; the next is tried where one fails. Raises OSError."""
    loop = asyncio.get_running_loop()
    addresses = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    opened = await start_connection(addresses, happy_eyeballs_delay=SECOND_ADDRESS)
    name = host if tls else None
    made = await loop.create_connection(Connection, sock=opened, ssl=tls, server_hostname=name)
    return made[1]
