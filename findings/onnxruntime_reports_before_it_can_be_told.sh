#!/usr/bin/env bash
# onnxruntime 1.32.0 (Linux x86-64, Python 3.11), seen 2026-11-30.
#
# One would guess: `onnxruntime.disable_telemetry_events()`, called right after the import, means that nothing is
# recorded and nothing written.
# What happens: importing is enough for a device id and an event database below ~/.cache/Microsoft; the function
# comes too late for both. ORT_DISABLE_TELEMETRY=1 in the environment before the import keeps the home empty; set
# in os.environ by the same Python before the import it counts, too.
# (A process that lives for some ten seconds also looks up its makers' host; each run here ends before that, and
# has no network where `unshare` gives a namespace of its own.)
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check onnxruntime==1.32.0 numpy

alone=()
if unshare -rn true 2> /dev/null; then alone=(unshare -rn); fi
files() {  # the number of files that a fresh home holds after `$2` was run by Python with the environment `$1`
  local home; home=$(mktemp -d -p "$work")
  env -u XDG_CACHE_HOME -u ORT_DISABLE_TELEMETRY HOME="$home" ${1:+"$1"} "${alone[@]}" "$work/venv/bin/python" -c "$2"
  find "$home" -type f | wc -l
}
plain=$(files "" "import onnxruntime")
told=$(files "" "import onnxruntime; onnxruntime.disable_telemetry_events()")
outside=$(files "ORT_DISABLE_TELEMETRY=1" "import onnxruntime")
inside=$(files "" "import os; os.environ['ORT_DISABLE_TELEMETRY'] = '1'; import onnxruntime")
printf 'files in a fresh home: after the import %s, with disable_telemetry_events() %s,\n' "$plain" "$told"
printf 'with the variable set outside %s, set by Python before the import %s\n' "$outside" "$inside"
[ "$plain" -gt 0 ] && [ "$told" -gt 0 ] && [ "$outside" -eq 0 ] && [ "$inside" -eq 0 ]
