"""S80: what is write-only is in no answer, whatever is asked: planted canaries are looked for in all of them."""

from asking import PASSWORD, Api, path_of, table
from loggedin import secret_of
from world import World

SECRET = "canary-secret-of-a-machine"
HOOK = "canary-secret-of-a-webhook"


def test_s80_no_answer_holds_a_secret_a_password_a_token_or_a_hash(api: Api, world: World) -> None:
    world.ready()
    etag = api.ask("GET", "/machines/web01").etag
    for name in ("root_password", "license"):
        put = api.ask("PUT", f"/machines/web01/secrets/{name}", {"value": SECRET}, match=etag)
        assert put.status == 204, put.text()
        etag = api.ask("GET", "/machines/web01").etag
    body = {"name": "chat", "url": "https://chat.example.com/hook", "secret": HOOK}
    assert api.ask("POST", "/webhooks", body).status == 201
    for role in ("viewer", "operator"):
        api.bearer(role)
    armed = api.ask("POST", "/machines/web01/builds", {}).json()
    secrets = [SECRET, HOOK, PASSWORD, "$argon2", "$6$", "$y$", *map(secret_of, api.bearers.values())]
    asked = 0
    for operation in table():
        if operation.method != "GET":
            continue
        path = path_of(operation).replace("/builds/1", f"/builds/{armed['id']}")
        for found in (path, path.replace("web01", "chat"), path.replace("web01", "admin-user"), f"{path}?limit=500"):
            told = api.ask("GET", found).text()
            asked += 1
            for secret in secrets:
                assert secret not in told, (found, secret[:6])
    for method, path, sent in (
        ("PATCH", "/machines/web01", {"description": "x"}),
        ("PATCH", "/users/admin-user", {"password": "another long password"}),
        ("PATCH", "/webhooks/chat", {"secret": HOOK}),
        ("POST", "/machines:plan", {"machines": [{"name": "web01", "description": "y"}]}),
        ("POST", f"/builds/{armed['id']}:cancel", None),
        ("POST", f"/builds/{armed['id']}:repeat", None),
        ("POST", "/users", {"name": "x", "password": SECRET, "role": "no-such-role"}),
        ("POST", "/sessions", {"user": "admin-user", "password": f"{PASSWORD} wrong"}),
    ):
        told = api.ask(method, path, sent, match="*").text()
        for secret in secrets:
            assert secret not in told, (method, path)
    assert asked > 100
    verified = api.ask("GET", "/history:verify").json()
    assert verified == {"problems": []}


def test_s81_the_canaries_are_in_no_row_of_the_database_in_clear(api: Api, world: World) -> None:
    world.ready()
    etag = api.ask("GET", "/machines/web01").etag
    api.ask("PUT", "/machines/web01/secrets/license", {"value": SECRET}, match=etag)
    api.ask("POST", "/webhooks", {"name": "chat", "url": "https://chat.example.com/hook", "secret": HOOK})
    api.site.engine.dispose()
    files = [path for path in api.site.settings.state_dir.rglob("*") if path.is_file()]
    held = b"".join(path.read_bytes() for path in files)
    for secret in (SECRET, HOOK, PASSWORD, secret_of(api.bearer())):
        assert secret.encode() not in held
