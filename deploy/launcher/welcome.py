"""What `floodgate up` prints when it is ready: commands that work when they are pasted."""

import json
import os
import sys
from pathlib import Path

from rich.console import Console

from deploy.sample_requests import Sample

_CURL = """\
export FLOODGATE_API_KEY=$(curl -sS {url}/invites/redeem \\
  -H 'content-type: application/json' \\
  -d '{{"code": "{code}", "email": "you+{tag}@example.com"}}' \\
  | sed -E 's/.*"api_key": *"([^"]+)".*/\\1/')
curl -sSN {url}/v1/{endpoint} \\
  -H "authorization: Bearer $FLOODGATE_API_KEY" -H 'content-type: application/json' \\
  -d '{body}'
"""
_PYTHON = """\
{python} - <<'EOF'
import json, urllib.request
from openai import OpenAI
body = json.dumps({{"code": "{code}", "email": "me+{tag}@example.com"}}).encode()
headers = {{"content-type": "application/json"}}
redeem = urllib.request.Request("{url}/invites/redeem", body, headers)
api_key = json.load(urllib.request.urlopen(redeem))["api_key"]
print("Your key:", api_key)
client = OpenAI(base_url="{url}/v1", api_key=api_key)
MODEL = "{model}"
{sample}
EOF
"""


def print_welcome(
    console: Console,
    *,
    url: str,
    model: str,
    sample: Sample,
    codes: tuple[str, str],
    tag: str,
) -> None:
    """`tag` makes the addresses new, as each address can have one account."""
    python, floodgate = _shown(Path(sys.executable)), _shown(Path(sys.argv[0]))
    curl_code, python_code = codes
    body = json.dumps({"model": model, **sample.body})
    curl = _CURL.format(url=url, endpoint=sample.endpoint, body=body, code=curl_code, tag=tag)
    sdk = _PYTHON.format(
        url=url, model=model, sample=sample.python, code=python_code, tag=tag, python=python
    )
    lines = [
        "",
        f"Floodgate serves {model} at {url}",
        f"Invite code: {curl_code}",
        "",
        "Redeem it and chat, with curl:",
        "",
        curl,
        "The same with the OpenAI Python SDK and a code of its own:",
        "",
        sdk,
        f"More codes: {floodgate} invites create. State: {floodgate} status. Stop: Ctrl-C here.",
    ]
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _shown(program: Path) -> str:
    """A path that works in the shell that `floodgate up` was started from, short if it can be."""
    relative = os.path.relpath(program)
    return str(program) if relative.startswith("..") else relative
