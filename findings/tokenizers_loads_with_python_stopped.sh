#!/usr/bin/env bash
# tokenizers 0.23.3 (Hugging Face), seen 2026-11-30.
#
# One would guess: a library in Rust reads a file without holding Python up, so that a program may load its tokenizer in
# one thread and its model in another, and a server that loads a second model goes on answering.
# What happens: Tokenizer.from_file and from_str hold the interpreter's lock nearly from the first byte to the last, some
# 50 ms for fifty thousand tokens and merges, 250 ms for 120,000: no other thread of Python takes a step meanwhile. encode_batch lets them run. What starts both loads "at once" gains nothing, and a token that streams waits.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check tokenizers==0.23.3
cat > look.py <<'PYTHON'
import itertools
import json
import sys
import threading
import time

from tokenizers import Tokenizer

letters = [chr(97 + at) for at in range(26)]
pairs = ["".join(pair) for pair in itertools.product(letters, repeat=2)]
longer = [first + second for first, second in itertools.islice(itertools.product(pairs, pairs), 120_000)]
vocabulary = {word: at for at, word in enumerate([*letters, *pairs, *longer])}
merges = [*([pair[0], pair[1]] for pair in pairs), *([word[:2], word[2:]] for word in longer)]
model = {"type": "BPE", "vocab": vocabulary, "merges": merges, "unk_token": None}
with open("tokenizer.json", "w") as file:
    json.dump({"version": "1.0", "added_tokens": [], "model": model}, file)


def gap(work):
    """Seconds that `work` takes, and the longest for which another thread, which counts, could not go on."""
    longest, ended = 0.0, threading.Event()
    sys.setswitchinterval(0.001)

    def count():
        nonlocal longest
        last = time.perf_counter()
        while not ended.is_set():
            now = time.perf_counter()
            longest, last = max(longest, now - last), now

    thread = threading.Thread(target=count)
    thread.start()
    start = time.perf_counter()
    work()
    taken = time.perf_counter() - start
    ended.set()
    thread.join()
    return taken, longest


loaded, written = Tokenizer.from_file("tokenizer.json"), open("tokenizer.json").read()
texts = ["".join(longer[at : at + 2000]) for at in range(0, 60_000, 2000)]
ways = {
    "from_file": lambda: Tokenizer.from_file("tokenizer.json"),
    "from_str": lambda: Tokenizer.from_str(written),
    "encode_batch": lambda: loaded.encode_batch(texts),
}
for name, work in ways.items():
    taken, longest = min((gap(work) for _ in range(5)), key=lambda found: found[1])
    print(f"{name}: {taken * 1000:.0f} ms, of which another thread stood still for {longest * 1000:.0f} at a stretch")
    assert (longest > taken / 2) == name.startswith("from_"), (taken, longest)
PYTHON
venv/bin/python look.py
