"""R26: what a change of a profile, template, snippet, parameter or subnet would do, before it is made."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import both_engines
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import event
from world import ACTOR, World

from provisioner.core.content import check_profile
from provisioner.errors import ProvisionerError
from provisioner.services import (
    arming,
    builds,
    content,
    fleet,
    installables,
    machines,
    profiles,
    radius,
    records,
    rerender,
    subnets,
    templates,
)
from provisioner.services.machines import InterfaceInput
from provisioner.services.resolve import BuildRequest, gather
from provisioner.services.sealing import Order, make_all
from provisioner.services.site import Site
from provisioner.store.engine import read, write
from provisioner.store.models import Distro, Machine

pytestmark = pytest.mark.slow

EVENTS = "snippets/events.sh.j2"


def rehearse(site: Site, change: Callable[[Site], Any], **kwargs: Any) -> dict[str, Any]:
    """The report of a change, which must leave nothing behind."""
    before = len(records.listing(site, None, 10_000))
    watch = radius.Watch(site)
    change(site.rehearsing(watch))
    report = radius.report(site, watch, **kwargs)
    assert len(records.listing(site, None, 10_000)) == before, "the change was not taken back"
    assert report is not None
    return report


def row(world: World, count: int, first: int = 11) -> list[str]:
    """Machines of profile rocky9, alike but for who they are."""
    names = [f"web{number:02d}" for number in range(first, first + count)]
    for number, name in enumerate(names, first):
        world.machine(name, f"52:54:00:12:35:{number:02x}", f"127.0.2.{number}", serial=f"SN{number}")
    return names


def ready(world: World, count: int = 3) -> list[str]:
    world.subnet()
    world.distro()
    return row(world, count)


def put(site: Site, name: str, text: str) -> None:
    """A template's text, whatever the validator of templates thinks of it."""
    with write(site.engine) as session:
        templates.put(session, ACTOR, name, text)


def put_profile(site: Site, data: dict[str, Any]) -> None:
    """A profile, whatever would be said of it when it is saved."""
    given_ones = {key: value for key, value in data.items() if value is not None} | {"distro": {"name": "rocky-9.6"}}
    with write(site.engine) as session:
        profiles.put(session, ACTOR, check_profile(given_ones, data["name"]), source=None)


def text(site: Site, name: str) -> str:
    return str(templates.show(site, name)["text"])


def told(report: dict[str, Any]) -> list[str]:
    """Every machine of every group."""
    return sorted(name for group in report["groups"] for name in group["machines"])


@both_engines
def test_r26_a_parameter_of_a_profile_is_shown_for_each_machine_that_inherits_it_and_no_other(
    site: Site, world: World
) -> None:
    names = ready(world)
    profiles.add(site, ACTOR, {"name": "child", "parent": "rocky9"})
    profiles.add(site, ACTOR, {"name": "own", "parent": "rocky9", "parameters": {"timezone": "Asia/Tokyo"}})
    profiles.add(site, ACTOR, {"name": "other", "parent": "linux", "template": "kickstart/el9.ks.j2"})
    for number, profile in enumerate(("child", "own", "other"), 40):
        world.machine(f"m-{profile}", f"52:54:00:12:36:{number}", f"127.0.2.{number}", profile=profile)
    report = rehearse(site, lambda to: profiles.edit(to, ACTOR, "rocky9", {"parameters": {"timezone": "CET"}}))
    assert told(report) == ["m-child", *names]
    assert (report["reached"], report["changed"], report["unchanged"]) == (5, 4, 1)
    lines = report["groups"][0]["files"]["answer"].splitlines()
    assert [line for line in lines[2:] if line[0] in "+-"] == ["-timezone 'UTC' --utc", "+timezone 'CET' --utc"]
    assert report["errors"] == report["unrendered"] == []


@both_engines
def test_r26_a_snippet_reaches_every_machine_whose_template_includes_it_in_whatever_depth(
    site: Site, world: World
) -> None:
    names = ready(world)
    put(site, "snippets/inner.j2", "echo inner\n")
    put(site, "snippets/outer.j2", '{% include "snippets/inner.j2" %}')
    put(site, "script/plain.sh.j2", "echo plain\n")
    put(site, "script/web.sh.j2", '{% include "snippets/outer.j2" %}')
    for number, template in enumerate(("plain", "web"), 40):
        profiles.add(site, ACTOR, {"name": template, "parent": "rocky9", "template": f"script/{template}.sh.j2"})
        world.machine(f"m-{template}", f"52:54:00:12:36:{number}", f"127.0.2.{number}", profile=template)
    report = rehearse(site, lambda to: put(to, "snippets/inner.j2", "echo other\n"))
    assert (told(report), report["reached"]) == (["m-web"], 1)
    assert set(told(rehearse(site, lambda to: put(to, EVENTS, text(site, EVENTS) + "\n# more\n")))) == set(names)


@both_engines
def test_r26_a_subnet_reaches_the_machines_in_it_by_parameter_gateway_and_url(site: Site, world: World) -> None:
    names = ready(world)
    world.subnet("far", "127.0.9.0/24")
    world.machine("far01", "52:54:00:12:36:01", "127.0.9.11")
    changed = rehearse(site, lambda to: subnets.edit(to, ACTOR, "lab", {"parameters": {"timezone": "CET"}}))
    assert told(changed) == names
    url = rehearse(site, lambda to: subnets.edit(to, ACTOR, "lab", {"boot_url": "http://127.0.2.1:9"}))
    assert told(url) == names
    assert "+" in url["groups"][0]["files"]["ipxe"]
    assert "http://127.0.2.1:9/build/" in url["groups"][0]["files"]["ipxe"]
    nothing = rehearse(site, lambda to: subnets.edit(to, ACTOR, "lab", {"ranges": ["127.0.2.100-127.0.2.120"]}))
    assert (nothing["reached"], nothing["unchanged"], nothing["groups"]) == (3, 3, [])
    renamed = rehearse(site, lambda to: subnets.rename(to, ACTOR, "lab", "lab2"))
    assert renamed["reached"] == 3


def test_a_change_of_a_machine_reaches_it_alone_and_its_new_name_is_a_difference(site: Site, world: World) -> None:
    ready(world)
    edited = rehearse(site, lambda to: machines.edit(to, ACTOR, "web11", {"parameters": {"timezone": "CET"}}))
    assert (told(edited), edited["reached"]) == (["web11"], 1)
    renamed = rehearse(site, lambda to: machines.rename(to, ACTOR, "web11", "web99"))
    assert told(renamed) == ["web11"]
    assert "+network --hostname='web99'" in renamed["groups"][0]["files"]["answer"]
    described = rehearse(site, lambda to: machines.edit(to, ACTOR, "web11", {"description": "for people"}))
    assert (described["reached"], described["unchanged"], described["groups"]) == (1, 1, [])
    added = rehearse(
        site,
        lambda to: machines.add(
            to, ACTOR, "web77", [InterfaceInput("52:54:00:12:36:77", "127.0.2.77")], {"profile": "rocky9"}
        ),
    )
    assert (added["added"], added["reached"], added["groups"]) == (["web77"], 1, [])
    assert rehearse(site, lambda to: machines.remove(to, ACTOR, "web11"))["reached"] == 0


def test_a_change_that_changes_nothing_is_seen_by_nobody(site: Site, world: World) -> None:
    ready(world)
    watch = radius.Watch(site)
    put(site.rehearsing(watch), EVENTS, text(site, EVENTS))
    assert radius.report(site, watch) is None
    assert radius.report(site, None) is None


def test_a_change_that_nothing_depends_on_reaches_no_machine(site: Site, world: World) -> None:
    ready(world)
    report = rehearse(site, lambda to: put(to, "snippets/lonely.j2", "x"))
    assert (report["reached"], report["groups"]) == (0, [])


def test_machines_that_differ_alike_are_one_group_and_a_value_of_their_own_is_none(site: Site, world: World) -> None:
    names = ready(world)
    line = "\n# {{ machine.name }} {{ machine.ip }} {{ machine.mac }} {{ machine.serial }} build {{ build.number }}\n"
    report = rehearse(site, lambda to: put(to, EVENTS, text(site, EVENTS) + line))
    (group,) = report["groups"]
    assert (group["machines"], group["example"]) == (names, names[0])
    assert f"+# {names[0]} 127.0.2.11 52:54:00:12:35:0b SN11 build 1" in group["files"]["answer"]
    machines.edit(site, ACTOR, "web12", {"parameters": {"rack": 7}})
    text_of_rack = "\n# {% if parameters.rack is defined %}rack {{ parameters.rack }}{% endif %}\n"
    apart = rehearse(site, lambda to: put(to, EVENTS, text(site, EVENTS) + text_of_rack))
    assert sorted(each["machines"] for each in apart["groups"]) == [["web11", "web13"], ["web12"]]


def test_those_that_would_fail_come_with_template_and_line_once(site: Site, world: World) -> None:
    names = ready(world)
    machines.edit(site, ACTOR, "web13", {"parameters": {"rack": 7}})
    broken = text(site, EVENTS) + "\n# {{ parameters.rack }}\n"
    report = rehearse(site, lambda to: put(to, EVENTS, broken))
    (error,) = report["errors"]
    assert (error["machines"], error["code"]) == (names[:2], "parameter-missing")
    assert error["where"] == f"{EVENTS}:{len(broken.splitlines())}"
    assert "parameters.rack" in error["message"]
    assert (report["failed"], report["changed"], told(report)) == (2, 1, ["web13"])
    syntax = rehearse(site, lambda to: put(to, EVENTS, "{% if %}"))
    assert (syntax["errors"][0]["where"], syntax["errors"][0]["machines"]) == (f"{EVENTS}:1", names)


def test_what_is_not_rendered_now_or_then_is_counted_with_its_reason_and_what_is_mended_is_said(
    site: Site, world: World
) -> None:
    names = ready(world)
    world.machine("bare", "52:54:00:12:36:01", None)
    world.machine("ubuntu", "52:54:00:12:36:02", "127.0.2.80", profile="ubuntu2404")
    report = rehearse(site, lambda to: profiles.edit(to, ACTOR, "linux", {"parameters": {"timezone": "CET"}}))
    assert told(report) == names
    reasons = {each["machines"][0]: each["message"] for each in report["unrendered"]}
    assert "no interface in a subnet" in reasons["bare"]
    assert "no distro fits" in reasons["ubuntu"]
    away = rehearse(site, lambda to: machines.edit(to, ACTOR, "web11", {"profile": None}))
    assert [each["machines"] for each in away["errors"]] == [["web11"]]
    mended = rehearse(site, lambda to: machines.edit(to, ACTOR, "ubuntu", {"profile": "rocky9"}))
    assert mended["mended"] == ["ubuntu"]


def test_a_text_that_would_be_kept_as_a_draft_is_rendered_all_the_same(site: Site, world: World) -> None:
    names = ready(world)
    broken = text(site, EVENTS) + "\n# {{ parameters.nowhere }}\n"
    report = rehearse(site, lambda to: templates.edit(to, ACTOR, EVENTS, broken))
    assert [each["machines"] for each in report["errors"]] == [names]


@both_engines
def test_a_build_under_way_keeps_what_it_was_sealed_with_and_that_is_said(site: Site, world: World) -> None:
    ready(world)
    arming.start(site, ACTOR, "web12")
    arming.start(site, ACTOR, "web13")
    builds.cancel(site, ACTOR, "web13")
    edit = {"parameters": {"timezone": "CET"}}
    report = rehearse(site, lambda to: profiles.edit(to, ACTOR, "rocky9", edit))
    assert report["sealed"] == ["web12"]
    assert rehearse(site, lambda to: profiles.edit(to, ACTOR, "rocky9", {"description": "x"}))["sealed"] == []
    # Each boot is told the URL anew, so that a sealed build takes it too.
    url = rehearse(site, lambda to: subnets.edit(to, ACTOR, "lab", {"boot_url": "http://127.0.2.1:9"}))
    assert (url["changed"], url["sealed"]) == (3, [])


def test_one_of_each_group_is_validated_and_what_the_installer_would_refuse_is_said(site: Site, world: World) -> None:
    ready(world)
    good = text(site, "kickstart/el9.ks.j2")
    report = rehearse(site, lambda to: put(to, "kickstart/el9.ks.j2", good + "\nnonsense --command\n"))
    (group,) = report["groups"]
    assert group["problem"]["code"] == "answer-invalid"
    assert "nonsense" in group["problem"]["message"]
    assert report["seconds"]["validating"] >= 0


def test_a_distro_that_a_profile_means_by_its_version_is_a_reach_too(site: Site, world: World) -> None:
    names = ready(world)
    world.distro("rocky-9.7", version="9.7")
    installables.edit_distro(site, ACTOR, "rocky-9.7", {"tree": "http://mirror/newer"})
    report = rehearse(site, lambda to: installables.remove(to, ACTOR, Distro, "rocky-9.7"))
    assert told(report) == names
    older = rehearse(site, lambda to: installables.remove(to, ACTOR, Distro, "rocky-9.6"))
    assert older["reached"] == 0


def test_a_directory_that_is_applied_reaches_all_that_any_of_its_files_does(
    site: Site, world: World, tmp_path: Path
) -> None:
    names = ready(world)
    world.machine("stem", "52:54:00:12:36:02", "127.0.2.80", profile="stem-cell")
    (tmp_path / "site/kickstarts/snippets").mkdir(parents=True)
    (tmp_path / "site/profiles").mkdir()
    (tmp_path / "site/kickstarts" / EVENTS).write_text(text(site, EVENTS) + "\n# more\n")
    (tmp_path / "site/profiles/stem-cell.yaml").write_text("name: stem-cell\nparent: linux\n")
    planned = content.plan(site, tmp_path / "site")
    report = rehearse(site, lambda to: content.rehearse(to, ACTOR, planned))
    assert set(names) <= set(told(report))
    assert report["reached"] == 4


def test_tokens_are_masked_and_markers_filled(site: Site, world: World) -> None:
    ready(world)
    report = rehearse(site, lambda to: put(to, EVENTS, text(site, EVENTS) + "\n# {{ urls.answer }}\n"))
    shown = report["groups"][0]["files"]["answer"]
    assert f"+# http://127.0.0.1:8080/build/{'x' * 54}/answer" in shown
    assert "@@provisioner" not in shown


def test_a_template_without_end_costs_a_few_seconds_not_a_few_a_machine(
    site: Site, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ready(world, 12)
    monkeypatch.setattr(radius, "TOGETHER", 3)
    monkeypatch.setattr(rerender, "MOST_LIMITS", 1)
    endless = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    calls: list[int] = []
    real = rerender.confined.render

    def counted(jobs: Any, sources: Any, **kwargs: Any) -> Any:
        calls.append(len(jobs))
        return real(jobs, sources, **kwargs)

    monkeypatch.setattr(rerender.confined, "render", counted)
    report = rehearse(site, lambda to: put(to, EVENTS, endless))
    assert sorted(name for each in report["errors"] for name in each["machines"]) == names
    assert {each["code"] for each in report["errors"]} == {"render-limit"}
    assert len(calls) == 8
    assert calls.count(0) >= 2, "two batches at most are rendered from the endless text: the next is under way already"


def test_sixty_machines_take_as_many_queries_as_six_and_progress_is_told(
    site: Site, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(radius, "TOGETHER", 100)
    ready(world, 6)
    six = _queries(site, 6)
    row(world, 54, first=20)
    assert _queries(site, 60) == six


def _queries(site: Site, count: int) -> int:
    """How many queries the report of a change takes that changes so many machines alike."""
    statements: list[str] = []
    steps: list[tuple[str, int, int]] = []

    def listen(*arguments: Any) -> None:
        statements.append(arguments[2])

    watch = radius.Watch(site)
    put(site.rehearsing(watch), EVENTS, text(site, EVENTS) + "\n# more\n")
    event.listen(site.engine, "before_cursor_execute", listen)
    report = radius.report(site, watch, lambda *step: steps.append(step))
    event.remove(site.engine, "before_cursor_execute", listen)
    assert report is not None
    assert [len(each["machines"]) for each in report["groups"]] == [count]
    assert (steps[0], steps[-1]) == (("rendered", count, count), ("validated", 1, 1))
    return len(statements)


def test_batches_show_every_machine_once(site: Site, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ready(world, 7)
    monkeypatch.setattr(radius, "TOGETHER", 3)
    report = rehearse(site, lambda to: profiles.edit(to, ACTOR, "rocky9", {"parameters": {"timezone": "CET"}}))
    assert report["groups"][0]["machines"] == names


@both_engines
def test_machines_loaded_together_are_as_those_loaded_alone(site: Site, world: World) -> None:
    names = ready(world)
    world.machine("two", "52:54:00:12:36:01", "127.0.2.80", kernel_options=["!quiet"], local_boot="exit")
    machines.edit(site, ACTOR, "two", {}, plus=[InterfaceInput("52:54:00:12:36:02", None)])
    machines.set_secret(site, ACTOR, "two", "root_password", "correct horse")
    arming.start(site, ACTOR, "two")
    with read(site.engine) as session:
        found = fleet.rows(session, Machine.id > 0)
        whole = fleet.content(session)
        assert [each["name"] for each in found] == sorted(["two", *names])
        for each in found:
            together = rerender.assemble(whole.parts(each), BuildRequest())
            alone = gather(session, machines.find(session, each["name"]), BuildRequest())
            for field in ("machine", "interfaces", "profile", "resolved", "template", "sources", "distro", "image"):
                assert getattr(together, field) == getattr(alone, field), (each["name"], field)
        two = next(each for each in found if each["name"] == "two")
        assert (two["secrets"], two["number"], two["sealed"]) == (("root_password",), 2, True)


PROFILES = ("p0", "p1", "p2")
SNIPPETS = ("snippets/s0.j2", "snippets/s1.j2", "snippets/s2.j2")
MAINS = ("ipxe/t0.j2", "ipxe/t1.j2")
_INCLUDES = st.lists(
    st.sampled_from([*(f'{{% include "{name}" %}}' for name in SNIPPETS), '{% include "snippets/" ~ "s1.j2" %}']),
    max_size=2,
).map("".join)
_VALUES = st.sampled_from(["1", "2"])
_TEXTS = st.builds(
    "".join, st.tuples(_INCLUDES, st.sampled_from(["a", "b", "{{ parameters.x }}", "{{ parameters.y }}"]))
)


@st.composite
def worlds(draw: st.DrawFn) -> dict[str, Any]:
    """Texts that include each other (not in a circle), profiles that inherit, machines that have them; and a change."""
    texts = {}
    for number, name in enumerate(SNIPPETS):
        known = set(SNIPPETS[:number])
        body = draw(_TEXTS)
        for other in set(SNIPPETS) - known:
            body = body.replace(f'{{% include "{other}" %}}', "")
        texts[name] = body if "snippets/s1.j2" in known else body.replace('{% include "snippets/" ~ "s1.j2" %}', "")
    texts |= {name: draw(_TEXTS) for name in MAINS}
    given_profiles = [
        {
            "name": name,
            "parent": draw(st.sampled_from([None, *PROFILES[:number]])) if number else None,
            "template": draw(st.sampled_from([*MAINS, None])) if number else MAINS[0],
            "parameters": draw(st.dictionaries(st.sampled_from(["x", "y"]), _VALUES)),
        }
        for number, name in enumerate(PROFILES)
    ]
    for each in given_profiles[1:]:
        each["parent"] = each["parent"] or PROFILES[0]
    change = draw(
        st.one_of(
            st.tuples(
                st.just("template"), st.sampled_from([*SNIPPETS, *MAINS]), st.sampled_from(["c", "{{ parameters.x }}"])
            ),
            st.tuples(
                st.just("profile"), st.sampled_from(PROFILES), st.dictionaries(st.sampled_from(["x", "y"]), _VALUES)
            ),
            st.tuples(st.just("subnet"), st.sampled_from(["lab", "far"]), _VALUES),
            st.tuples(st.just("machine"), st.sampled_from(["m0", "m1", "m2"]), _VALUES),
        )
    )
    assigned = draw(st.lists(st.sampled_from(PROFILES), min_size=3, max_size=3))
    return {"texts": texts, "profiles": given_profiles, "assigned": assigned, "change": change}


def _carry_out(site: Site, change: tuple[str, str, Any]) -> None:
    kind, name, value = change
    if kind == "template":
        put(site, name, value)
    elif kind == "profile":
        shown = profiles.show(site, name)
        put_profile(site, {key: shown[key] for key in ("name", "parent", "template")} | {"parameters": value})
    elif kind == "subnet":
        subnets.edit(site, ACTOR, name, {"parameters": {"x": value}})
    else:
        machines.edit(site, ACTOR, name, {"parameters": {"y": value}})


def _rendered(site: Site) -> dict[str, Any]:
    """Every machine's files, or why there are none, by the way that builds are made."""
    with read(site.engine) as session:
        orders = [
            Order(gather(session, machines.find(session, name), BuildRequest()), 1, ()) for name in ("m0", "m1", "m2")
        ]
    made = make_all(site, orders)
    return {
        name: (type(each).__name__, str(each)) if isinstance(each, ProvisionerError) else dict(each.files)
        for name, each in zip(("m0", "m1", "m2"), made, strict=True)
    }


@pytest.mark.slow
def test_r26_whatever_changes_was_reached_and_shown(site: Site, world: World) -> None:
    """In small worlds: rehearse a change, make it, and see which machines are really rendered to something else."""
    world.subnet()
    world.subnet("far", "127.0.9.0/24")
    world.distro()
    for name in (*SNIPPETS, *MAINS):
        put(site, name, "x")
    for name in PROFILES:
        put_profile(site, {"name": name, "template": MAINS[0]})
    for number in range(3):
        ip = "127.0.9.11" if number == 2 else f"127.0.2.2{number}"
        world.machine(f"m{number}", f"52:54:00:12:36:0{number}", ip, profile="p0")

    @settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
    @given(worlds())
    def holds(drawn: dict[str, Any]) -> None:
        for name, body in drawn["texts"].items():
            put(site, name, body)
        for each in drawn["profiles"]:
            put_profile(site, each)
        for number, profile in enumerate(drawn["assigned"]):
            machines.edit(site, ACTOR, f"m{number}", {"profile": profile, "parameters": {"y": None}})
        for name in ("lab", "far"):
            subnets.edit(site, ACTOR, name, {"parameters": {"x": None}})
        before = _rendered(site)
        watch = radius.Watch(site)
        _carry_out(site.rehearsing(watch), drawn["change"])
        report = radius.report(site, watch)
        assert _rendered(site) == before
        _carry_out(site, drawn["change"])
        after = _rendered(site)
        really = {name for name in before if before[name] != after[name]}
        if report is None:
            assert not really
            return
        failed_then = {name for name in really if isinstance(after[name], tuple) and isinstance(before[name], dict)}
        differ = {name for name in really if isinstance(after[name], dict) and isinstance(before[name], dict)}
        assert set(told(report)) == differ
        assert {name for each in report["errors"] for name in each["machines"]} == failed_then
        shown = {name for each in (*report["errors"], *report["unrendered"]) for name in each["machines"]}
        assert report["reached"] >= len(really)
        assert really <= set(told(report)) | shown | set(report["mended"])

    holds()
