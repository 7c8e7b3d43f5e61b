"""Bodies, fields, depths and pages beyond their limits, and what is no JSON: each its 4xx (S36, S73)."""

import json

import pytest
from asking import Api, path_of, table

BODIES: list[tuple[bytes, str]] = [
    (b"", "empty"),
    (b"null", "null"),
    (b"[]", "a list"),
    (b'"text"', "a text"),
    (b"{", "broken"),
    (b'{"name": "a", "name": "b"}', "a key twice"),
    (b'{"name": "a", "parameters": {"x": NaN}}', "NaN"),
    (b'{"name": "a", "parameters": {"x": 1e400}}', "1e400"),
    (b'{"name": "a", "parameters": {"x": ' + b"9" * 5000 + b"}}", "a number of 5000 digits"),
    (b'{"name": "a", "parameters": {"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}", "deep"),
    (b'{"name": "a", "parameters": {"x": ' + b"[" * 200 + b"]" * 200 + b"}}", "rather deep"),
    (b'{"name": "a", "description": "\\u0000"}', "NUL"),
    (b'{"name": "a", "description": "\\ud800"}', "a lone surrogate"),
    (b'{"name": "\xff\xfe"}', "not UTF-8"),
    (b'{"name": "' + b"a" * 2_000_000 + b'"}', "two megabytes"),
]


@pytest.mark.parametrize("raw", [raw for raw, _ in BODIES], ids=[name for _, name in BODIES])
def test_s36_s73_bodies_that_are_no_good(api: Api, raw: bytes) -> None:
    for path in ("/machines", "/profiles", "/subnets", "/templates", "/machines:plan"):
        answer = api.ask("POST", path, raw=raw)
        assert 400 <= answer.status < 500, (path, answer.status)
        assert answer.json()["code"]
    assert api.ask("GET", "/machines").json()["items"] == []


def test_s73_other_content_types_are_415(api: Api) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
        answer = api.ask("POST", "/machines", raw=b"{}", headers={"Content-Type": kind})
        assert answer.status == 415, kind


def test_s73_pages_and_cursors(api: Api) -> None:
    for noun in ("machines", "profiles", "builds", "users", "history"):
        for query in (
            "limit=0",
            "limit=501",
            "limit=-1",
            "limit=x",
            "limit=1e2",
            "limit=1&limit=2",
            "cursor=%00",
            "cursor=nonsense",
            "cursor=" + "a" * 1001,
            "unknown=1",
            "limit=",
        ):
            answer = api.ask("GET", f"/{noun}?{query}")
            assert answer.status == 400, (noun, query, answer.status)


def test_s37_metacharacters_are_literal(api: Api) -> None:
    api.ask("POST", "/machines", {"name": "web01", "interfaces": [{"mac": "52:54:00:12:34:56"}], "serial": "a_b"})
    for text in ("%", "%%%", "'; DROP TABLE machine; --", '"', "\\", "a%b", "axb", "*", '" OR "1"="1'):
        found = api.ask("GET", "/machines", headers=None, role="admin").status
        assert found == 200
        answer = api.client.get(
            "/api/v1/machines", query_string={"q": text}, headers={"Authorization": f"Bearer {api.bearer()}"}
        )
        assert answer.status_code == 200, text
        assert json.loads(answer.get_data())["items"] == [], text


def test_no_answer_shows_a_traceback_and_every_error_is_a_problem(api: Api) -> None:
    """S19: whatever nonsense an operation is asked with, the answer is ours."""
    for operation in table():
        for raw in (b"{}", b'{"name": 1}', b"[[]]"):
            answer = api.ask(operation.method, path_of(operation), raw=raw if operation.body else None, match='"1.1"')
            assert answer.status < 500, (operation.id, answer.text())
            assert "Traceback" not in answer.text()
            if answer.status >= 400:
                assert answer.response.content_type == "application/problem+json"
