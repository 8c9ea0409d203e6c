"""A seeded generator of broken inputs: scenarios, sweeps, profiles, arrivals, ONNX models, boards, policies.

Every case is a set of files and a command; the command must end with exit code 2 and one message that names
``word`` (the file or the key), and write nothing.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

SEED = 20261121

BASE = """\
name: case
device:
  board: ideal
  memory_limit: 7000
networks:
  - name: large
    init_s: 1
    conv_layers: 1
    layers:
      - {name: conv, load_s: 2, execute_s: 3, bytes: 4000}
      - {name: fc, load_s: 1, execute_s: 2, bytes: 2000}
  - {name: small, init_s: 1, layers: [{load_s: 1, execute_s: 2, bytes: 1000}]}
workload:
  arrivals: {process: deterministic, period_s: 8}
  networks: [large, small]
policy: {name: masa, workers: 2}
run: {requests: 2}
"""


@dataclass(frozen=True)
class Case:
    """Files to write, the command to run, and what its message must name."""

    name: str
    files: dict[str, bytes]
    command: tuple[str, ...]
    word: str


def corpus() -> list[Case]:
    """All cases; their names are distinct, and so are their files."""
    made = [
        *_texts(),
        *_edits(),
        *_values(),
        *_unknown_keys(),
        *_sweeps(),
        *_arrivals(),
        *_profiles(),
        *_onnx(),
        *_boards(),
        *_policies(),
        *_mutations(),
    ]
    return [
        Case(f"{number:03d} {case.name}", case.files, case.command, case.word)
        for number, case in enumerate(made)
    ]


def _run(name: str, text: str | bytes, word: str, **others: str | bytes) -> Case:
    return _case(name, ("run", "case.yaml", "--out", "out"), word, {"case.yaml": text, **others})


def _case(name: str, command: tuple[str, ...], word: str, files: dict[str, str | bytes]) -> Case:
    plain = {key: text if isinstance(text, bytes) else text.encode() for key, text in files.items()}
    return Case(name, plain, command, word)


def _edit(old: str, new: str) -> str:
    assert old in BASE, old
    return BASE.replace(old, new, 1)


# -- what is no YAML, or more than a scenario may be -------------------------------------------------------


def _texts() -> Iterator[Case]:
    bomb = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    bomb += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    texts: dict[str, str | bytes] = {
        "empty": "",
        "only a comment": "# nothing\n",
        "blanks": "   \n\n  ",
        "a text": "hello",
        "a number": "42",
        "a list": "- 1\n- 2\n",
        "null": "~",
        "tab": BASE.replace("  board", "\tboard"),
        "unclosed bracket": BASE + "x: [1, 2",
        "unclosed brace": BASE + "x: {a: 1",
        "unclosed quote": BASE + "x: 'abc",
        "two documents": BASE + "---\n" + BASE,
        "duplicate key": BASE + "policy: fifo\n",
        "duplicate inner key": _edit("board: ideal", "board: ideal\n  board: ideal"),
        "alias bomb": "\n".join(bomb) + "\n" + BASE,
        "alias of itself": "a: &a [*a]\n" + BASE,
        "alias without anchor": BASE + "x: *nowhere\n",
        "deep nesting": "x: " + "[" * 5000 + "]" * 5000,
        "deep mappings": "".join(" " * i + "a:\n" for i in range(300)),
        "python tag": BASE + "x: !!python/object/apply:os.system ['true']\n",
        "set tag": BASE + "x: !!set {a, b}\n",
        "binary tag": BASE + "x: !!binary aGVsbG8=\n",
        "unknown tag": BASE + "x: !thing 3\n",
        "a list as key": BASE + "? [a, b]\n: 1\n",
        "latin-1": BASE.replace("case", "Käse").encode("latin-1"),
        "utf-16": BASE.encode("utf-16"),
        "binary": bytes(range(256)) * 4,
        "png": b"\x89PNG\r\n\x1a\n" + bytes(64),
        "gzip": b"\x1f\x8b\x08\x00" + bytes(64),
        "nul": BASE.replace("case", "ca\0se"),
        "bell": BASE.replace("case", "ca\x07se"),
        "too large": "# " + "x" * 2_100_000 + "\n" + BASE,
        "bad indentation": BASE.replace("  memory_limit", " memory_limit"),
        "colon in a value": BASE.replace("name: case", "name: a: b"),
        "json cut off": '{"device": "ideal", "workload": {',
        "percent": "%YAML 9\n" + BASE,
        "merge of a number": BASE + "x: {<<: 3}\n",
    }
    for name, text in texts.items():
        yield _run(name, text, "case.yaml")
    yield _case("no such file", ("run", "missing.yaml", "--out", "out"), "missing.yaml", {})
    yield _case("a folder", ("run", "dir", "--out", "out"), "dir", {"dir/x.txt": "x"})


# -- one thing wrong in a good scenario ---------------------------------------------------------------------


def _edits() -> Iterator[Case]:
    mix = "networks: [large, small]\n"
    arrivals = "{process: deterministic, period_s: 8}"
    edits = [
        ("device:\n  board: ideal\n  memory_limit: 7000\n", "", "device"),
        ("run: {requests: 2}\n", "", "run"),
        ("policy: {name: masa, workers: 2}\n", "", "policy"),
        ("  arrivals: {process: deterministic, period_s: 8}\n", "", "arrivals"),
        ("  networks: [large, small]\n", "", "networks"),
        ("board: ideal", "board: idea", "ideal"),
        ("board: ideal", "board: ''", "board"),
        ("board: ideal", "board: [ideal]", "board"),
        ("board: ideal", "board: nowhere.yaml", "nowhere.yaml"),
        ("board: ideal", "board: /dev/null.yaml", "/dev/null.yaml"),
        ("  board: ideal\n", "", "board"),
        ("memory_limit: 7000", "memory_limit: 7 parsecs", "memory_limit"),
        ("memory_limit: 7000", "memory_limit: 0", "memory_limit"),
        ("memory_limit: 7000", "memory_limit: 9999999999999 GiB", "memory_limit"),
        ("memory_limit: 7000", "runtime: 3", "runtime"),
        ("memory_limit: 7000", "runtime: {version: C}", "version"),
        ("memory_limit: 7000", "runtime: {dispatch_period_s: .inf}", "dispatch_period_s"),
        ("memory_limit: 7000", "runtime: {slowdown: {load: {execute: 0.5}}}", "slowdown"),
        ("memory_limit: 7000", "runtime: {slowdown: {walk: {execute: 2}}}", "slowdown"),
        ("memory_limit: 7000", "runtime: {noise: {distribution: levy}}", "distribution"),
        ("memory_limit: 7000", "memory: {total_bytes: -1}", "total_bytes"),
        ("memory_limit: 7000", "memory: {swap: {total_bytes: 5}}", "swap"),
        ("name: masa", "name: mas", "masa"),
        ("name: masa", "name: 7", "policy.name"),
        ("name: masa, ", "", "policy.name"),
        ("workers: 2", "workers: 0", "workers"),
        ("workers: 2", "workers: -3", "workers"),
        ("workers: 2", "workers: 1000000000000", "workers"),
        ("workers: 2", "workers: two", "workers"),
        ("workers: 2", "workers: 1.5", "workers"),
        ("workers: 2", "worker: 2", "workers"),
        ("workers: 2", "base_reservation_bytes: .nan", "base_reservation_bytes"),
        ("{name: masa, workers: 2}", "{name: fifo, unit: parsec}", "unit"),
        ("{name: masa, workers: 2}", "{name: linear, workers: 2}", "workers"),
        ("{name: masa, workers: 2}", "[masa]", "policy"),
        ("{name: masa, workers: 2}", "nowhere.py:Own", "nowhere.py"),
        (mix, "networks: [large, smal]\n", "small"),
        (mix, "networks: []\n", "networks"),
        (mix, "networks: large\n", "networks"),
        (mix, "networks: [3]\n", "networks"),
        (mix, "networks: [AgeNett]\n", "AgeNet"),
        (mix, "networks: ['AgeNet@0']\n", "AgeNet"),
        (mix, "networks: ['AgeNet@500']\n", "AgeNet"),
        (mix, "networks: ['FaceNet#-1']\n", "FaceNet"),
        (mix, "networks: [AgeNet]\n", "ideal"),
        (mix, "networks: {mix: randomm, pool: [large]}\n", "mix"),
        (mix, "networks: {pool: [large]}\n", "mix"),
        (mix, "networks: {mix: random, pool: [large], count: 2}\n", "count"),
        (mix, "networks: {mix: random, pool: [large, large]}\n", "pool"),
        (mix, "networks: {mix: random, pool: [large, small], weights: {large: 1}}\n", "weights"),
        (mix, "networks: {mix: random, pool: [large, small], weights: {large: 1, small: -1}}\n", "weights"),
        (mix, "networks: {mix: choice, alternatives: []}\n", "alternatives"),
        (mix, "networks: {mix: dependency, stages: [{networks: [large], after: small}]}\n", "after"),
        (mix, "networks: {mix: dependency, stages: [{networks: [large], probability: 2}]}\n", "probability"),
        (mix, mix + "  deadline_s: -1\n", "deadline_s"),
        (mix, mix + "  deadline_s: {larg: 1}\n", "larg"),
        (mix, mix + "  deadline_s: {large: never}\n", "deadline_s"),
        (mix, mix + "  deadline_s: true\n", "deadline_s"),
        (mix, mix + "  deadline_s: .nan\n", "deadline_s"),
        (mix, mix + "  count: 0\n", "count"),
        (arrivals, "{process: determined, period_s: 8}", "deterministic"),
        (arrivals, "{period_s: 8}", "process"),
        (arrivals, "poisson", "arrivals"),
        (arrivals, "{process: deterministic}", "period_s"),
        (arrivals, "{process: deterministic, period_s: 8, rate_per_s: 1}", "period_s"),
        (arrivals, "{process: poisson, rate_per_s: 0}", "rate_per_s"),
        (arrivals, "{process: poisson, rate_per_s: 1.0e+300}", "rate_per_s"),
        (arrivals, "{process: gamma, rate_per_s: 1, cv: 0}", "cv"),
        (arrivals, "{process: mmpp, rates_per_s: [1], mean_sojourn_s: [1, 1]}", "rates_per_s"),
        (arrivals, "{process: mmpp, rates_per_s: [0, 0], mean_sojourn_s: [1, 1]}", "arrivals"),
        (arrivals, "{process: normal, mean_gap_s: 1, sd_s: -1}", "sd_s"),
        (arrivals, "{process: multi-stream, samples_per_query: 0}", "samples_per_query"),
        (arrivals, "{process: replay, file: nowhere.csv}", "nowhere.csv"),
        (arrivals, "{process: replay, file: ''}", "file"),
        ("{requests: 2}", "{}", "run"),
        ("{requests: 2}", "{requests: 2, warmup_requests: 2}", "warmup_requests"),
        ("{requests: 2}", "{requests: 2, count: 3}", "count"),
        ("{requests: 2}", "{requests: 99999999999}", "requests"),
        ("{requests: 2}", "{requests: " + "9" * 5000 + "}", "case.yaml"),
        ("{requests: 2}", "{requests: 2, replications: 0}", "replications"),
        ("{requests: 2}", "{requests: 2, seed: -1}", "seed"),
        ("{requests: 2}", "{requests: 2, seed: 1.5}", "seed"),
        ("{requests: 2}", "{duration_s: 0}", "duration_s"),
        ("name: small", "name: large", "large"),
        ("name: small", "name: ''", "name"),
        ("layers: [{load_s: 1, execute_s: 2, bytes: 1000}]", "layers: []", "layers"),
        ("layers: [{load_s: 1, execute_s: 2, bytes: 1000}]", "layers: 3", "layers"),
        ("layers: [{load_s: 1, execute_s: 2, bytes: 1000}]", "layers: [3]", "layers"),
        ("conv_layers: 1", "conv_layers: 3", "conv_layers"),
        ("conv_layers: 1", "load_copies: 11", "load_copies"),
        ("conv_layers: 1", "reservation_bytes: -1", "reservation_bytes"),
        ("conv_layers: 1", "expected_s: .nan", "expected_s"),
        ("bytes: 4000", "bytes: 4000, weight_bytes: 1", "bytes"),
    ]
    for old, new, word in edits:
        label = " ".join((new or f"no {old}").split())[:60]
        yield _run(label, _edit(old, new), word)


def _values() -> Iterator[Case]:
    """Values that no number may have, at every place where a number stands."""
    places = [
        "load_s: 2",
        "execute_s: 3",
        "bytes: 4000",
        "init_s: 1",
        "period_s: 8",
        "requests: 2",
        "memory_limit: 7000",
    ]
    for place in places:
        key = place.partition(":")[0]
        for value in ("true", "-1", ".nan", ".inf", "'x'", "[1]", "{a: 1}", "1.0e+300"):
            yield _run(f"{key}: {value}", _edit(place, f"{key}: {value}"), key)


def _unknown_keys() -> Iterator[Case]:
    """A key that nobody knows, at every level."""
    for old, new in [
        ("name: case\n", "name: case\nextra: 1\n"),
        ("  board: ideal\n", "  board: ideal\n  bord: x\n"),
        ("  - name: large\n", "  - name: large\n    colour: red\n"),
        ("{name: conv, ", "{name: conv, exec_s: 1, "),
        ("workload:\n", "workload:\n  stream: 1\n"),
        ("process: deterministic, ", "process: deterministic, jitter: 1, "),
        ("{requests: 2}", "{warmup: 1, requests: 2}"),
        ("networks: [large, small]", "networks: {mix: fixed, networks: [large], weight: 1}"),
    ]:
        word = next(part for part in new.replace("{", " ").replace(":", " ").split() if part not in old)
        yield _run(f"unknown key {word}", _edit(old, new), word)


# -- sweeps -------------------------------------------------------------------------------------------------


def _sweeps() -> Iterator[Case]:
    sweeps = [
        ("", "sweep"),
        ("sweep: 3\n", "sweep"),
        ("sweep: []\n", "sweep"),
        ("sweep: {}\n", "sweep"),
        ("sweep: {policy: fifo}\n", "policy"),
        ("sweep: {policy: []}\n", "policy"),
        ("sweep: {policy: [fifo, fifo]}\n", "policy"),
        ("sweep: {policy: [fifo, fifoo]}\n", "fifoo"),
        ("sweep: {polisy: [fifo]}\n", "polisy"),
        ("sweep: {device.memory.limt.x: [1]}\n", "limt"),
        ("sweep: {device.memory_limit: [7000, lots]}\n", "memory_limit"),
        ("sweep: {device.memory_limit: [7000, -1]}\n", "memory_limit"),
        ("sweep: {networks.7.init_s: [1]}\n", "networks.7"),
        ("sweep: {networks.x.init_s: [1]}\n", "networks"),
        ("sweep: {run.requests.x: [1]}\n", "run.requests"),
        ("sweep: {run.requests: [2, true]}\n", "run.requests"),
        ("sweep: {run.replications: [1, 2]}\n", "run.replications"),
        ("sweep: {name: [a, b]}\n", "name"),
        ("sweep: {sweep.x: [1]}\n", "sweep"),
        ("sweep: {'': [1]}\n", "sweep"),
        ("sweep: {workload.arrivals: [{process: poisson}]}\n", "rate_per_s"),
        (
            "sweep: {workload.arrivals.period_s: [1, 2], workload.arrivals: [{process: batch}]}\n",
            "workload.arrivals",
        ),
        ("sweep: {zip a: [{run.requests: 2}, {run.seed: 3}]}\n", "zip a"),
        ("sweep: {zip a: [3]}\n", "zip a"),
        ("sweep: {run.requests: [2, 3], zip a: [{run.requests: 5}]}\n", "run.requests"),
        (f"sweep: {{run.seed: {list(range(1100))}, run.requests: {list(range(2, 1002))}}}\n", "sweep"),
    ]
    for text, word in sweeps:
        yield _case(
            f"sweep {text.strip()[:50] or 'missing'}",
            ("sweep", "case.yaml", "--out", "out"),
            word,
            {"case.yaml": BASE + text},
        )


# -- files that scenarios name ------------------------------------------------------------------------------


def _arrivals() -> Iterator[Case]:
    text = _edit("{process: deterministic, period_s: 8}", "{process: replay, file: times.csv}")
    for name, content in {
        "empty": "",
        "header only": "arrival_s\n",
        "no header": "1\n2\n",
        "unknown column": "time\n1\n",
        "both columns": "arrival_s,gap_s\n1,1\n",
        "column twice": "gap_s,gap_s\n1,1\n",
        "text": "gap_s\nsoon\n",
        "empty cell": "arrival_s,networks\n,large\n",
        "negative": "gap_s\n-1\n",
        "nan": "gap_s\nnan\n",
        "infinite": "gap_s\ninf\n",
        "huge": "gap_s\n1e300\n",
        "decreasing": "arrival_s\n2\n1\n",
        "short row": "arrival_s,networks\n1\n",
        "long row": "arrival_s\n1,2\n",
        "networks named twice": "arrival_s,networks\n1,large\n",
        "not utf-8": b"arrival_s\n\xff\xfe\n",
        "nul": b"arrival_s\n1\0\n",
        "open quote": 'arrival_s\n"1\n',
        "binary": bytes(range(256)),
    }.items():
        yield _run(
            f"arrivals {name}",
            text,
            "times.csv" if name != "networks named twice" else "networks",
            **{"times.csv": content},
        )
    without = text.replace("  networks: [large, small]\n", "")
    yield _run("arrivals empty network", without, "times.csv", **{"times.csv": "gap_s,networks\n1,large+\n"})
    yield _run("arrivals unknown network", without, "larg", **{"times.csv": "gap_s,networks\n1,larg\n"})
    yield _run("arrivals without networks", without, "networks", **{"times.csv": "gap_s\n1\n"})


def _profiles() -> Iterator[Case]:
    head = "# edgesched: profile 1\n"
    columns = "network,layer,load_s,execute_s\n"
    text = _edit("board: ideal", "board: board.yaml").replace("[large, small]", "[AgeNet]")
    board = "like: ideal\nname: own\ncost: {profile: profile.csv, execute: {other: {call_s: 1}}}\n"
    for name, content in {
        "empty": "",
        "binary": bytes(range(256)),
        "not utf-8": (head + columns).encode() + b"\xff,0,1,1\n",
        "no header": "AgeNet,0,1,1\n",
        "wrong kind": "# edgesched: totals 1\n" + columns,
        "newer version": "# edgesched: profile 99\n" + columns,
        "unknown column": head + "network,layer,loads,execute_s\nAgeNet,0,1,1\n",
        "column twice": head + "network,network,layer,load_s\nAgeNet,AgeNet,0,1\n",
        "no layer": head + "network,load_s\nAgeNet,1\n",
        "negative": head + columns + "AgeNet,0,-1,1\n",
        "text": head + columns + "AgeNet,0,fast,1\n",
        "nan": head + columns + "AgeNet,0,nan,1\n",
        "infinite": head + columns + "AgeNet,0,inf,1\n",
        "half a layer": head + columns + "AgeNet,0.5,1,1\n",
        "short row": head + columns + "AgeNet,0\n",
        "long row": head + columns + "AgeNet,0,1,1,1\n",
        "row twice": head + columns + "AgeNet,0,1,1\nAgeNet,0,2,2\n",
        "open quote": head + columns + '"AgeNet,0,1,1\n',
        "nul": head + columns + "Age\0Net,0,1,1\n",
        "html": "<!doctype html><html></html>",
    }.items():
        yield _run(f"profile {name}", text, "profile.csv", **{"board.yaml": board, "profile.csv": content})
    yield _run("profile missing", text, "profile.csv", **{"board.yaml": board})
    named = board.replace("profile.csv", "edgecafe-laptop")
    yield _run("profile unknown", text, "edgecafe-laptop", **{"board.yaml": named})


def _onnx() -> Iterator[Case]:
    rng = random.Random(SEED)
    contents: dict[str, bytes] = {
        "empty": b"",
        "text": b"this is no model",
        "zip": b"PK\x03\x04" + bytes(100),
        "noise": rng.randbytes(5000),
        "zeros": bytes(1000),
        "huge length": b"\x3a\xff\xff\xff\xff\x7f" + bytes(20),
        "json": b'{"graph": []}',
        "graph cut off": b"\x08\x07\x3a\x64\x0a\x20",
    }
    for name, content in contents.items():
        yield _case(f"onnx {name}", ("networks", "show", "bad.onnx"), "bad.onnx", {"bad.onnx": content})
    yield _case("onnx missing", ("networks", "show", "none.onnx"), "none.onnx", {})
    for number in range(8):
        content = rng.randbytes(rng.randrange(1, 400))
        yield _case(
            f"onnx noise {number}", ("networks", "show", "bad.onnx"), "bad.onnx", {"bad.onnx": content}
        )


def _boards() -> Iterator[Case]:
    good = "name: own\nprocessors: [{name: cpu}]\nmemory: {total_bytes: 1000}\n"
    bomb = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    bomb += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    for name, text in {
        "empty": "",
        "list": "- 1\n",
        "no processors": good.replace("processors: [{name: cpu}]", "processors: []"),
        "no memory": good.replace("memory: {total_bytes: 1000}\n", ""),
        "unknown key": good + "colour: red\n",
        "unknown inner key": good.replace("total_bytes", "totl_bytes"),
        "negative": good.replace("1000", "-1"),
        "boolean": good.replace("1000", "true"),
        "text": good.replace("1000", "lots"),
        "cores": good.replace("name: cpu", "name: cpu, cores: 0"),
        "kind": good.replace("name: cpu", "name: cpu, kind: abacus"),
        "reserved": good.replace("1000", "1000, reserved_by_system_bytes: 1000"),
        "like nobody": "like: nobody\n" + good,
        "like itself": "like: board.yaml\n" + good,
        "like a list": "like: [ideal]\n" + good,
        "nan rate": good + "cost: {execute: {other: {mac_s: .nan}}}\n",
        "bomb": "\n".join(bomb) + "\n" + good,
        "duplicate": good + "name: other\n",
        "deep": "x: " + "{a: " * 3000 + "1" + "}" * 3000,
        "tab": good.replace("memory: {", "memory:\n\t{"),
        "not utf-8": b"name: \xff\n",
    }.items():
        word = "nobody" if name == "like nobody" else "board.yaml"
        yield _case(f"board {name}", ("devices", "show", "board.yaml"), word, {"board.yaml": text})


def _policies() -> Iterator[Case]:
    imports = "from edgesched.policies.contract import Policy\n"
    text = _edit("{name: masa, workers: 2}", "own.py:Own")
    hooks = {
        "workers none": "    def workers(self, device): return []\n",
        "workers raises": "    def workers(self, device): raise RuntimeError('no')\n",
        "workers wrong": "    def workers(self, device): return 3\n",
        "expand none": "    def expand(self, network, device): return None\n",
        "expand raises": "    def expand(self, network, device): return network.no_such_thing\n",
        "expand signature": "    def expand(self): return None\n",
        "links raises": "    def links(self, graphs): return graphs[99]\n",
        "plan raises": "    def plan(self, networks, device): return 1 / 0\n",
        "rank raises": "    def rank(self, job): return job.no_such_thing\n",
        "rank a text": "    def rank(self, job): return 'first' if job.position else 1.0\n",
        "select raises": "    def select(self, worker, ready, memory): return ready.front()\n",
        "select wrong": "    def select(self, worker, ready, memory): return (1, 2)\n",
        "init raises": "    def __init__(self): raise ValueError('never')\n",
        "init needs more": "    def __init__(self, speed): self.speed = speed\n",
    }
    for name, body in hooks.items():
        yield _run(f"policy {name}", text, "own.py", **{"own.py": f"{imports}class Own(Policy):\n{body}"})
    for name, content in {
        "syntax error": "class Own(:\n",
        "raises at import": "raise RuntimeError('boo')\n",
        "exits at import": "import sys\nsys.exit(0)\n",
        "imports nothing there": "import no_such_module_at_all\n",
        "no class": imports,
        "near class": imports + "class Owm(Policy): ...\n",
        "no policy": "class Own: ...\n",
        "a function": "def Own(): ...\n",
        "not utf-8": b"# \xff\xfe\nclass Own: ...\n",
        "nul": b"class Own:\0 ...\n",
        "empty": "",
    }.items():
        yield _run(f"policy {name}", text, "own.py", **{"own.py": content})
        yield _case(f"show policy {name}", ("policies", "show", "own.py:Own"), "own.py", {"own.py": content})


def _mutations() -> Iterator[Case]:
    """The good scenario with one line lost, which its keys do not survive, or one key misspelt."""
    rng = random.Random(SEED)
    keys = ["device", "board", "memory_limit", "networks", "init_s", "conv_layers", "layers", "workload"]
    keys += ["arrivals", "policy", "run", "requests", "period_s", "process", "load_s", "execute_s", "bytes"]
    for key in keys:
        at = rng.randrange(1, len(key))
        wrong = key[:at] + rng.choice("qxzj") + key[at:]
        yield _run(f"misspelt {wrong}", _edit(f"{key}:", f"{wrong}:"), key if key == "process" else wrong)
