"""What is done to several machines at once.

Machines are chosen in the list, by a filter, or by pasting names; each page carries them along by name, so that what is
done is done to those that were shown. Changes of machines become a plan; builds are armed one by one.
"""

import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from flask import Response

from provisioner.core.names import few, parameter_name
from provisioner.errors import InvalidInput, ProvisionerError
from provisioner.services import listing, selection
from provisioner.services.selection import Chosen
from provisioner.services.underway import Counting
from provisioner.web.ui import adding, forms, login
from provisioner.web.ui.machines import conditions, filters_of
from provisioner.web.ui.pages import Pages, Visit, path
from provisioner.web.ui.plans import machines

pages = Pages()
Result: TypeAlias = tuple[str, dict[str, Any] | ProvisionerError]
ACTIONS = {
    "profile": "Assign a profile",
    "parameter": "Set a parameter",
    "tags": "Change tags",
    "cancel": "Cancel builds",
    "build": "Build",
}
MOST_BY_EYE = 5
"""More machines than this are wiped only by whoever types how many they are."""
_NEEDS = {"cancel": "builds", "build": "builds"}


@pages.get("/machines:bulk", "machines", verb="write")
def paste(visit: Visit) -> Response:
    """Choose machines by pasting their names."""
    return _choose(visit, visit.arg("do"), visit.arg("names"))


@pages.post("/machines:bulk", "machines")
def chosen(visit: Visit) -> Response:
    """The page of one action, for the machines that were chosen."""
    action = visit.field("do")
    try:
        if action not in ACTIONS:
            raise InvalidInput("nothing is chosen to be done", where="do", hint="choose what to do with the machines")
        return _page(visit, action, _chosen(visit))
    except ProvisionerError as error:
        error.where = error.where or "names"
        return _choose(visit, action, "\n".join(_names(visit)), error)


@pages.post("/machines:bulk/profile", "machines")
def profile(visit: Visit) -> Response:
    """Plan a profile for each."""
    wanted = visit.field("profile").strip()
    changes = {"profile": None if wanted == "-" else wanted}
    return _planned(
        visit, "profile", lambda found: selection.plan_fields(visit.site, visit.actor, found, changes), ("profile",)
    )


@pages.post("/machines:bulk/parameter", "machines")
def parameter(visit: Visit) -> Response:
    """Plan a parameter for each."""

    def make(found: Chosen) -> dict[str, Any]:
        name = visit.field("parameter").strip()
        try:
            parameter_name(name)
        except InvalidInput as error:
            error.where = "parameter"
            raise
        value = None if visit.field("remove") else _value(visit.field("value"))
        return selection.plan_fields(visit.site, visit.actor, found, {"parameters": {name: value}})

    return _planned(visit, "parameter", make, ("parameter", "value", "remove"))


@pages.post("/machines:bulk/tags", "machines")
def tags(visit: Visit) -> Response:
    """Plan tags more and less for each."""

    def make(found: Chosen) -> dict[str, Any]:
        more, less = forms.words(visit.field("more")), forms.words(visit.field("less"))
        if not more and not less:
            raise InvalidInput("there is no tag in it", where="more", hint="write at least one word in either field")
        return selection.plan_tags(visit.site, visit.actor, found, more, less)

    return _planned(visit, "tags", make, ("more", "less"))


@pages.post("/machines:bulk/build", "builds")
def build(visit: Visit) -> Response:
    """Arm a build of each of those that were shown; the count is typed where they are many."""
    try:
        found = _chosen(visit)
        refuse_uncounted(visit.field("typed"), len(found.machines))
        with visit.noting() as noted:
            results = list(_counted(selection.build(visit.site, visit.actor, found.names), len(found.names), noted))
    except ProvisionerError as error:
        return _again(visit, "build", error, ("typed", "reason"))
    said = "{} armed: boot {} from the network."
    return _done(visit, "build", results, lambda count: said.format(_are(count), "them" if count > 1 else "it"))


@pages.post("/machines:bulk/cancel", "builds")
def cancel(visit: Visit) -> Response:
    """Cancel the build of each."""
    try:
        results = list(selection.cancel(visit.site, visit.actor, _chosen(visit).names))
    except ProvisionerError as error:
        return _again(visit, "cancel", error, ("reason",))
    return _done(visit, "cancel", results, lambda count: f"{_are(count)} cancelled.")


def refuse_uncounted(typed: str, count: int) -> None:
    """Raise InvalidInput unless the count was typed, if it is above what one takes in at a glance."""
    if count > MOST_BY_EYE and typed.strip() != str(count):
        raise InvalidInput(
            f"{typed.strip()[:20]!r} is not how many machines would be wiped"
            if typed.strip()
            else "no count was typed",
            where="typed",
            hint=f"count them: {count} machines are listed; type that number",
        )


def _counted(results: Iterable[Result], total: int, noted: Counting | None) -> Iterator[Result]:
    """The same, while the page that waits is told how many there are by now."""
    for done, each in enumerate(results, 1):
        if noted is not None:
            noted("armed", done, total)
        yield each


def _planned(visit: Visit, action: str, make: Callable[[Chosen], dict[str, Any]], typed: Sequence[str]) -> Response:
    try:
        told = make(_chosen(visit))
    except ProvisionerError as error:
        error.where = {"/more": "more", "/less": "less"}.get(
            "/" + error.where.strip("/").partition("/")[0], error.where
        )
        return _again(visit, action, error, typed)
    back = login.local(visit.field("back") or "/machines")
    return visit.redirect(f"{path('machines:plans', told['id'])}?back={adding.quoted(back)}")


def _done(
    visit: Visit,
    action: str,
    results: Sequence[Result],
    said: Callable[[int], str],
) -> Response:
    """Back to where one came from, with what happened; or, where something was refused, a page that says what."""
    refused = [(name, found) for name, found in results if isinstance(found, ProvisionerError)]
    done = [(name, found) for name, found in results if not isinstance(found, ProvisionerError)]
    warned: dict[str, list[str]] = {}
    for name, each in done:
        for warning in each.get("warnings", ()):
            warned.setdefault(warning, []).append(name)
    back = login.local(visit.field("back") or "/machines")
    if not refused and not warned:
        return visit.redirect(back, said(len(done)), href="/builds", link="Show the builds")
    shown = {"done": done, "refused": refused, "warned": warned, "back": back, "said": said(len(done)) if done else ""}
    word = {"build": "armed", "cancel": "cancelled"}[action]
    return visit.render("bulk/done.html", 200 if done else 409, action=action, word=word, **shown)


def _again(visit: Visit, action: str, error: ProvisionerError, typed: Iterable[str]) -> Response:
    """The page of an action once more, with what was typed and what is wrong."""
    try:
        found = _chosen(visit)
    except ProvisionerError as worse:
        return _choose(visit, action, "\n".join(_names(visit)), worse)
    return _page(visit, action, found, error, {key: visit.field(key) for key in typed})


def _page(
    visit: Visit,
    action: str,
    found: Chosen,
    error: ProvisionerError | None = None,
    typed: Mapping[str, str] | None = None,
) -> Response:
    visit.principal.require(_NEEDS.get(action, "machines"), "write")
    judge: dict[str, Callable[[Mapping[str, Any]], str]] = {"build": selection.why_no_build, "cancel": _why_no_cancel}
    reasons = {each["name"]: judge[action](each) if action in judge else "" for each in found.machines}
    fit = [each for each in found.machines if not reasons[each["name"]]]
    return visit.render(
        f"bulk/{action}.html",
        error.status if error else 200,
        action=action,
        title=ACTIONS[action],
        fit=fit,
        unfit=[(each, reasons[each["name"]]) for each in found.machines if reasons[each["name"]]],
        missing=found.missing,
        count=len(fit),
        counted=machines(len(fit)),
        must_type=len(fit) > MOST_BY_EYE,
        most=visit.site.settings.builds_per_minute,
        back=login.local(visit.field("back") or "/machines"),
        typed=typed or {},
        error=error,
        first=shlex.quote(fit[0]["name"]) if fit else "web01",
        **(selection.choices(visit.site) if action == "profile" else {}),
    )


def _choose(visit: Visit, action: str, names: str, error: ProvisionerError | None = None) -> Response:
    offered = {key: title for key, title in ACTIONS.items() if visit.may(_NEEDS.get(key, "machines"))}
    back = login.local(visit.field("back") or "/machines")
    context = {"action": action, "names": names, "error": error, "actions": offered, "back": back}
    return visit.render("bulk/choose.html", error.status if error else 200, **context)


def _chosen(visit: Visit) -> Chosen:
    """The machines that a form means: all that a filter chooses, or those that are named. Raises InvalidInput."""
    if visit.field("all"):
        names = listing.names(visit.site, selection.MOST, **conditions(filters_of(visit.field)))
    else:
        names = _names(visit)
    found = selection.named(visit.site, names)
    if not found.machines:
        missing = f"there is no machine {few([each[:80] for each in found.missing])}" if found.missing else ""
        raise InvalidInput(
            missing or "no machine is chosen",
            where="names",
            hint="tick machines in the list, or write their names here",
        )
    return found


def _names(visit: Visit) -> list[str]:
    return [*visit.field("names").replace(",", "\n").split(), *visit.fields("name")]


def _why_no_cancel(machine: Mapping[str, Any]) -> str:
    return "" if machine["build"] else "no build is under way"


def _value(text: str) -> Any:
    """A parameter's value as it is typed: YAML, so that numbers, lists and true are what they look like."""
    if not text.strip():
        raise InvalidInput("there is no value", where="value", hint="write '' for an empty text, or take it away below")
    return forms.value(text, "value")


def _are(count: int) -> str:
    return f"{count} build{' is' if count == 1 else 's are'}"
