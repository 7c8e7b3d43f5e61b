"""`provisioner puppet-autosign`, the CA's policy executable: a clear yes is a yes, everything else is a no."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from provisioner.cli import puppet
from provisioner.cli.root import cli

CSR = "-----BEGIN CERTIFICATE REQUEST-----\nMII\n-----END CERTIFICATE REQUEST-----\n"


@dataclass
class Answers:
    """A stand-in for Provisioner: what it answers, one after the other, and what it was asked."""

    url: str = ""
    answers: list[tuple[int, Any]] = field(default_factory=list)
    asked: list[tuple[str, str, Any]] = field(default_factory=list)
    hang: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def there() -> Iterator[Answers]:
    answers = Answers()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answers.asked.append((self.path, self.headers["Authorization"], body))
            if not answers.answers:
                answers.hang.wait(60)
                return
            status, said = answers.answers.pop(0)
            text = said.encode() if isinstance(said, str) else json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json" if status < 400 else "application/problem+json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    answers.url = f"http://127.0.0.1:{server.server_port}"
    yield answers
    answers.hang.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for long."""
    monkeypatch.setattr(puppet, "_ANSWER_SECONDS", 0.5)
    monkeypatch.setattr(puppet, "_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(puppet, "_PATIENCE_SECONDS", 0.5)


def config(tmp_path: Path, text: str, mode: int = 0o600) -> Path:
    file = tmp_path / "autosign.yaml"
    file.write_text(text)
    file.chmod(mode)
    return file


def run(tmp_path: Path, url: str, *words: str, environment: dict[str, str] | None = None) -> Result:
    """As the CA runs it, with the request on standard input."""
    file = config(tmp_path, f"url: {url}\ntoken: pvt_abc\n")
    arguments = ["puppet-autosign", "--config", str(file), *(words or ("web01.example.com",))]
    return CliRunner().invoke(cli, arguments, input=CSR, env=environment)


def test_s29_a_clear_yes_is_a_yes(there: Answers, tmp_path: Path) -> None:
    there.answers = [(200, {"verdict": "sign"})]
    done = run(tmp_path, there.url)
    assert (done.exit_code, done.output) == (0, "")
    body = {"certname": "web01.example.com", "csr": CSR}
    assert there.asked == [("/api/v1/handoffs/puppet:autosign", "Bearer pvt_abc", body)]


@pytest.mark.parametrize(
    "answer",
    [
        (200, {"verdict": "refuse"}),
        (200, {"verdict": "SIGN"}),
        (200, {"verdict": ["sign"]}),
        (200, {}),
        (200, ["sign"]),
        (200, "no JSON"),
        (204, ""),
        (401, {"code": "not-logged-in", "detail": "no"}),
        (403, {"code": "forbidden", "detail": "no"}),
        (500, {"code": "internal", "detail": "no"}),
        (503, "proxy"),
    ],
)
@pytest.mark.usefixtures("quick")
def test_s29_everything_else_is_a_no(there: Answers, tmp_path: Path, answer: tuple[int, Any]) -> None:
    there.answers = [answer]
    done = run(tmp_path, there.url)
    assert done.exit_code == 1
    assert len(there.asked) == 1
    assert CSR not in done.output


@pytest.mark.usefixtures("quick")
def test_it_asks_again_while_the_answer_is_later(
    there: Answers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there.answers = [(200, {"verdict": "later"})] * 2 + [(200, {"verdict": "sign"})]
    assert run(tmp_path, there.url).exit_code == 0
    monkeypatch.setattr(puppet, "_PATIENCE_SECONDS", -1.0)
    there.answers = [(200, {"verdict": "later"})] * 2
    assert run(tmp_path, there.url).exit_code == 1
    assert len(there.asked) == 4


@pytest.mark.usefixtures("quick")
def test_a_request_that_may_have_been_answered_is_not_sent_twice(there: Answers, tmp_path: Path) -> None:
    """The yes may be lost on its way: it is said once."""
    done = run(tmp_path, there.url)
    assert done.exit_code == 1
    assert "gave no answer" in done.output
    assert len(there.asked) == 1


@pytest.mark.usefixtures("quick")
def test_a_server_that_is_not_there_is_a_no(tmp_path: Path) -> None:
    done = run(tmp_path, "http://127.0.0.1:1")
    assert done.exit_code == 1
    assert "cannot be reached" in done.output


def test_whatever_hangs_ends_in_time_with_a_no(there: Answers, tmp_path: Path) -> None:
    file = config(tmp_path, f"url: {there.url}\ntoken: pvt_abc\n")
    code = (
        "from provisioner.cli import puppet, main\nimport sys\n"
        "puppet._AT_MOST_SECONDS = 1\n"
        f"sys.argv = ['provisioner', 'puppet-autosign', '--config', {str(file)!r}, 'web01']\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", code], input=CSR, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "did not answer in time" in done.stderr


@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [
        ("url: https://x\ntoken: pvt_abc\n", 0o644, "chmod 600"),
        ("token: pvt_abc\n", 0o600, "names no url"),
        ("url: https://x\npassword: x\n", 0o600, "it takes url, token"),
        ("url: [1]\n", 0o600, "it takes url, token"),
        ("- x\n", 0o600, "it takes url, token"),
        ("url: https://x\n", 0o600, "wants a credential"),
        ("url: ftp://x\ntoken: pvt_abc\n", 0o600, "not a server's URL"),
        ("url: https://x\ntoken: pvt_abc\nfingerprint: x\n", 0o600, "not a SHA-256 fingerprint"),
    ],
)
def test_a_bad_file_is_a_no_that_says_what_is_wrong(tmp_path: Path, text: str, mode: int, said: str) -> None:
    file = config(tmp_path, text, mode)
    done = CliRunner().invoke(cli, ["puppet-autosign", "--config", str(file), "web01"], input=CSR)
    assert done.exit_code == 1
    assert said in " ".join(done.output.split())
    assert "pvt_abc" not in done.output


def test_without_a_file_the_environment_counts(there: Answers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(puppet, "CONFIG", tmp_path / "none.yaml")
    there.answers = [(200, {"verdict": "sign"})]
    environment = {"PROVISIONER_URL": there.url, "PROVISIONER_TOKEN": "pvt_other"}
    done = CliRunner().invoke(cli, ["puppet-autosign", "web01"], input=CSR, env=environment)
    assert done.exit_code == 0
    assert there.asked[0][1] == "Bearer pvt_other"
    alone = CliRunner().invoke(cli, ["puppet-autosign", "web01"], input=CSR, env={"PROVISIONER_URL": ""})
    assert alone.exit_code == 1
    assert "nothing says where Provisioner is" in alone.output


def test_a_file_counts_before_the_environment(there: Answers, tmp_path: Path) -> None:
    there.answers = [(200, {"verdict": "sign"})]
    assert run(tmp_path, there.url, environment={"PROVISIONER_URL": "http://127.0.0.1:1"}).exit_code == 0


def test_check_says_whether_provisioner_answers(there: Answers, tmp_path: Path) -> None:
    there.answers = [(200, {"verdict": "refuse"}), (401, {"code": "not-logged-in", "detail": "no"})]
    assert "takes this token" in run(tmp_path, there.url, "--check").output
    assert run(tmp_path, there.url, "--check").exit_code == 1


def test_a_missing_name_is_a_mistake_in_the_call(there: Answers, tmp_path: Path) -> None:
    file = config(tmp_path, f"url: {there.url}\ntoken: pvt_abc\n")
    assert CliRunner().invoke(cli, ["puppet-autosign", "--config", str(file)], input=CSR).exit_code == 2
