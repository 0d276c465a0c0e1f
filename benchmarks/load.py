"""A minimal HTTP client to load an API: prepared requests over persistent connections."""

import asyncio
import time
from collections.abc import Iterator
from urllib.parse import urlsplit


async def post(url: str, requests: Iterator[tuple[str, bytes]], *, connections: int) -> list[float]:
    """Post each request, an API key and a JSON body, over `connections` connections with one request at a time each.
    Return the seconds that each request took.

    Raises:
        RuntimeError: an answer is not 202.
    """
    parts = urlsplit(url)
    head = (
        f"POST {parts.path} HTTP/1.1\r\nhost: {parts.netloc}\r\ncontent-type: application/json\r\n"
        "authorization: Bearer "
    ).encode()
    took: list[float] = []

    async def one() -> None:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        for key, body in requests:
            started = time.monotonic()
            writer.write(b"%b%b\r\ncontent-length: %d\r\n\r\n%b" % (head, key.encode(), len(body), body))
            answer = await reader.readuntil(b"\r\n\r\n")
            if b" 202 " not in answer.split(b"\r\n", 1)[0]:
                raise RuntimeError(answer.decode())
            length = int(answer.lower().split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
            await reader.readexactly(length)
            took.append(time.monotonic() - started)
        writer.close()

    await asyncio.gather(*(one() for _ in range(connections)))
    return took
