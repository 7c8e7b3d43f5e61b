"""Deny by default: every route and method without, with a wrong, an expired, a revoked and a lesser credential."""

from datetime import UTC, datetime

from asking import ROLES, Api, path_of, table
from sqlalchemy import update
from world import ACTOR

from provisioner.core.policy import Role, allows
from provisioner.services import people, tokens
from provisioner.store.engine import write
from provisioner.store.people import ApiToken
from provisioner.web import ui
from provisioner.web.api.operations import Operation

# Routes of the admin plane that need no credential, each for a reason.
OPEN = {
    "static": "never registered",
    "_health": "says only that the process runs",
    "<lambda>": "says only whether the database answers",
    "ui.static": "the pages' style sheet and scripts: they hold no data",
    "api.document": "describes, holds no data",
    "api.docs": "describes, holds no data",
    "api.style": "describes, holds no data",
    "api.login": "is how one gets a credential",
    "api.netbox_event": "is signed by NetBox instead",
    "metrics_page": "asks for a token itself; see tests/web/test_scraped.py",
}


def refused(api: Api, operation: Operation, bearer: str) -> int:
    """The status of the operation with this credential."""
    body = {} if operation.body is not None else None
    return api.ask(operation.method, path_of(operation), body, bearer=bearer, match="*").status


def test_s10_every_route_of_the_admin_plane_is_in_the_table_or_is_open_for_a_reason(api: Api) -> None:
    # Pages have a table of their own, walked in tests/web/test_ui_frame.py.
    pages = {f"page.{page.name}" for page in ui.pages()}
    known = {f"api.{operation.id}" for operation in table()} | set(OPEN) | pages
    assert {rule.endpoint for rule in api.app.url_map.iter_rules()} <= known


def test_s10_every_operation_has_a_right_or_says_that_it_has_none() -> None:
    bare = {f"api.{operation.id}" for operation in table() if operation.public}
    assert bare == {name for name in OPEN if name.startswith("api.")} - {"api.document", "api.docs", "api.style"}
    assert {operation.id for operation in table() if operation.noun is None and not operation.public} == {
        "show_me",
        "change_own_password",
        "logout",
    }


def test_s10_s11_no_route_answers_without_a_good_credential(api: Api) -> None:
    good = api.bearer("admin")
    revoked = tokens.add(api.site, ACTOR, "admin-user", "revoked", {})["token"]
    tokens.revoke(api.site, ACTOR, "revoked")
    expired = tokens.add(api.site, ACTOR, "admin-user", "expired", {})["token"]
    with write(api.site.engine) as session:
        session.execute(update(ApiToken).where(ApiToken.name == "expired").values(expires_at=datetime.now(UTC)))
    kind, uid, secret = good.split("_", 2)
    wrong = f"{kind}_{uid}_{secret[:-4]}AAAA"
    assert api.ask("GET", "/machines", bearer=good).status == 200
    for operation in table():
        if operation.public:
            continue
        for bearer in ("", "nonsense", wrong, revoked, expired, f"pvs_{uid}_{secret}", "pvt__", good.upper()):
            assert refused(api, operation, bearer) == 401, (operation.id, bearer[:8])


def test_s11_s16_no_role_does_more_than_its_rights(api: Api) -> None:
    """The whole matrix: each operation with a credential of each role is refused with 403 exactly where policy says."""
    for role in ROLES:
        bearer = api.bearer(role)
        for operation in table():
            if operation.noun is None:
                continue
            may = allows(Role(role), operation.noun, operation.verb)
            if may and role == "admin":
                continue  # what it may do is tested where it is done
            status = refused(api, operation, bearer) if not may else 0
            assert may or status == 403, (role, operation.id, status)


def test_s11_a_scope_opens_its_nouns_alone(api: Api) -> None:
    assert api.ask("GET", "/machines", scope=("machines",)).status == 200
    for path in ("/profiles", "/users", "/history", "/webhooks", "/subnets"):
        assert api.ask("GET", path, scope=("machines",)).status == 403
    assert api.ask("GET", "/me", scope=("machines",)).json()["scope"] == ["machines"]


def test_s10_options_and_other_methods_tell_nothing(api: Api) -> None:
    for operation in table():
        for method in ("OPTIONS", "TRACE", "PROPFIND"):
            assert api.ask(method, path_of(operation), bearer="").status in {404, 405}


def test_s17_disabled_demoted_expired_removed_users_are_out_at_the_next_request(api: Api) -> None:
    bearer = api.bearer("operator")
    assert api.ask("GET", "/machines", bearer=bearer).status == 200
    people.edit(api.site, ACTOR, "operator-user", {"disabled": True})
    assert api.ask("GET", "/machines", bearer=bearer).status == 401
    people.edit(api.site, ACTOR, "operator-user", {"disabled": False, "role": "viewer"})
    assert api.ask("GET", "/machines", bearer=bearer).status == 200
    assert api.ask("POST", "/machines", {}, bearer=bearer).status == 403, "the token says operator, its owner is less"
    people.remove(api.site, ACTOR, "operator-user")
    assert api.ask("GET", "/machines", bearer=bearer).status == 401


def test_s18_headers_of_proxies_give_nobody_rights(api: Api) -> None:
    for header in ("X-Remote-User", "Remote-User", "X-Forwarded-User", "SSL_CLIENT_S_DN", "X-Real-IP"):
        assert api.ask("GET", "/machines", bearer="", headers={header: "admin"}).status == 401
    assert api.ask("GET", "/machines", bearer="", headers={"Cookie": f"session={api.bearer('admin')}"}).status == 401


def test_s13_internal_names_are_no_verbs_sorts_or_filters(api: Api) -> None:
    for name in ("__init__", "_private", "query", "metadata", "password_hash", "__class__"):
        assert api.ask("GET", f"/{name}").status == 404
        assert api.ask("POST", f"/machines/web01:{name}", {}).status in {404, 405}
        for noun in ("machines", "users", "tokens", "builds"):
            assert api.ask("GET", f"/{noun}?sort={name}").status == 400, (noun, name)
            assert api.ask("GET", f"/{noun}?{name}=x").status == 400, (noun, name)
