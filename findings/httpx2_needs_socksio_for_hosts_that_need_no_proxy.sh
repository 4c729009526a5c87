#!/usr/bin/env bash
# httpx2 2.16.2, under openai 3.57.0 (Python 3.11), seen 2026-11-30.
#
# One would guess: with ALL_PROXY=socks5://... and the endpoint's host in NO_PROXY (a local server, say) the proxy
# plays no part, so the optional package for SOCKS is not needed.
# What happens: a transport is built for each proxy variable when the client is made, before any host is known. Without
# socksio that is an ImportError: `openai.OpenAI(...)` cannot be made at all, wherever it was to go.
# With trust_env=False it is made, and reads neither proxies nor SSL_CERT_FILE from the environment.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check openai==3.57.0 httpx2==2.16.2
cat > "$work/look.py" <<'PYTHON'
import httpx2, openai


def made(**options):
    try:
        openai.OpenAI(api_key="none", base_url="http://127.0.0.1:1/v1", **options)
        return "made"
    except ImportError as error:
        return f"ImportError: {error}"


plain, told = made(), made(http_client=httpx2.Client(trust_env=False))
print("for a host in NO_PROXY:", plain)
print("with trust_env=False:", told)
assert plain.startswith("ImportError") and told == "made"
PYTHON
env ALL_PROXY=socks5://127.0.0.1:9 NO_PROXY=localhost,127.0.0.1 "$work/venv/bin/python" "$work/look.py"
