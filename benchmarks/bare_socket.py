"""What can a WebSocket server do that does nothing else?

Echoes every message; `broadcast N` sends the same N bytes to every connection, with `websockets`' own
broadcast. Run as a process of its own: `python -m benchmarks.bare_socket`.
"""

from __future__ import annotations

import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosedError


async def main() -> None:
    connections: set[ServerConnection] = set()

    async def handle(connection: ServerConnection) -> None:
        connections.add(connection)
        try:
            async for message in connection:
                if isinstance(message, str) and message.startswith("broadcast "):
                    broadcast(connections, "x" * int(message.split()[1]))
                else:
                    await connection.send(message)
        except ConnectionClosedError:
            pass  # Peers here leave without a word.
        finally:
            connections.discard(connection)

    async with serve(handle, "127.0.0.1", 0, compression=None) as server:
        host, port = server.sockets[0].getsockname()[:2]
        print(f"bare: serving http://{host}:{port}", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
