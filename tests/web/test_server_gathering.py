"""Where a request ends, whatever pieces it comes in; and that gunicorn's parser sees the same end."""

import contextlib

import pytest
from gunicorn import http
from gunicorn.config import Config
from gunicorn.http.errors import ParseException
from hypothesis import given
from hypothesis import strategies as st

from provisioner.web.server.gathering import LONGEST_HEAD, Gathering, Stage
from provisioner.web.server.streams import Source

LONGEST = 1000
LINES = st.sampled_from([b"Host: x", b"X-Long: " + b"y" * 300, b"Accept: */*", b"Expect: 100-continue", b"If-Match: x"])
BODIES = st.binary(max_size=LONGEST)
PIECES = [
    b"GET / HTTP/1.1",
    b"\r\n",
    b"\n",
    b"\r",
    b"Content-Length: 3",
    b"Content-Length: x",
    b"abc",
    b"0",
    b":",
    b" ",
]
PIECES += [b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip", b"3\r\nabc\r\n", b"\r\n\r\n", b"-1"]


@st.composite
def requests(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A request, and the body that it means."""
    lines = draw(st.lists(LINES, max_size=4, unique=True))
    body = draw(BODIES)
    if not draw(st.booleans()):
        framed = body
        lines += [
            draw(st.sampled_from([b"Content-Length: %d", b"content-length:%d", b"Content-Length:\t %d "])) % len(body)
        ]
    else:
        cuts = sorted(draw(st.lists(st.integers(0, len(body)), max_size=3)))
        pieces = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]
        extension = draw(st.sampled_from([b"", b";a=b", b' ; a="c;d"']))
        framed = b"".join(b"%x%s\r\n%s\r\n" % (len(each), extension, each) for each in pieces if each)
        framed += b"0\r\n" + draw(st.sampled_from([b"", b"X-Sum: 1\r\n"])) + b"\r\n"
        lines += [b"Transfer-Encoding: chunked"]
        if len(framed) > LONGEST:
            body, framed, lines = b"", b"", [b"Content-Length: 0"]
    return b"POST /x HTTP/1.1\r\n" + b"\r\n".join(lines) + b"\r\n\r\n" + framed, body


def parsed(data: bytes) -> tuple[bytes, bytes]:
    """The body as gunicorn reads it, and what it leaves over."""
    source = Source(data, None)
    parser = http.get_parser(Config(), source, ("127.0.0.1", 1))
    body = next(parser).body.read()
    return body, parser.unreader.take_buffered()


@given(st.lists(requests(), min_size=1, max_size=4), st.lists(st.integers(1, 600), min_size=1, max_size=40))
def test_requests_come_out_whole_however_they_were_cut(sent: list[tuple[bytes, bytes]], sizes: list[int]) -> None:
    data = b"".join(text for text, _ in sent)
    gathering, found, at, number = Gathering(LONGEST), [], 0, 0
    while at < len(data):
        size = sizes[number % len(sizes)]
        stage = gathering.feed(data[at : at + size])
        at, number = at + size, number + 1
        while stage is Stage.WHOLE:
            found.append(gathering.take())
            stage = gathering.look()
        assert stage in {Stage.NOTHING, Stage.HEAD, Stage.BODY}
    assert stage is Stage.NOTHING
    assert [each.data for each in found] == [text for text, _ in sent]
    for each, (_, body) in zip(found, sent, strict=True):
        assert parsed(each.data) == (body, b"")


@given(st.binary(max_size=3000), st.integers(1, 500))
def test_whatever_comes_never_fails_and_never_waits_for_more_than_its_limits(data: bytes, size: int) -> None:
    gathering = Gathering(LONGEST)
    for at in range(0, len(data), size):
        stage = gathering.feed(data[at : at + size])
        if stage in {Stage.WHOLE, Stage.LARGE}:
            gathering.take()
        assert stage is not Stage.TOO_LONG
    assert len(gathering) <= LONGEST_HEAD + LONGEST + size


@given(st.lists(st.sampled_from(PIECES), max_size=20))
def test_what_is_whole_to_us_is_never_waited_for_by_the_parser(pieces: list[bytes]) -> None:
    """It is answered or refused; a thread that waits could wait for ever."""
    gathering = Gathering(LONGEST)
    if gathering.feed(b"".join(pieces)) is not Stage.WHOLE:
        return
    with contextlib.suppress(ParseException, OSError, StopIteration):
        parsed(gathering.take().data)


@pytest.mark.parametrize(
    ("data", "stage"),
    [
        (b"", Stage.NOTHING),
        (b"GET / HTTP/1.1\r\nHost: x\r\n", Stage.HEAD),
        (b"GET / HTTP/1.1\nHost: x\n\n", Stage.WHOLE),
        (b"GET /" + b"a" * LONGEST_HEAD, Stage.TOO_LONG),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * LONGEST_HEAD + b"\r\n\r\n", Stage.TOO_LONG),
        (b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nab", Stage.BODY),
        (b"POST / HTTP/1.1\r\nContent-Length: 1001\r\n\r\nab", Stage.LARGE),
        (b"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\nab", Stage.WHOLE),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab", Stage.BODY),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n", Stage.WHOLE),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1;" + b"x" * 2000, Stage.WHOLE),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", Stage.WHOLE),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", Stage.WHOLE),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip, Chunked\r\n\r\n", Stage.BODY),
    ],
)
def test_stages(data: bytes, stage: Stage) -> None:
    assert Gathering(LONGEST).feed(data) is stage
