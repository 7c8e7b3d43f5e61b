"""The documentation page: made from the OpenAPI document, without scripts, so that it works on an offline network."""

import json
from html import escape
from typing import Any

from flask import Response

_STYLE = """
:root{color-scheme:light dark;--line:#8886;--soft:#8882;--accent:#06c}
@media(prefers-color-scheme:dark){:root{--accent:#6af}}
body{font:16px/1.5 system-ui,sans-serif;margin:0 auto;max-width:60rem;padding:1rem}
a{color:var(--accent)} code,pre{font:14px/1.45 ui-monospace,monospace}
pre{background:var(--soft);padding:.75rem;overflow:auto;border-radius:.4rem}
details{border:1px solid var(--line);border-radius:.4rem;margin:.5rem 0;padding:.25rem .75rem}
summary{cursor:pointer} summary b{display:inline-block;min-width:4.5rem}
table{border-collapse:collapse;width:100%} td,th{border-top:1px solid var(--line);padding:.3rem .5rem;text-align:left;
vertical-align:top} nav a{margin-right:.8rem;white-space:nowrap}
"""
_INTRO = """<p>Every call needs <code>Authorization: Bearer TOKEN</code>: make one with <code>provisioner token add
NAME</code>. A change of an existing object needs <code>If-Match</code> with the <code>ETag</code> you read. Errors are
problem+json with <code>code</code>, <code>detail</code>, <code>hint</code> and the <code>pointer</code> of the bad
field. The machine-readable document: <a href="openapi.json">openapi.json</a>.</p>
<pre>curl -H "Authorization: Bearer $TOKEN" https://SERVER:8443/api/v1/machines</pre>"""


def page(document: dict[str, Any]) -> Response:
    """The page as an answer, with a policy that lets nothing in but its own style."""
    refusals = document["components"]["responses"]
    body = [f"<h1>{escape(document['info']['title'])} API <small>{escape(document['info']['version'])}</small></h1>"]
    body.append(_INTRO)
    tags = [tag["name"] for tag in document["tags"]]
    body.append("<nav>" + "".join(f'<a href="#{escape(tag)}">{escape(tag)}</a>' for tag in tags) + "</nav>")
    for tag in tags:
        body.append(f'<h2 id="{escape(tag)}">{escape(tag)}</h2>')
        for path, methods in document["paths"].items():
            body += [
                _operation(path, method, each, refusals) for method, each in methods.items() if tag in each["tags"]
            ]
    body.append("<h2>Shapes</h2>")
    for name, schema in sorted(document["components"]["schemas"].items()):
        text = escape(json.dumps(schema, indent=2))
        body.append(f'<details id="shape-{escape(name)}"><summary>{escape(name)}</summary><pre>{text}</pre></details>')
    html = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Provisioner API</title>'
        '<meta name="viewport" content="width=device-width"><link rel="stylesheet" href="docs.css"></head>'
        f"<body>{''.join(body)}</body></html>"
    )
    return Response(html, content_type="text/html; charset=utf-8", headers=_headers())


def style() -> Response:
    """The page's style sheet."""
    return Response(_STYLE, content_type="text/css; charset=utf-8")


def _headers() -> dict[str, str]:
    return {
        "Content-Security-Policy": "default-src 'none'; style-src 'self'; frame-ancestors 'none'; base-uri 'none'",
        "Referrer-Policy": "no-referrer",
    }


def _operation(path: str, method: str, operation: dict[str, Any], refusals: dict[str, Any]) -> str:
    rows = [
        f"<tr><td><code>{escape(each['name'])}</code></td><td>{escape(each['in'])}</td>"
        f"<td>{escape(each.get('description', ''))}</td></tr>"
        for each in operation["parameters"]
    ]
    parameters = f"<table><tr><th>parameter<th>in<th></tr>{''.join(rows)}</table>" if rows else ""
    body = _shape("body", operation.get("requestBody", {}).get("content", {}))
    answers = []
    for status, told in operation["responses"].items():
        answer = refusals[told["$ref"].rsplit("/", 1)[1]] if "$ref" in told else told
        words = escape(answer["description"])
        answers.append(f"<tr><td>{status}</td><td>{words}{_shape('', answer.get('content', {}))}</td></tr>")
    right = f"<p>right: <code>{escape(operation['x-right'])}</code></p>" if "x-right" in operation else ""
    summary = f"<b>{method.upper()}</b> <code>{escape(path)}</code> {escape(operation['summary'])}"
    return (
        f"<details><summary>{summary}</summary>"
        f"<p>{escape(operation.get('description', ''))}</p>{right}{parameters}{body}"
        f"<table><tr><th>answer<th></tr>{''.join(answers)}</table></details>"
    )


def _shape(label: str, content: dict[str, Any]) -> str:
    for media in content.values():
        reference = media["schema"].get("$ref", "")
        if reference:
            name = escape(reference.rsplit("/", 1)[1])
            return f' <span>{label} <a href="#shape-{name}">{name}</a></span>'
    return ""
