"""`provisioner webhook`, as an administrator uses it."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from receiver import SECRET, plain, receiver
from world import ACTOR

from provisioner.services import deliveries

pytestmark = pytest.mark.slow


def test_from_nothing_to_a_delivery_that_is_sent_again(empty: Any) -> None:
    empty.environment["PROVISIONER_WEBHOOK_NETWORKS"] = "127.0.0.0/8"
    assert "provisioner webhook add chat --url" in empty.cli("webhook", "list").stdout
    with receiver() as chat:
        added = empty.cli("webhook", "add", "chat", "--url", chat.url(), "--event", "machine.*").stdout
        key = re.search(r"secret: (\S+)   \(shown only now\)", added)
        assert key is not None
        assert "status 204" in empty.cli("webhook", "test", "chat").stdout
        assert chat.got[0].signed(key.group(1))
        assert "No deliveries yet" in empty.cli("webhook", "deliveries", "chat").stdout
        empty.cli("machine", "add", "web01", "--mac", "52:54:00:12:34:56")
        site = empty.site
        deliveries.queue_news(site)
        (batch,) = [deliveries.claim(site, each) for each in deliveries.due(site)]
        assert batch is not None
        deliveries.settle(site, batch, {job.uid: deliveries.send(site, batch, job) for job in batch.jobs})
        site.engine.dispose()
        listed = empty.cli("webhook", "deliveries", "chat").stdout
        assert re.search(r"machine\.added +web01 +delivered +1 +204", listed)
        (row,) = empty.cli_json("webhook", "deliveries", "chat")
        assert "sent again within a second" in empty.cli("webhook", "redeliver", row["uid"]).stdout
        assert empty.cli_json("webhook", "show", "chat")["waiting"] == 1
    assert key.group(1) not in json.dumps(
        [empty.cli_json("webhook", "show", "chat"), empty.cli_json("webhook", "list")]
    )
    for form in ("yaml", "csv", "table"):
        assert key.group(1) not in empty.cli("webhook", "show", "chat", "-o", form).stdout


def test_a_ping_that_is_not_taken_is_an_error(empty: Any) -> None:
    empty.environment["PROVISIONER_WEBHOOK_NETWORKS"] = "127.0.0.0/8"
    with receiver(lambda handler, _: plain(handler, 418, b"canary")) as chat:
        empty.cli("webhook", "add", "chat", "--url", chat.url(), "--disabled")
        done = empty.cli("webhook", "test", "chat", code=1)
    assert "did not take it: answered 418" in done.stdout
    assert "canary" not in done.stdout + done.stderr


@pytest.mark.parametrize("by", ["stdin", "file"])
def test_a_secret_is_never_an_argument(empty: Any, tmp_path: Path, by: str) -> None:
    (tmp_path / "secret").write_text(SECRET + "\n")
    source = "-" if by == "stdin" else str(tmp_path / "secret")
    done = empty.cli(
        "webhook", "add", "chat", "--url", "http://10.0.9.5/x", "--secret-file", source, stdin=SECRET + "\n"
    )
    assert SECRET not in done.stdout + done.stderr
    assert "shown only now" not in done.stdout
    site = empty.site
    from provisioner.store.engine import read
    from provisioner.store.webhooks import Webhook

    with read(site.engine) as session:
        assert deliveries.key_of(site, session.query(Webhook).one()) == SECRET
    site.engine.dispose()


def test_s62_another_host_disables_it_and_says_what_to_do(empty: Any) -> None:
    empty.cli("webhook", "add", "chat", "--url", "https://10.0.9.5/x")
    done = empty.cli("webhook", "edit", "chat", "--url", "https://10.0.9.6/x")
    assert "-enabled: true" in done.stdout
    assert "+secret: null" in done.stdout
    assert "provisioner webhook edit chat --secret-file" in done.stderr
    assert "[conflict]" in empty.cli("webhook", "edit", "chat", "--enabled", code=4).stderr
    assert "shown only now" in empty.cli("webhook", "edit", "chat", "--new-secret", "--enabled").stdout
    assert empty.cli_json("webhook", "show", "chat")["enabled"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--url", "file:///etc/passwd"), "only http and https"),
        (("--url", "http://127.0.0.1/"), "webhook_networks"),
        (("--url", "http://u:p@10.0.9.5/"), "user or password"),
        (("--url", "http://10.0.9.5/", "--event", "build.faild"), "did you mean build.failed?"),
        (("--url", "http://10.0.9.5/", "--secret-file", "/does/not/exist"), "check the file"),
    ],
)
def test_wrong_input_says_what_to_do(empty: Any, words: tuple[str, ...], said: str) -> None:
    done = empty.cli("webhook", "add", "chat", *words, code=1)
    assert said in done.stderr
    assert "next: " in done.stderr
    assert empty.cli_json("webhook", "list") == []


def test_rename_remove_and_dry_run(empty: Any) -> None:
    dry = empty.cli("webhook", "add", "chat", "--url", "http://10.0.9.5/x", "--dry-run").stdout
    assert "+url: http://10.0.9.5/x" in dry
    assert empty.cli_json("webhook", "list") == []
    empty.cli("webhook", "add", "chat", "--url", "http://10.0.9.5/x")
    dry = empty.cli("webhook", "edit", "chat", "--event", "build.*", "--new-secret", "--dry-run").stdout
    assert "shown only now" not in dry
    assert empty.cli_json("webhook", "show", "chat")["events"] == []
    empty.cli("webhook", "rename", "chat", "talk")
    empty.cli("webhook", "remove", "talk", "--yes")
    assert empty.cli_json("webhook", "list") == []
    assert ACTOR.who


PYTHON = '''
import hashlib, hmac, sys, time

def genuine(secret: str, headers: dict[str, str], body: bytes) -> bool:
    """Whether a delivery is from Provisioner and not older than five minutes."""
    stamp = headers["X-Provisioner-Timestamp"]
    digest = hmac.new(secret.encode(), stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    fresh = abs(time.time() - int(stamp)) < 300
    return fresh and hmac.compare_digest(f"sha256={digest}", headers["X-Provisioner-Signature"])
'''
SHELL = """printf '%s.' "$TIMESTAMP" | cat - body.json | openssl dgst -sha256 -hmac "$SECRET" | sed 's/.*= /sha256=/'"""


def test_the_recipes_for_receivers_work(empty: Any, tmp_path: Path) -> None:
    """Those of docs/api.md: ten lines of Python, and openssl in a shell."""
    empty.environment["PROVISIONER_WEBHOOK_NETWORKS"] = "127.0.0.0/8"
    with receiver() as chat:
        empty.cli("webhook", "add", "chat", "--url", chat.url(), "--secret-file", "-", stdin=SECRET)
        empty.cli("webhook", "test", "chat")
    (got,) = chat.got
    headers = {
        "X-Provisioner-" + each.title(): got.headers[f"x-provisioner-{each}"] for each in ("timestamp", "signature")
    }
    names: dict[str, Any] = {}
    exec(PYTHON, names)
    assert names["genuine"](SECRET, headers, got.body)
    assert not names["genuine"](SECRET, headers, got.body + b" ")
    assert not names["genuine"]("another", headers, got.body)
    old = headers | {"X-Provisioner-Timestamp": str(int(time.time()) - 301)}
    assert not names["genuine"](SECRET, old, got.body)
    (tmp_path / "body.json").write_bytes(got.body)
    told = os.environ | {"SECRET": SECRET, "TIMESTAMP": headers["X-Provisioner-Timestamp"]}
    done = subprocess.run(["sh", "-c", SHELL], cwd=tmp_path, env=told, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == headers["X-Provisioner-Signature"]
    assert sys.version_info >= (3, 11)
