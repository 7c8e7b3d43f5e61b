"""Machines by the thousand: plan and apply; and what an inventory sends."""

from typing import Any

from flask import request

from provisioner.errors import (
    Conflict,
    Forbidden,
    InvalidInput,
    NotFound,
    NotLoggedIn,
    PlanRefused,
    Stale,
    TooLarge,
    Unavailable,
)
from provisioner.services import netbox, plans
from provisioner.services.site import Actor
from provisioner.web.api.operations import BATCH_BYTES, Call, Operations
from provisioner.web.api.requests import read_raw, request_id
from provisioner.web.api.shapes.batches import Applied, ApplyBody, NetboxAnswer, PlanBody, PlanView

operations = Operations()
_HOOK_BYTES = 2 << 20


@operations.add(
    "POST",
    "/machines:plan",
    noun="machines",
    body=PlanBody,
    answer=PlanView,
    longest_body=BATCH_BYTES,
    errors=(TooLarge,),
)
def plan_machines(call: Call) -> Any:
    """What sending these machines would do: create, change field by field, refuse. Nothing is changed.

    Machines are found as the upsert finds them. The plan is kept for a day and can be applied by its id. With
    `X-Dry-Run: true` it is not kept, and `radius` says what it would do to the answer files of these machines.
    """
    return plans.plan(call.site, call.actor, call.body.machines, flag_missing=call.body.flag_missing)


@operations.add("GET", "/plans/{uid}", noun="machines", answer=PlanView)
def show_plan(call: Call) -> Any:
    """Show a plan that was made."""
    return plans.show(call.site, call.names["uid"])


@operations.add(
    "POST",
    "/machines:apply",
    noun="machines",
    body=ApplyBody,
    answer=Applied,
    longest_body=BATCH_BYTES,
    errors=(PlanRefused, Conflict, Stale, NotFound, TooLarge),
)
def apply_machines(call: Call) -> Any:
    """Do what a plan says, whole or not at all: by the plan's id, or by the same body.

    412 if the world changed since the plan was made, so that it would be another one; 409 with the refusals if it has
    any.
    """
    body = call.body
    if (body.plan is None) == (body.machines is None):
        raise InvalidInput("give either the plan's id or the machines", where="/plan", hint="one of them")
    return plans.apply(call.site, call.actor, plan_id=body.plan, machines=body.machines, flag_missing=body.flag_missing)


@operations.add(
    "POST",
    "/hooks/netbox",
    noun=None,
    public=True,
    answer=NetboxAnswer,
    errors=(NotLoggedIn, Forbidden, NotFound, InvalidInput, TooLarge, Unavailable),
)
def netbox_event(call: Call) -> Any:
    """What NetBox's webhook sends: the device is fetched afresh and brought up to date.

    Signed by `X-Hook-Signature` (HMAC-SHA512) with the secret of the settings instead of a token; without such a
    secret everything is refused.
    """
    actor = Actor(who="netbox", origin=f"netbox ({call.source})", request=request_id())
    body = read_raw(_HOOK_BYTES)
    return {"result": netbox.receive(call.site, actor, body, request.headers.get("X-Hook-Signature", ""))}
