"""Who is let in: the key, the host's own names, no other page."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/key/", {}, 200),
        ("/key/state", {"Host": "localhost:8000"}, 200),
        ("/key/state", {"Origin": "http://127.0.0.1:8000"}, 200),
        ("/key/state", {"Sec-Fetch-Site": "same-origin"}, 200),
        ("/key/", {"Sec-Fetch-Site": "none"}, 200),
        ("/", {}, 404),
        ("/state", {}, 404),
        ("/ke/state", {}, 404),
        ("/key2/state", {}, 404),
        ("/docs", {}, 404),
        ("/key/docs", {}, 404),
        ("/key/openapi.json", {}, 404),
        ("/key/state", {"Host": "127.0.0.1"}, 403),
        ("/key/state", {"Host": "127.0.0.1:8001"}, 403),
        ("/key/state", {"Host": "evil.example:8000"}, 403),
        ("/key/state", {"Host": "127.0.0.1:8000.evil.example"}, 403),
        ("/key/state", {"Host": "x.googleusercontent.com"}, 403),
        ("/key/state", {"Origin": "http://evil.example"}, 403),
        ("/key/state", {"Origin": "http://127.0.0.1:8001"}, 403),
        ("/key/state", {"Origin": "null"}, 403),
        ("/key/state", {"Origin": "http://["}, 403),
        ("/key/", {"Sec-Fetch-Site": "cross-site"}, 403),
    ],
)
def test_who_is_let_in(page: Any, path: str, headers: dict[str, str], status: int) -> None:
    answer = page.client.get(f"http://127.0.0.1:8000{path}", headers=headers)
    assert answer.status_code == status
    assert "key" not in answer.headers.get("location", "")


@pytest.mark.parametrize(("method", "path"), [("POST", "drops"), ("PUT", "drops/1/files/0"), ("DELETE", "scans")])
def test_another_page_changes_nothing(page: Any, method: str, path: str) -> None:
    answer = page.client.request(method, path, headers={"Origin": "https://evil.example"}, json={"files": [["a", 1]]})
    assert answer.status_code == 403
    assert page.client.get("state").json()["drops"] == []


def test_pages_stay_private(page: Any) -> None:
    headers = page.client.get("").headers
    assert headers["cache-control"] == "no-store"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-frame-options"] == "DENY"
    assert headers["x-content-type-options"] == "nosniff"
    assert "http" not in page.client.get("").text.replace("http-equiv", "")
