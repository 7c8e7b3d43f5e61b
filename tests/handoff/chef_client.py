"""A stand-in chef-client: records how it was called and what it found, and asks the server with the node's own key.

It signs with the openssl program and asks with curl, so that it shares nothing with our own signing.
"""

import json
import sys
from pathlib import Path
from typing import Any

from tests.handoff.onhost import OnHost

_PROGRAM = r"""#!@python@ -I
import base64, datetime, hashlib, json, os, re, stat, subprocess, sys, urllib.parse

record, exits = "@record@", "@exits@"
arguments = sys.argv[1:]
config_file = arguments[arguments.index("-c") + 1]
first_boot = json.load(open(arguments[arguments.index("-j") + 1]))
config = dict(re.findall(r"^(\w+) '?([^'\n]*)'?$", open(config_file).read(), re.M))
key = config["client_key"]
found = {
    "program": os.path.basename(sys.argv[0]),
    "arguments": arguments,
    "config": config,
    "first_boot": first_boot,
    "key_mode": oct(stat.S_IMODE(os.stat(key).st_mode)),
    "certificates": sorted(os.listdir(config["trusted_certs_dir"])),
}


def digest(content):
    return base64.b64encode(hashlib.sha256(content).digest()).decode()


def ask(method, path, body=b""):
    url = config["chef_server_url"] + path
    at = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    text = (
        f"Method:{method}\nPath:{urllib.parse.urlsplit(url).path}\nX-Ops-Content-Hash:{digest(body)}\n"
        f"X-Ops-Sign:version=1.3\nX-Ops-Timestamp:{at}\nX-Ops-UserId:{config['node_name']}\nX-Ops-Server-API-Version:1"
    )
    command = ["openssl", "dgst", "-sha256", "-sign", key]
    done = subprocess.run(command, input=text.encode(), capture_output=True, check=True)
    signature = base64.b64encode(done.stdout).decode()
    headers = {
        "Accept": "application/json", "Content-Type": "application/json", "X-Chef-Version": "18.0.0",
        "X-Ops-Server-API-Version": "1", "X-Ops-Sign": "algorithm=sha256;version=1.3;",
        "X-Ops-Userid": config["node_name"], "X-Ops-Timestamp": at, "X-Ops-Content-Hash": digest(body),
    }
    for number in range(0, len(signature), 60):
        headers[f"X-Ops-Authorization-{number // 60 + 1}"] = signature[number : number + 60]
    command = ["curl", "-sS", "-w", "\n%{http_code}", "-X", method, url, "--data-binary", "@-"]
    for name in found["certificates"]:
        command += ["--cacert", os.path.join(config["trusted_certs_dir"], name)]
    for name, value in headers.items():
        command += ["-H", f"{name}: {value}"]
    done = subprocess.run(command, input=body, capture_output=True)
    told, _, status = done.stdout.decode().rpartition("\n")
    sys.stderr.write(done.stderr.decode())
    return int(status or 0), told


status, told = ask("GET", "/nodes/" + config["node_name"])
found["status"] = status
with open(record, "a") as file:
    file.write(json.dumps(found) + "\n")
print("Starting Chef Infra Client")
if status != 200:
    print(f"FATAL: {status} {told}")
    sys.exit(1)
node = json.loads(told)
node["automatic"] = {"platform": "stand-in"}
status, told = ask("PUT", "/nodes/" + config["node_name"], json.dumps(node).encode())
if status != 200:
    print(f"FATAL: cannot save the node: {status} {told}")
    sys.exit(1)
code = 0
if os.path.exists(exits):
    codes = open(exits).read().split()
    code = int(codes.pop(0)) if codes else 0
    open(exits, "w").write(" ".join(codes))
print("Chef Infra Client finished, 1/1 resources updated" if not code else f"Chef Infra Client ends with {code}")
sys.exit(code)
"""


def add_client(machine: OnHost, name: str = "chef-client", exits: str = "") -> None:
    """Put it onto the machine; ``exits`` are the exit statuses of its runs, in order, and then 0."""
    text = _PROGRAM.replace("@python@", sys.executable)
    text = text.replace("@record@", str(machine.root / "chef.runs")).replace(
        "@exits@", str(machine.root / "chef.exits")
    )
    machine.program(name, text)
    (machine.root / "chef.exits").write_text(exits)


def runs(machine: OnHost) -> list[dict[str, Any]]:
    """What it found in each of its runs."""
    path: Path = machine.root / "chef.runs"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
