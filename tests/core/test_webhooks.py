"""Webhooks: names of events, back-off, signature, and where nothing is sent to (S60)."""

import hashlib
import hmac
import ipaddress
import socket
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.core import webhooks
from provisioner.core.webhooks import (
    BACKOFF,
    EVENTS,
    TRIES,
    BuildEvent,
    build_events,
    check_events,
    delivery_uid,
    inert,
    is_allowed,
    literal_refusal,
    networks,
    next_try,
    parse_url,
    refusal,
    signature,
    wants,
)
from provisioner.errors import InvalidInput

AT = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "gopher://10.0.2.11/x",
        "ftp://10.0.2.11/x",
        "//10.0.2.11/x",
        "10.0.2.11",
        "",
        "http://",
        "http:///x",
        "http://user@10.0.2.11/",
        "http://user:pass@10.0.2.11/",
        "http://@10.0.2.11/",
        "http://10.0.2.11\r\nX: y/",
        "http://10.0.2.11/\nx",
        "http://10.0.2.11/ x",
        "http://10.0.2.11\\@evil.example/",
        "http://10.0.2.11/#x",
        "http://10.0.2.11:0/",
        "http://10.0.2.11:99999/",
        "http://10.0.2.11:x/",
        "http://bücher.example/",
        "http://[fe80::1%25eth0]/",
        "http://[::1/",
        "http://[v1.x]/",
        "http://a..b/",
        "http://-a/",
        "http://a%2eb/",
        "http://a/" + "x" * 1024,
        None,
        7,
        # inet_aton(3)'s spellings of 127.0.0.1, and others that end in a number
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0x7f.0.0.1/",
        "http://0177.0.0.1/",
        "http://017700000001/",
        "http://127.1/",
        "http://127.0.1/",
        "http://127.0.0.1.1/",
        "http://10.0.2.0xb/",
        "http://010.0.2.11/",
        "http://host.1/",
    ],
)
def test_s60_urls_that_are_refused_at_input(url: object) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_url(url)
    assert refused.value.where == "url"
    assert refused.value.hint


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://Chat.Example.com/hook?a=b%20c", ("https", "chat.example.com", 443, "/hook?a=b%20c")),
        ("HTTP://10.0.2.11", ("http", "10.0.2.11", 80, "/")),
        ("http://10.0.2.11:8080/", ("http", "10.0.2.11", 8080, "/")),
        ("http://[FD00::0001]:81/x", ("http", "fd00::1", 81, "/x")),
        ("http://host.example./x", ("http", "host.example", 80, "/x")),
        ("http://4chat/x", ("http", "4chat", 80, "/x")),
    ],
)
def test_urls_that_are_taken(url: str, expected: tuple[str, str, int, str]) -> None:
    found = parse_url(url)
    assert (found.scheme, found.host, found.port, found.path) == expected


def test_the_host_header_names_the_port_unless_it_is_the_usual_one() -> None:
    assert parse_url("http://[fd00::1]:81/").authority == "[fd00::1]:81"
    assert parse_url("https://chat.example:443/").authority == "chat.example"


REFUSED = [
    "127.0.0.1",
    "127.255.255.254",
    "0.0.0.0",
    "0.1.2.3",
    "169.254.169.254",
    "169.254.0.1",
    "224.0.0.1",
    "239.255.255.250",
    "255.255.255.255",
    "240.0.0.1",
    "192.0.0.192",
    "100.100.100.200",
    "::1",
    "::",
    "fe80::1",
    "febf::1",
    "fec0::1",
    "ff02::1",
    "fd00:ec2::254",
    # IPv4 inside IPv6: mapped, compatible, 6to4, NAT64 (both prefixes), Teredo's server and client, ISATAP
    "::ffff:127.0.0.1",
    "::ffff:a9fe:a9fe",
    "::7f00:1",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
    "64:ff9b::7f00:1",
    "64:ff9b::169.254.169.254",
    "64:ff9b:1::127.0.0.1",
    "2001:0:7f00:1::",
    "2001:0:808:808:0:0:80ff:fffe",
    "fd00::5efe:127.0.0.1",
    "fd00::200:5efe:7f00:1",
    # a zone, and no address at all
    "fe80::1%eth0",
    "fd00::1%1",
    "chat.example",
    "",
]


@pytest.mark.parametrize("address", REFUSED)
def test_s60_addresses_that_are_refused(address: str) -> None:
    assert refusal(address)


@pytest.mark.parametrize(
    "address",
    ["10.0.2.11", "172.16.0.1", "192.168.1.1", "8.8.8.8", "fd00::1", "2600::1", "::ffff:10.0.2.11", "2002:808:808::1"],
)
def test_private_and_public_addresses_are_allowed(address: str) -> None:
    assert refusal(address) == ""


@given(st.ip_addresses(v=4))
def test_s60_mapping_an_address_changes_nothing(address: ipaddress.IPv4Address) -> None:
    number = int(address)
    plain = refusal(str(address))
    assert refusal(f"::ffff:{address}") == plain
    for held in (ipaddress.IPv6Address(0x2002 << 112 | number << 80), ipaddress.IPv6Address((0x64FF9B << 96) | number)):
        assert refusal(str(held)) == plain


@given(st.ip_addresses())
def test_s60_what_python_calls_loopback_or_worse_is_refused(address: ipaddress.IPv4Address) -> None:
    if address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified:
        assert refusal(str(address))


def test_the_setting_allows_a_network_and_no_more() -> None:
    allowed = networks(["127.0.0.0/8", "fe80::/10"])
    assert refusal("127.0.0.1", allowed) == ""
    assert refusal("::ffff:127.0.0.1", allowed) == ""
    assert refusal("2002:7f00:1::", allowed) == ""
    assert refusal("fe80::1", allowed) == ""
    for other in ("169.254.169.254", "::1", "0.0.0.0"):
        assert refusal(other, allowed)
    assert is_allowed("127.0.0.1", allowed)
    assert is_allowed("::ffff:127.0.0.1", allowed)
    assert not is_allowed("10.0.2.1", allowed)


@pytest.mark.parametrize("host", ["localhost", "x.localhost", "127.0.0.1", "::1", "169.254.169.254"])
def test_s60_a_host_is_refused_by_its_spelling(host: str) -> None:
    assert literal_refusal(host)
    assert literal_refusal(host, networks(["127.0.0.0/8", "::1/128", "169.254.0.0/16"])) == ""


@pytest.mark.parametrize("host", ["chat.example", "localhost.example", "10.0.2.11"])
def test_other_hosts_are_asked_about_when_connecting(host: str) -> None:
    assert literal_refusal(host) == ""


@given(st.integers(0, 2**32 - 1), st.sampled_from(["{}", "{:#x}", "0{:o}"]))
def test_s60_no_spelling_that_the_resolver_reads_as_a_number_passes(number: int, spelling: str) -> None:
    text = spelling.format(number)
    try:
        socket.inet_aton(text)
    except OSError:
        return
    with pytest.raises(InvalidInput):
        parse_url(f"http://{text}/")


def test_the_signature_is_what_the_documentation_says() -> None:
    expected = hmac.new(b"key", b'1700000000.{"a":1}', hashlib.sha256).hexdigest()
    assert signature("key", "1700000000", b'{"a":1}') == f"sha256={expected}"


def test_back_off_as_promised_then_given_up() -> None:
    waits = [next_try(tries, AT, 0.5) for tries in range(1, TRIES)]
    assert [each - AT for each in waits if each] == list(BACKOFF)
    assert [each.total_seconds() for each in BACKOFF] == [10, 30, 120, 600, 3600, 21600, 86400]
    assert TRIES == 8
    assert next_try(8, AT, 0.5) is None


@given(st.integers(1, TRIES - 1), st.floats(0, 1, exclude_max=True))
def test_jitter_stays_within_a_tenth(tries: int, draw: float) -> None:
    due = next_try(tries, AT, draw)
    assert due is not None
    assert BACKOFF[tries - 1] * 0.9 <= due - AT <= BACKOFF[tries - 1] * 1.1 + timedelta(microseconds=1)


def test_events_are_checked_and_chosen() -> None:
    assert check_events(["machine.*", "build.failed", "build.failed"]) == ["build.failed", "machine.*"]
    assert check_events([]) == []
    for wrong in (["build.fail"], ["*"], ["ping"], "build.failed", [7], ["build.failed"] * 65, None):
        with pytest.raises(InvalidInput):
            check_events(wrong)
    with pytest.raises(InvalidInput) as refused:
        check_events(["build.faild"])
    assert "did you mean build.failed?" in refused.value.hint
    assert wants([], "build.failed")
    assert wants(["build.*"], "build.failed")
    assert wants(["build.failed"], "build.failed")
    assert not wants(["build.built", "machine.*"], "build.failed")
    assert wants(["build.built"], "ping")


@pytest.mark.parametrize(
    ("row", "events"),
    [
        (BuildEvent("armed"), ["build.armed"]),
        (BuildEvent("script", 1), ["build.booting"]),
        (BuildEvent("script", 1, repeated=True), []),
        (BuildEvent("answer", 1), ["build.installing"]),
        (BuildEvent("packages", 1), ["build.progress"]),
        (BuildEvent("built", 1, was_built=True), ["build.built"]),
        (BuildEvent("built", 1, was_built=True, repeated=True), []),
        (BuildEvent("failed", 1, state="failed"), ["build.failed"]),
        (BuildEvent("handoff-failed", 1, state="failed", was_built=True), ["build.failed"]),
        (BuildEvent("configured", 1, state="configured"), ["build.configured"]),
        (BuildEvent("cancelled"), ["build.cancelled"]),
        (BuildEvent("halt"), ["build.halted"]),
        (BuildEvent("continued"), ["build.continued"]),
        (BuildEvent("retry-handoff"), ["build.handoff-retried"]),
        (BuildEvent("flag", 1, flagged=True, message="x"), ["build.flagged"]),
        (
            BuildEvent("flag", 1, flagged=True, message="stolen", state="failed", outcome="stolen"),
            ["build.flagged", "build.failed"],
        ),
        (BuildEvent("dhcp"), []),
        (BuildEvent("loader"), []),
        (BuildEvent("secret", 1), []),
        (BuildEvent("refused-event", 1), []),
        # An installer may report any word.
        (BuildEvent("cancelled", 1), ["build.progress"]),
        (BuildEvent("armed", 1), ["build.progress"]),
        (BuildEvent("configured", 1, state="installing"), ["build.progress"]),
        (BuildEvent("built", 1), ["build.progress"]),
        (BuildEvent("failed", 1, state="configured"), ["build.progress"]),
        (BuildEvent("flag", 1), ["build.progress"]),
    ],
)
def test_what_rows_of_the_timeline_are_called(row: BuildEvent, events: list[str]) -> None:
    assert build_events(row) == events


@given(st.builds(BuildEvent, st.text(max_size=20), st.none() | st.integers(1, 3), st.booleans(), st.booleans()))
def test_only_documented_names_are_told(row: BuildEvent) -> None:
    assert set(build_events(row)) <= set(EVENTS)


@given(st.text(max_size=2000))
def test_s65_s61_texts_are_on_one_line_and_cut(text: str) -> None:
    shown = inert(text) or ""
    assert len(shown) <= 500
    assert shown.isprintable()


def test_s65_tokens_are_masked() -> None:
    token = "aB3_-" * 10 + "wxyz"
    assert len(token) == 54
    assert inert(f"curl: http://10.0.2.1/build/{token}/answer failed") == (
        "curl: http://10.0.2.1/build/********/answer failed"
    )
    bearer = "pvt_0123456789abcdef_" + "s" * 43
    assert "ssss" not in (inert(f"Bearer {bearer}.") or "")


def test_ids_follow_from_what_is_told() -> None:
    first = delivery_uid("1", "event 7", "build.built")
    assert first == delivery_uid("1", "event 7", "build.built")
    assert len(first) == 32
    others = {delivery_uid("2", "event 7", "build.built"), delivery_uid("1", "event 8", "build.built")}
    assert len(others | {first, delivery_uid("1", "event 7", "build.failed")}) == 4


def test_a_body_has_every_key() -> None:
    assert set(webhooks.body({"id": "x"})) == {
        "id", "event", "at", "machine", "build", "step", "message", "actor", "changed"
    }  # fmt: skip
