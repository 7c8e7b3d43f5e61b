"""Who plays what, what a machine may expect, and what its journal may not show."""

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.errors import InvalidInput
from provisioner.simulate import FAILING, STEPS, Plan, check_records, fault, read_journal
from provisioner.simulate.expect import Seen, ends, next_boots
from provisioner.simulate.installer import answer_urls, configured_url, digest, orders
from provisioner.simulate.journal import Figures, percentile
from provisioner.simulate.plan import Fault, cast_parts

TOKEN = "t" * 54
BASE = f"http://127.0.0.1:8080/build/{TOKEN}"


def test_the_same_seed_gives_the_same_play() -> None:
    plan = Plan(50, arrival=10, faults=[fault("fail", "disk:10%"), fault("power-cut", "kernel:3")])
    assert cast_parts(plan) == cast_parts(plan)
    assert cast_parts(plan) != cast_parts(Plan(50, arrival=10, faults=plan.faults, seed=2))


@given(st.integers(1, 300), st.integers(0, 2**32))
def test_parts_have_their_own_names_and_addresses(machines: int, seed: int) -> None:
    parts = cast_parts(Plan(machines, seed=seed, arrival=5))
    for key in ("name", "mac", "ip", "uuid"):
        assert len({getattr(part, key) for part in parts}) == machines
    for part in parts:
        first = int(part.mac[:2], 16)
        assert (first & 2, first & 1) == (2, 0), "a MAC that is locally administered and of one machine"
        assert 0 <= part.arrival <= 5


@given(st.lists(st.integers(0, 8), max_size=5), st.integers(0, 99))
def test_faults_go_to_so_many_machines_each_to_its_own(counts: list[int], seed: int) -> None:
    faults = [Fault("power-cut", STEPS[index], count=count) for index, count in enumerate(counts, 1)]
    parts = cast_parts(Plan(40, faults=faults, seed=seed).checked())
    for each in faults:
        assert sum(part.fault is each for part in parts) == each.of(40)


def test_shares_are_a_percentage_a_number_or_all() -> None:
    assert [fault("fail", text).of(40) for text in ("disk", "disk:5%", "disk:3")] == [40, 2, 3]


@pytest.mark.parametrize("text", ["nowhere", "disk:x", "disk:101%", "disk:-5%", "built", "kernel:2"])
def test_a_failure_that_cannot_be_played_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        fault("fail", text)
    assert caught.value.hint


@pytest.mark.parametrize(
    "change",
    [
        {"machines": 0},
        {"machines": 300, "cidr": "127.64.0.0/24"},
        {"cidr": "10.0.0.0/16"},
        {"cidr": "::1/64"},
        {"speed": 0},
        {"arrival": -1},
        {"kernel_bytes": 1},
        {"faults": (Fault("fail", "disk"), Fault("never", "kernel", count=1))},
        {"faults": (Fault("never", "dhcp"),)},
    ],
)
def test_a_plan_that_cannot_be_played_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        Plan(**({"machines": 5} | change)).checked()


# --- what a machine may expect ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seen", "allowed"),
    [
        (Seen(), {"build"}),
        (Seen(attempts={"a": 0.0}), {"build"}),
        (Seen(attempts={"a": 0.0, "b": 1.0}), {"halt"}),
        (Seen(attempts={"a": 0.0, "b": 70.0}), {"build", "halt"}),
        (Seen(attempts={"a": 0.0}, disk="yes"), {"halt"}),
        (Seen(attempts={"a": 0.0}, disk="maybe"), {"build", "halt"}),
        (Seen(attempts={"a": 0.0}, disk="yes", built="maybe"), {"local", "halt"}),
        (Seen(attempts={"a": 0.0}, disk="yes", built="yes"), {"local"}),
        (Seen(disk="yes", failed="yes"), {"halt"}),
        (Seen(refused=True), {"halt"}),
        (Seen(disk="yes", built="yes", configured="yes"), {"local"}),
    ],
)
def test_r01_what_the_next_boot_may_get(seen: Seen, allowed: set[str]) -> None:
    assert next_boots(seen, 100.0) == allowed


@given(
    st.builds(
        Seen,
        disk=st.sampled_from(["no", "maybe", "yes"]),
        built=st.sampled_from(["no", "maybe", "yes"]),
        failed=st.sampled_from(["no", "maybe", "yes"]),
        configured=st.sampled_from(["no", "maybe", "yes"]),
        refused=st.booleans(),
        lost_scripts=st.integers(0, 3),
    )
)
def test_r01_an_acknowledged_disk_is_never_offered_another_installer(seen: Seen) -> None:
    allowed = next_boots(seen, 100.0)
    assert allowed
    if "yes" in {seen.disk, seen.built, seen.failed, seen.configured}:
        assert "build" not in allowed


def test_what_was_acknowledged_stays_acknowledged() -> None:
    seen = Seen()
    for known in ("maybe", "yes", "maybe"):
        seen.note("disk", known)  # type: ignore[arg-type]
    seen.note("packages", "yes")
    assert seen == Seen(disk="yes")


def test_how_a_play_may_end() -> None:
    assert ends(None, Seen(), 1) == {"configured"}
    assert ends(Fault("never", "disk"), Seen(), 1) == {"off"}
    assert {step: ends(Fault("fail", step), Seen(), 1) for step in FAILING if step != "configured"} == {
        step: {"halted"} for step in FAILING if step != "configured"
    }
    assert ends(Fault("fail", "configured"), Seen(), 1) == {"handoff-failed"}
    cut = {step: ends(Fault("power-cut", step), Seen(), 1) for step in STEPS}
    assert {step for step, allowed in cut.items() if allowed == {"halted"}} == {"disk", "packages", "handoff"}
    assert ends(Fault("power-cut", "secret"), Seen(refused=True), 1) == {"halted"}


# --- the journal ------------------------------------------------------------------------------------------------------


def record(what: str, boot: int = 1, **more: Any) -> dict[str, Any]:
    return {"at": 0.0, "machine": "sim-0001", "boot": boot, "what": what, **more}


def secret(token: str, nonce: str) -> dict[str, Any]:
    return record("secret", token=token, nonce=nonce, name="root_password")


def test_the_journal_shows_a_secret_given_twice_and_a_second_wipe() -> None:
    fine = [secret("a", "1"), secret("a", "1"), secret("b", "2"), record("wipe", 1), record("wipe", 1)]
    assert check_records(fine) == []
    assert "2 different nonces" in check_records([*fine, secret("a", "3")])[0]
    assert "wiped 2 times" in check_records([*fine, record("wipe", 2)])[0]
    assert check_records([record("problem", message="it burns")]) == ["sim-0001: it burns"]


def test_a_journal_that_was_cut_short_is_still_read() -> None:
    assert read_journal(['{"what": "ack"}\n', '{"what": "wi']) == [{"what": "ack"}]


def test_percentiles_are_nearest_ranks() -> None:
    assert percentile([], 50) is None
    assert [percentile(list(range(1, 101)), point) for point in (50, 95, 99, 100)] == [50, 95, 99, 100]
    assert [percentile([7.0], point) for point in (50, 99)] == [7.0, 7.0]


@given(st.lists(st.floats(0, 100), min_size=1))
def test_percentiles_are_among_the_values_and_rise(times: list[float]) -> None:
    times.sort()
    found = [percentile(times, point) or 0.0 for point in (0, 50, 95, 99, 100)]
    assert found == sorted(found)
    assert found[-1] == times[-1]
    assert set(found) <= set(times) | {0.0}


def test_steps_come_in_their_order() -> None:
    figures = Figures()
    for step in random.Random(1).sample(STEPS, len(STEPS)):
        figures.good(step, 0.001, 10)
    figures.failures["other"] += 1
    rows = figures.rows(STEPS)
    assert [row["step"] for row in rows] == [*STEPS, "other"]
    times = dict.fromkeys(("p50", "p95", "p99", "max"), 1.0)
    assert rows[0] == {"step": STEPS[0], "count": 1, **times, "bytes": 10, "retries": 0, "failures": 0}


# --- the installer's reading ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "urls"),
    [
        (("quiet", f"inst.ks={BASE}/answer", "inst.repo=http://m/"), [f"{BASE}/answer"]),
        (("auto=true", f"url={BASE}/answer"), [f"{BASE}/answer"]),
        ((f"provisioner.answer={BASE}/answer",), [f"{BASE}/answer"]),
        (
            ("autoinstall", f"ds=nocloud-net;s={BASE}/seed/", "url=http://m/ubuntu.iso"),
            [f"{BASE}/seed/{name}" for name in ("user-data", "meta-data", "vendor-data", "network-config")],
        ),
        (("quiet", "url=http://m/ubuntu.iso"), []),
    ],
)
def test_where_each_family_finds_its_answer(arguments: tuple[str, ...], urls: list[str]) -> None:
    assert answer_urls(arguments) == urls


def test_orders_of_an_answer_file() -> None:
    text = f"""
    provisioner_post {BASE}/event "$body"
    curl '{BASE}/secret'"/$1"
    hash=$(provisioner_secret root_password)
    provisioner_get {BASE}/handoff x
    """
    found = orders(text)
    assert (found.event, found.handoff) == (f"{BASE}/event", f"{BASE}/handoff")
    assert found.secrets == (f"{BASE}/secret/root_password",)
    assert configured_url(f"url={BASE}/configured") == f"{BASE}/configured"
    assert digest(f"{BASE}/answer") == digest(f"x {BASE}/event") != ""


@pytest.mark.parametrize("text", ["", "error: no such template", f"{BASE}/event @@provisioner:boot_url@@"])
def test_an_answer_file_that_no_installer_could_follow(text: str) -> None:
    with pytest.raises(ValueError, match="the answer file"):
        orders(text)
    with pytest.raises(ValueError, match="handoff"):
        configured_url(text)
