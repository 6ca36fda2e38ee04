"""A store, checkpoint or cache that somebody else wrote: an error or plain data, and never anything executed."""

import ast
import json
import pickle
import sqlite3
import sys
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import ormsgpack
import pytest
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from line_neurons.agent.errors import DamagedError, LineError
from line_neurons.graphs.runs.lifecycle import retry, work
from line_neurons.tools.cache.activation_cache import Cache
from line_neurons.tools.language_models.engine import Completion
from line_neurons.tools.language_models.reply_cache import ReplyCache
from line_neurons.tools.store.runs import RunStore
from line_neurons.tools.store.serializer import PlainSerializer
from support.command_checks import refused
from support.whole_runs import begun, closed, components_for, copy_of, outcome, stopped_after

ROOT = Path(__file__).parents[2]


class Payload:
    """What unpickling executes."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (Path(self.marker),)


def extension(code, *components):
    return "msgpack", ormsgpack.packb(ormsgpack.Ext(code, ormsgpack.packb(components)))


# Kind and content of a checkpoint that makes the marker file, or a type, when it is revived as it asks.
HOSTILE = {
    "a function with one argument": lambda mark: extension(0, "os", "mkdir", mark),
    "a program": lambda mark: extension(1, "subprocess", "Popen", (("mkdir", mark),)),
    "keywords": lambda mark: extension(2, "os", "mkdir", {"path": mark}),
    "a method": lambda mark: extension(3, "pathlib", "Path", mark, "mkdir"),
    "pydantic 1": lambda mark: extension(4, "os", "mkdir", {"path": mark}),
    "pydantic 2": lambda mark: extension(5, "line_neurons.agent.settings", "Settings", {}, "model_validate_json"),
    "numpy": lambda mark: extension(6, "|O", [1], "C", b"x" * 8),
    "a path": lambda mark: extension(1, "pathlib", "PosixPath", ("/", "etc")),
    "pickle": lambda mark: ("pickle", pickle.dumps(Payload(mark))),
    "JSON that constructs": lambda mark: (
        "json",
        json.dumps({"lc": 2, "type": "constructor", "id": ["os", "mkdir"], "args": [mark]}).encode(),
    ),
    "JSON of langchain": lambda mark: (
        "json",
        json.dumps({"lc": 1, "type": "constructor", "id": ["langchain_core", "messages", "HumanMessage"],
                    "kwargs": {"content": "x"}}).encode(),
    ),
    "an unknown kind": lambda mark: ("yaml", b"!!python/object/apply:os.mkdir"),
    "deep nesting": lambda mark: ("msgpack", b"\x91" * 100_000),
    "a length that is not there": lambda mark: ("msgpack", b"\xdd\xff\xff\xff\xff"),
}  # fmt: skip


@pytest.mark.parametrize("name", ["a function with one argument", "a program", "keywords", "pickle"])
def test_a_reader_that_trusts_its_files_would_execute_these(tmp_path, name):
    mark = tmp_path / "mark"
    kind, blob = HOSTILE[name](str(mark))
    trusting = JsonPlusSerializer(pickle_fallback=True, allowed_json_modules=True, allowed_msgpack_modules=True)
    made = trusting.loads_typed((kind, blob))
    if name == "a program":
        made.wait()
    assert mark.exists()


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A store whose first unit stopped with images in hand, to be measured next."""
    store = tmp_path_factory.mktemp("stopped")
    components, run = begun(store)
    stopped_after(components, run, "synthesize")
    closed(components)
    return store, run


def latest(database):
    return database.execute(
        "SELECT rowid, type, checkpoint FROM checkpoints ORDER BY checkpoint_id DESC"
    ).fetchone()


def failing_alone(store, run, undisturbed, *words):
    """The unit whose checkpoint was written to fails with a reason, the other finishes, and retry mends it."""
    components = components_for(store, max_consecutive_failures=2)
    assert work(components, run).status == "failed"
    failed, other = components.runs.units(run.id)
    assert (failed.status, other.status) == ("failed", "finished")
    assert len(failed.error.splitlines()) == 1
    for word in words:
        assert word in failed.error
    retry(components.runs, run)
    assert work(components, run).status == "finished"
    assert outcome(components, run) == undisturbed


@pytest.mark.parametrize("name", HOSTILE)
def test_a_checkpoint_that_asks_for_more_than_data_fails_its_unit_and_executes_nothing(
    stopped, undisturbed, tmp_path, name
):
    mark = tmp_path / "mark"
    kind, blob = HOSTILE[name](str(mark))
    with pytest.raises(ValueError):
        PlainSerializer().loads_typed((kind, blob))
    store, run = copy_of(stopped, tmp_path)
    with closing(sqlite3.connect(store / "checkpoints.db")) as database, database:
        row, _, _ = latest(database)
        database.execute("UPDATE checkpoints SET type = ?, checkpoint = ? WHERE rowid = ?", (kind, blob, row))
    failing_alone(store, run, undisturbed, "cannot be resumed from", "line retry")
    assert not mark.exists()


def test_hostile_pending_writes_of_a_checkpoint_are_not_revived(stopped, undisturbed, tmp_path):
    mark = tmp_path / "mark"
    kind, blob = HOSTILE["a function with one argument"](str(mark))
    store, run = copy_of(stopped, tmp_path)
    with closing(sqlite3.connect(store / "checkpoints.db")) as database, database:
        thread, checkpoint = database.execute(
            "SELECT thread_id, checkpoint_id FROM checkpoints ORDER BY checkpoint_id DESC"
        ).fetchone()
        database.execute(
            "INSERT INTO writes (thread_id, checkpoint_id, task_id, idx, channel, type, value)"
            " VALUES (?, ?, 'x', 0, 'concept', ?, ?)",
            (thread, checkpoint, kind, blob),
        )
    failing_alone(store, run, undisturbed, "cannot be resumed from")
    assert not mark.exists()


TAMPERED = {
    "score": {"score": "abc"},
    "no number": {"activations": [float("nan")]},
    "board": {"board": "abc"},
    "board without scores": {"board": [["owl"]]},
    "endless score": {"board": [["owl", float("inf")]]},
    "empty board": {"board": []},
    "large board": {"board": [[f"thing {number}", 1.0] for number in range(50)]},
    "unit": {"unit": 1},
    "run": {"run": "another"},
    "kind": {"kind": "shell"},
    "step": {"step": -1},
    "nothing": {"tried": None},
    "deep": {"best": [[["owl"]], 1.0]},
}


@pytest.mark.parametrize("name", TAMPERED)
def test_a_state_that_no_search_can_have_left_fails_its_unit(stopped, undisturbed, tmp_path, name):
    store, run = copy_of(stopped, tmp_path)
    change_state(store, TAMPERED[name])
    failing_alone(store, run, undisturbed, "cannot be resumed from", "line retry")


def change_state(store, changes):
    reader = PlainSerializer()
    with closing(sqlite3.connect(store / "checkpoints.db")) as database, database:
        row, kind, blob = latest(database)
        for channel, value in changes.items():
            # What the node before gave waits beside the checkpoint.
            database.execute(
                "UPDATE writes SET value = ? WHERE channel = ? AND checkpoint_id ="
                " (SELECT checkpoint_id FROM checkpoints WHERE rowid = ?)",
                (reader.dumps_typed(value)[1], channel, row),
            )
        checkpoint = reader.loads_typed((kind, blob))
        checkpoint["channel_values"] |= changes
        database.execute(
            "UPDATE checkpoints SET checkpoint = ? WHERE rowid = ?", (reader.dumps_typed(checkpoint)[1], row)
        )


@pytest.mark.parametrize("image", ["../../outside", "/etc/passwd", "", "a" * 63 + "/", "A" * 64, "\x00" * 64])
def test_a_image_id_that_is_a_path_reads_and_removes_nothing(stopped, undisturbed, tmp_path, image):
    outside = tmp_path / "outside.png"
    outside.write_bytes(b"precious")
    store, run = copy_of(stopped, tmp_path)
    change_state(store, {"images": [image]})
    failing_alone(store, run, undisturbed, "one has no image's id")
    assert outside.read_bytes() == b"precious"
    with pytest.raises(DamagedError, match="is not the id of an image"):
        Cache(store).image_bytes(image)


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        ("runs", "settings", "{"),
        ("runs", "settings", "[1]"),
        ("runs", "versions", "[" * 100_000),
        ("runs", "seed", "abc"),
        ("units", "score", "abc"),
        ("units", "images", '"../../etc/passwd"'),
        ("steps", "board", '[["owl"]]'),
        ("steps", "images", "5"),
        ("events", "detail", "nonsense"),
    ],
)
def test_a_row_that_cannot_have_been_written_is_one_clear_line(half_done, tmp_path, table, column, value):
    store, run = copy_of(half_done, tmp_path)
    with closing(sqlite3.connect(store / "runs.db")) as database, database:
        assert database.execute(f"UPDATE {table} SET {column} = ?", (value,)).rowcount
    opened = RunStore(store, read_only=True)
    assert opened.names() == [run.id]
    with pytest.raises(DamagedError) as caught:
        opened.run(run.id), opened.units(run.id), opened.steps(run.id, 0), opened.events(run.id)
    assert f"a row of {table} in runs.db is damaged" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_damaged_row_of_one_run_keeps_no_other_run_from_its_turn(half_done, undisturbed, tmp_path):
    store, run = copy_of(half_done, tmp_path)
    with closing(sqlite3.connect(store / "runs.db")) as database, database:
        columns = [name for _, name, *_ in database.execute("PRAGMA table_info(runs)")]
        values = ", ".join({"id": "'broken'", "settings": "'{'"}.get(name, name) for name in columns)
        database.execute(f"INSERT INTO runs SELECT {values} FROM runs")
    components = components_for(store)
    work(components, components.runs.run(run.id))
    assert outcome(components, run) == undisturbed


def test_a_damaged_row_of_a_history_fails_its_unit_alone(half_done, undisturbed, tmp_path):
    store, run = copy_of(half_done, tmp_path)
    with closing(sqlite3.connect(store / "runs.db")) as database, database:
        database.execute("UPDATE steps SET images = '{' WHERE unit = 0 AND step = 1")
    components = components_for(store, max_consecutive_failures=2)
    work(components, run)
    assert [unit.status for unit in components.runs.units(run.id)] == ["failed", "finished"]


@pytest.mark.parametrize(
    "response",
    [
        "nonsense",
        "[]",
        json.dumps({"lc": 1, "type": "constructor", "id": ["os", "system"], "kwargs": {"command": "true"}}),
        json.dumps({"lc": 1, "type": "constructor", "id": ["x"], "kwargs": {"text": 5}}),
        json.dumps({"kwargs": {"text": "{}", "generation_info": [1]}}),
        "[" * 100_000,
    ],
)
def test_a_kept_reply_that_is_none_is_asked_for_anew(tmp_path, response, caplog):
    cache = ReplyCache(tmp_path / "replies.db")
    said = Completion("{}", False)
    cache.put("p", "m", said)
    with closing(sqlite3.connect(tmp_path / "replies.db")) as database, database:
        database.execute("UPDATE full_llm_cache SET response = ?", (response,))
    again = Completion('{"a": 1}', False)
    assert cache.get_or_complete("p", "m", lambda: again) == again
    assert cache.get("p", "m") == again


def test_precomputed_arrays_and_caches_never_unpickle(tmp_path):
    mark = tmp_path / "mark"
    np.save(tmp_path / "x.npy", np.array([Payload(str(mark))], object), allow_pickle=True)
    for reader in (
        lambda: np.load(tmp_path / "x.npy", allow_pickle=False),
        lambda: open_precomputed(tmp_path, mark),
    ):
        with pytest.raises((ValueError, LineError)):
            reader()
    assert not mark.exists()


def open_precomputed(folder, mark):
    from line_neurons.tools.control_sets import open_control_set

    np.savez(folder / "control.npz", activations=np.array([Payload(str(mark))], object))
    return open_control_set(str(folder / "control.npz")).control(3, "head")


EVIL = """
from pathlib import Path
Path({mark!r}).touch()
from langchain_core.language_models import FakeListChatModel as Model
def build():
    import torch
    return torch.nn.Linear(2, 2)
"""


@pytest.fixture
def foreign(half_done, tmp_path, line):
    """Somebody else's store beside a module that leaves a mark; how to write the record."""
    store, run = copy_of(half_done, tmp_path)
    mark = tmp_path / "mark"
    (tmp_path / "evil.py").write_text(EVIL.format(mark=str(mark)))

    def record(model, llm):
        with closing(sqlite3.connect(store / "runs.db")) as database, database:
            database.execute("UPDATE runs SET model = ?, settings = json_set(settings, '$.llm', ?)", (model, llm))

    yield mark, record, run
    sys.modules.pop("evil", None)


NAMED = [
    ("evil.py:build", "random"),
    ("evil:build", "random"),
    ("torchvision:mobilenet_v2", "langchain:evil.Model"),
    ("torchvision:mobilenet_v2", "langchain:os.system"),
]


@pytest.mark.parametrize(("model", "llm"), NAMED)
def test_looking_at_a_foreign_store_executes_nothing(foreign, line, model, llm):
    mark, record, run = foreign
    record(model, llm)
    # One whose images are none, as those of this store are.
    with suppress(OSError):
        line("show", run.id, "0")
    for command in (["runs"], ["show", run.id], ["results", run.id], ["runs", "--json"]):
        assert line(*command)[0] == 0
        assert not mark.exists()


@pytest.mark.parametrize(
    ("command", "model", "llm"),
    # A revisit asks no language model.
    [*(("resume", *named) for named in NAMED), *(("revisit", *named) for named in NAMED[:2])],
)
def test_going_on_with_a_foreign_run_executes_its_code_only_where_the_user_says_so(
    foreign, line, command, model, llm
):
    mark, record, run = foreign
    record(model, llm)
    refused(line(command, run.id), "asks to run code", llm if llm != "random" else model, "--trust")
    assert not mark.exists()
    if llm == "random":
        line(command, run.id, "--trust")
        assert mark.exists()


@pytest.fixture(scope="module")
def modules():
    """Each module's path, its calls, and the names that it imports."""
    paths = [
        path for folder in ("agent", "tools", "graphs", "eval", "tui") for path in (ROOT / folder).rglob("*.py")
    ]
    nodes = {path: list(ast.walk(ast.parse(path.read_text(encoding="utf-8")))) for path in paths}
    return [(path.relative_to(ROOT), list(calls(found)), list(imported(found))) for path, found in nodes.items()]


def calls(nodes):
    """Each call with the dotted name of what is called."""
    for node in nodes:
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {key.arg: ast.unparse(key.value) for key in node.keywords}


def imported(nodes):
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


WORKERS = {Path("tools/engines/processes.py"), Path("tools/engines/process_main.py")}
"""These pass objects between a process and its own children, over a socket that has no name."""


def test_no_module_reads_what_can_hold_code(modules):
    found = []
    for path, called, _ in modules:
        for name, keywords in called:
            safe = {
                "torch.load": keywords.get("weights_only") == "True",
                "np.load": keywords.get("allow_pickle") == "False",
                "numpy.load": keywords.get("allow_pickle") == "False",
            }.get(name, True)
            last = name.rpartition(".")[2]
            if (
                not safe
                or name in {"eval", "exec", "compile", "__import__"}
                or last in {"full_load", "unsafe_load"}
            ):
                found.append(f"{path}: {name}")
            if path not in WORKERS and name.startswith(
                ("pickle.", "marshal.", "shelve.", "dill.", "joblib.", "yaml.")
            ):
                found.append(f"{path}: {name}")
            if name.endswith(("os.system", "os.popen")) or keywords.get("shell") == "True":
                found.append(f"{path}: {name}")
            if keywords.get("trust_remote_code", "False") != "False":
                found.append(f"{path}: {name}")
    assert not found


def test_no_module_serves_anything(modules):
    servers = {"http.server", "socketserver", "flask", "fastapi", "uvicorn", "aiohttp.web", "xmlrpc.server"}
    serving = (".bind", ".create_server", ".serve_forever", "start_server", "socket.socket")
    found = []
    for path, called, names in modules:
        found += [(path, name) for name in names if name in servers]
        found += [(path, name) for name, _ in called if name.endswith(serving)]
    assert not found
