"""Machines that wait."""

from hypothesis import given
from hypothesis import strategies as st

from provisioner.core.discovery import BACKOFF, Waiting, WaitsFor, commands, next_wait, screen, sentence
from provisioner.core.facts import from_query

MAC = "52:54:00:12:34:56"


def test_the_wait_grows_to_a_minute_and_starts_again_when_something_changed() -> None:
    waits = [next_wait("", "", WaitsFor.ADDING)]
    for _ in range(6):
        waits.append(next_wait(str(waits[-1]), "adding", WaitsFor.ADDING))
    assert waits == [5, 10, 20, 40, 60, 60, 60]
    assert next_wait("60", "adding", WaitsFor.BUILD) == 5


@given(st.text(max_size=30), st.text(max_size=10) | st.sampled_from(list(WaitsFor)), st.sampled_from(list(WaitsFor)))
def test_s37_whatever_it_sends_the_wait_is_one_of_ours(before: str, waited_for: str, waits_for: WaitsFor) -> None:
    assert next_wait(before, waited_for, waits_for) in BACKOFF


def test_each_machine_is_told_the_next_step() -> None:
    cases = {
        WaitsFor.ADDING: Waiting(MAC),
        WaitsFor.IDENTITY: Waiting(MAC, conflict="it says it is web01 (serial A: B): do X"),
        WaitsFor.SUBNET: Waiting(MAC, outside="10.9.9.9"),
        WaitsFor.PROFILE: Waiting(MAC, "web01"),
        WaitsFor.BUILD: Waiting(MAC, "web01", has_profile=True),
        WaitsFor.AGAIN: Waiting(MAC, "web01", has_profile=True, trouble="no answer from the database"),
    }
    for waits_for, waiting in cases.items():
        assert waiting.waits_for is waits_for
        shown = "\n".join(screen(waiting))
        assert MAC in shown
        assert sentence(waiting) in shown
        assert all(each in shown for each in commands(waiting))
    assert f"provisioner machine add NAME --mac {MAC} --ip ADDRESS --profile PROFILE" in screen(cases[WaitsFor.ADDING])
    assert "provisioner build start web01" in screen(cases[WaitsFor.BUILD])
    assert screen(cases[WaitsFor.IDENTITY])[-3:] == ["it says it is web01 (serial A: B)", "On the server:", "do X"]
    assert "10.9.9.9" in sentence(cases[WaitsFor.SUBNET])


def test_the_console_shows_who_the_machine_is() -> None:
    facts = from_query({"serial": "ABC1", "manufacturer": "Lab", "product": "Virtual", "uuid": "x", "arch": "i386"})
    assert screen(Waiting(MAC, facts=facts))[:2] == [
        f"Provisioner: unknown machine, MAC address {MAC}",
        "serial ABC1, UUID x, made by Lab, product Virtual",
    ]
