"""How does the outside reach a database: which sockets, which routes, which processes?

`asgi` builds the application, `serve` runs it under uvicorn; `websocket` is the transport of sync sessions,
`http_api` the function calls over plain HTTP. What a request means is decided below, in `app` and `sync`.
"""
