"""Does an application that stores files through PyPI's client find them again?"""

from __future__ import annotations

import httpx
from convex import ConvexClient
from run import Stage


def cycle(stage: Stage) -> None:
    client = ConvexClient(stage.url)
    url = client.mutation("files:generateUploadUrl", {})
    answer = httpx.post(url, content=b"from Python", headers={"content-type": "text/plain"})
    id = answer.raise_for_status().json()["storageId"]
    address = client.query("files:getUrl", {"id": id})
    assert httpx.get(address).content == b"from Python"
    row = client.query("files:metadata", {"id": id})
    assert (row["size"], row["contentType"]) == (11.0, "text/plain")
    loaded = client.action("files:load", {"id": id})
    assert loaded == {"data": b"from Python", "contentType": "text/plain", "size": 11.0}
    client.mutation("files:remove", {"id": id})
    assert client.query("files:getUrl", {"id": id}) is None
    assert client.query("files:metadata", {"id": id}) is None
    assert httpx.get(address).status_code == 404
