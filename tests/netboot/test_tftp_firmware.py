"""What firmware and loaders send, step by step, as captures show it (R05, R08, T10, T11)."""

import random
import threading
from dataclasses import replace

import pytest

from tests.netboot.tftp_client import (
    CALM,
    DATA,
    ERROR,
    OACK,
    Client,
    Packet,
    Running,
    fetch,
    from_dict,
    poll,
    request,
    running,
)

LOADER = random.Random(1).randbytes(200_000)
CONFIG = b"set timeout=0\nconfigfile /grub/by-mac/$net_default_mac\n"
FILES = {"boot.efi": LOADER, "grubx64.efi": LOADER[:150_001], "grub/grub.cfg": CONFIG, "empty": b""}
PROBE = {"tsize": 0, "blksize": 1468, "windowsize": 4}
SECOND = {"blksize": 1468, "windowsize": 4}


def quiet(tftp: Running, captured: pytest.CaptureFixture[str]) -> None:
    """Nothing is left over, and nothing alarming was logged."""
    poll(lambda: len(tftp.server) == 0)
    assert not {"transfer_errors", "request_errors", "loop_errors"} & set(tftp.server.counters)
    assert "warning" not in captured.readouterr().out


def take_rest(client: Client, first: Packet) -> bytes:
    client.ack(0)
    return client.rest(blksize=int(first.options["blksize"]), window=int(first.options.get("windowsize", 1)))


@pytest.mark.parametrize("number", range(5))
def test_r05_edk2_aborts_its_probe_and_asks_again_in_the_same_breath(
    number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """ERROR and second request are under way together: which the server sees first must not matter."""
    with running(from_dict(FILES)) as tftp, Client(tftp.address) as client:
        client.ask("boot.efi", PROBE)
        first = client.receive()
        assert first.options == {"tsize": "200000", "blksize": "1468", "windowsize": "4"}
        if number % 2:
            client.ask("boot.efi", SECOND)
            client.error(8, b"User aborted the transfer")
        else:
            client.error(8, b"User aborted the transfer")
            client.ask("boot.efi", SECOND)
        second = client.receive()
        assert second.opcode == OACK
        assert second.options == {"blksize": "1468", "windowsize": "4"}
        assert second.sender != first.sender
        assert len(tftp.server) == 1, "the probe's session is gone at once"
        assert take_rest(client, second) == LOADER
        assert [transfer.outcome for transfer in tftp.ended(2)][1] == "complete"
        assert tftp.transfers[0].outcome in {"probe", "aborted"}
        assert client.waiting() == [], "an ERROR is never answered"
        quiet(tftp, capsys)


def test_r05_a_probe_and_the_request_itself_may_be_the_same_to_the_letter(capsys: pytest.CaptureFixture[str]) -> None:
    """The ERROR counts before the request that follows it, though the server, busy with another's, reads that first."""
    busy, go_on = threading.Event(), threading.Event()

    def admitted(address: str) -> bool:
        if address == "127.0.0.9":
            busy.set()
            go_on.wait()
        return True

    with (
        running(from_dict(FILES), admitted=admitted) as tftp,
        Client(tftp.address) as client,
        Client(tftp.address, "127.0.0.9") as other,
    ):
        client.ask("boot.efi", PROBE)
        first = client.receive()
        other.send(b"")
        busy.wait()
        client.error(0, b"aborted")
        client.ask("boot.efi", PROBE)
        go_on.set()
        again = client.receive()
        assert again.sender != first.sender
        assert take_rest(client, again) == LOADER
        assert [transfer.outcome for transfer in tftp.ended(2)] == ["probe", "complete"]
        quiet(tftp, capsys)


def test_r05_shim_looks_for_what_it_may_lack_and_takes_grub_at_512(capsys: pytest.CaptureFixture[str]) -> None:
    """shim: 512 bytes a block, windows of 4, a size probe before each file, and three files that need not exist."""
    options = {"blksize": 512, "windowsize": 4}
    with running(from_dict(FILES)) as tftp:
        for name in ("revocations_sku.efi", "revocations_sbat.efi", "shim_certificate_0.efi"):
            with Client(tftp.address) as client:
                client.ask(f"/{name}", {"tsize": 0} | options)
                packet = client.receive()
                assert (packet.opcode, packet.number) == (ERROR, 1)
        with Client(tftp.address) as client:
            client.ask("/boot//../boot/grubx64.efi", options)
            assert client.receive().opcode == ERROR, "two dots lead nowhere"
        capsys.readouterr()
        with Client(tftp.address) as client:
            client.ask("//grubx64.efi", {"tsize": 0} | options)
            assert client.receive().options["tsize"] == "150001"
            client.error(8, b"User aborted the transfer")
            client.ask("//grubx64.efi", options)
            assert take_rest(client, client.receive()) == LOADER[:150_001]
        quiet(tftp, capsys)


def test_r05_signed_grub_reads_its_lists_and_its_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    """GRUB: blocks of 1024 and the size; its lists need not exist; it opens the configuration twice."""
    with running(from_dict(FILES)) as tftp:
        for name in ("command.lst", "fs.lst", "crypto.lst", "terminal.lst"):
            with Client(tftp.address) as client:
                client.ask(f"/grub/x86_64-efi/{name}", {"blksize": 1024, "tsize": 0})
                packet = client.receive()
                assert (packet.opcode, packet.number) == (ERROR, 1)
        for _ in range(2):
            assert fetch(tftp.address, "/grub/grub.cfg", {"blksize": 1024, "tsize": 0}) == CONFIG
        with Client(tftp.address) as client:  # it reads the head of a file, and closes it in the middle
            client.ask("boot.efi", {"blksize": 1024, "tsize": 0})
            client.receive()
            client.ack(0)
            assert client.receive().number == 1
            client.error(0, b"closed")
        assert [transfer.outcome for transfer in tftp.ended(7)][-1] == "aborted"
        quiet(tftp, capsys)


# Options (T10, R06)

TABLE = [
    ({"blksize": 1468}, {"blksize": "1468"}),
    ({"BlkSize": 1024}, {"BlkSize": "1024"}),
    ({"windowsize": 4, "tsize": 0, "blksize": 512}, {"windowsize": "4", "tsize": "200000", "blksize": "512"}),
    ({"tsize": 0, "multicast": "", "rollover": 0, "x": "y"}, {"tsize": "200000"}),
    ({"timeout": 5}, {"timeout": "5"}),
    ({"timeout": 256, "blksize": 1024}, {"blksize": "1024"}),
    ({"blksize": 7}, None),
    ({"blksize": "abc"}, None),
    ({"windowsize": 0}, None),
    ({"x": 1}, None),
    ({}, None),
]


@pytest.mark.parametrize(("asked", "agreed"), TABLE)
def test_t10_r06_an_oack_has_what_was_asked_and_accepted_and_no_more(
    asked: dict[str, object], agreed: dict[str, str] | None
) -> None:
    with running(from_dict(FILES)) as tftp, Client(tftp.address) as client:
        client.ask("boot.efi", asked)
        packet = client.receive()
        if agreed is None:
            assert (packet.opcode, packet.number, len(packet.data)) == (DATA, 1, 512)
        else:
            assert packet.options == agreed
            client.error(8, b"no, thank you")
            tftp.ended()
            assert client.waiting() == []
            assert len(tftp.server) == 0


# Repeats (T11)


@pytest.mark.parametrize(
    ("second", "same_port", "outcomes"),
    [
        (("boot.efi", {"blksize": 1024}), True, ["complete"]),
        (("boot.efi", {"blksize": 512}), False, ["aborted", "complete"]),
        (("grubx64.efi", {"blksize": 1024}), False, ["aborted", "complete"]),
    ],
    ids=["the same", "other options", "another file"],
)
def test_t11_a_second_request_from_the_same_port(
    second: tuple[str, dict[str, object]], same_port: bool, outcomes: list[str]
) -> None:
    name, options = second
    with running(from_dict(FILES)) as tftp, Client(tftp.address) as client:
        client.ask("boot.efi", {"blksize": 1024})
        first = client.receive()
        client.ask(name, options)
        again = client.receive()
        assert (again.sender == first.sender) is same_port
        assert len(tftp.server) == 1
        assert take_rest(client, again) == FILES[name]
        assert [transfer.outcome for transfer in tftp.ended(len(outcomes))] == outcomes


# One port for everything (T13)


def test_t13_with_a_single_port_firmware_does_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    with running(from_dict(FILES), single_port=True) as tftp, Client(tftp.address) as client:
        client.ask("boot.efi", PROBE)
        assert client.receive().sender == tftp.address
        client.error(8, b"User aborted the transfer")
        client.ask("boot.efi", SECOND)
        second = client.receive()
        assert second.sender == tftp.address
        assert take_rest(client, second) == LOADER
        assert [transfer.outcome for transfer in tftp.ended(2)] == ["probe", "complete"]
        assert fetch(tftp.address, "empty", {"blksize": 512}) == b""
        client.ask("missing")
        assert client.receive().sender == tftp.address
        quiet(tftp, capsys)


def test_t13_t09_with_a_single_port_strangers_reach_nothing() -> None:
    with (
        running(from_dict(FILES), single_port=True) as tftp,
        Client(tftp.address) as client,
        Client(tftp.address) as other_port,
        Client(tftp.address, "127.0.0.3") as other_address,
    ):
        client.ask("boot.efi", {"blksize": 1024})
        first = client.receive()
        for stranger in (other_port, other_address):
            for raw in (b"\0\4\0\0", b"\0\4\0\1", b"\0\5\0\0\0", b"\0\3\0\1junk"):
                stranger.send(raw)
        tftp.barrier()
        assert take_rest(client, first) == LOADER
        assert [transfer.resends for transfer in tftp.ended()] == [0]
        assert other_port.waiting() == other_address.waiting() == []


def test_t13_t11_with_a_single_port_a_late_copy_of_the_request_is_ignored() -> None:
    with running(from_dict(FILES), single_port=True) as tftp, Client(tftp.address) as client:
        client.ask("boot.efi", {"blksize": 1024})
        client.receive()
        client.ack(0)
        packet = client.receive()
        client.ask("boot.efi", {"blksize": 1024})
        tftp.barrier()
        assert client.waiting() == []
        assert client.rest(blksize=1024, first=packet) == LOADER


def test_t13_t11_with_a_single_port_a_machine_that_was_reset_starts_over() -> None:
    limits = replace(CALM, first_resend=0.05)
    with running(from_dict(FILES), single_port=True, limits=limits) as tftp, Client(tftp.address) as client:
        client.ask("boot.efi", {"blksize": 1024})
        client.receive()
        client.ack(0)
        client.receive()

        def again() -> bool:  # heard once the transfer has stood still for a while
            client.send(request(1, "boot.efi", {"blksize": 1024}))
            tftp.barrier()
            return bool(tftp.transfers)

        poll(again)
        packets = client.waiting() or [client.receive()]
        while packets[-1].opcode != OACK:
            packets.append(client.receive())
        assert take_rest(client, packets[-1]) == LOADER
        assert [transfer.outcome for transfer in tftp.ended(2)] == ["aborted", "complete"]
