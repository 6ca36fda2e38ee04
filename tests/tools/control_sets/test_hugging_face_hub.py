"""The hub as the library speaks to it: a server on this machine with one dataset of two splits."""

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import pytest
from datasets import ClassLabel, Dataset, Features, Image

DATA = {"type": "directory", "path": "data", "oid": "0", "size": 0}
README = """---
configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-*
  - split: validation
    path: data/validation-*
---
"""
LOOKS = """
import json, os, sys
import datasets
from line_neurons.agent.errors import LineError
from line_neurons.tools.control_sets import open_control_set

def look(spec, start):
    try:
        control = open_control_set(spec, download=True)
        chunks = list(control.chunks(start))
    except LineError as error:
        return {"error": type(error).__name__, "message": str(error)}
    return {
        "classes": control.classes(), "total": control.total, "fingerprint": control.fingerprint,
        "labels": [chunk.labels for chunk in chunks], "skipped": [chunk.skipped for chunk in chunks],
    }

for line in sys.stdin:
    if not os.fork():
        print(json.dumps(look(*json.loads(line))), flush=True)
        os._exit(0)
    os.wait()
"""
"""Looks at each data set that a line names, in a process of its own that need not load the library again."""


class Hub(ThreadingHTTPServer):
    """Answers what the library asks of the dataset owner/name; notes the files it gave."""

    def __init__(self, files):
        super().__init__(("127.0.0.1", 0), Answer)
        self.files = files
        self.failing = False
        self.pushed = 0
        self.given = set()


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.answer()

    do_GET = do_POST = do_HEAD

    def answer(self):
        asked = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(self.path).path)
        files = self.server.files
        if match := re.fullmatch(r"/datasets/owner/name/resolve/([^/]+)/(.+)", path):
            self.file(match[1], match[2])
        elif match := re.fullmatch(r"/api/datasets/owner/name(/revision/[^/]+)?", path):
            self.json({"id": "owner/name", "sha": "c" * 40, "siblings": [{"rfilename": name} for name in files]})
        elif match := re.fullmatch(r"/api/datasets/owner/name/tree/[^/]+/?(.*)", path):
            below = f"{match[1]}/" if match[1] else ""
            found = [entry(name, files[name]) for name in files if name.startswith(below)]
            self.json(found if below else [*found, DATA])
        elif re.fullmatch(r"/api/datasets/owner/name/paths-info/[^/]+", path):
            wanted = json.loads(asked)["paths"]
            folders = [
                {"type": "directory", "path": name, "oid": "0", "size": 0} for name in {"data"} & set(wanted)
            ]
            self.json([entry(name, files[name]) for name in wanted if name in files] + folders)
        else:
            self.say(404, b"", {"X-Error-Code": "RepoNotFound"})

    def file(self, revision, name):
        if revision == "main":
            # Something is pushed whenever the newest commit is asked for.
            self.server.pushed += 1
            revision = f"{self.server.pushed:040x}"
        content = self.server.files.get(name)
        if content is None:
            return self.say(404, b"", {"X-Error-Code": "EntryNotFound"})
        if self.server.failing and name.endswith(".parquet"):
            return self.say(403, b"", {})
        headers = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": revision}
        status = 200
        if match := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            first, last = int(match[1]), min(int(match[2] or len(content)), len(content) - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
            content, status = content[first : last + 1], 206
        if self.command == "GET":
            self.server.given.add((revision, name))
        return self.say(status, content, headers)

    def json(self, value):
        self.say(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def say(self, status, content, headers):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content)), "Accept-Ranges": "bytes"}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *args):
        pass


def entry(name, content):
    return {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}


@pytest.fixture(scope="module")
def files(tmp_path_factory, encoded):
    folder = tmp_path_factory.mktemp("files")
    files = {"README.md": README.encode()}
    features = Features({"image": Image(), "label": ClassLabel(names=["bee", "red_fox"])})
    for split, count in (("train", 3), ("validation", 70)):
        rows = {
            "image": [{"bytes": encoded((number, 0, 0))} for number in range(count)],
            "label": [number % 2 for number in range(count)],
        }
        Dataset.from_dict(rows, features=features).to_parquet(str(folder / split), batch_size=10)
        files[f"data/{split}-00000-of-00001.parquet"] = (folder / split).read_bytes()
    return files


@pytest.fixture(scope="module")
def server(files):
    server = Hub(files)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def hub(server):
    server.failing = False
    server.given = set()
    return server


@pytest.fixture(scope="module")
def looks(server, tmp_path_factory):
    """The process that looks; the library reads where its hub is when it is loaded."""
    home = tmp_path_factory.mktemp("home")
    process = subprocess.Popen(
        [sys.executable, "-c", LOOKS],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "HF_HOME": str(home / "hf"),
            "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_UPDATE_DOWNLOAD_COUNTS": "0",
            "no_proxy": "*",
        },
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield process
    process.communicate()


@pytest.fixture
def look(hub, looks):
    def looked(spec, start=0):
        print(json.dumps([spec, start]), file=looks.stdin, flush=True)
        return json.loads(looks.stdout.readline())

    return looked


def test_a_dataset_of_the_hub_is_streamed_at_one_commit(look, hub):
    found = look("hf:owner/name@validation")
    assert found["classes"] == ["bee", "red fox"]
    assert found["total"] == 2
    assert found["labels"] == [[0, 1] * 32, [0, 1] * 3]
    assert found["skipped"] == [[], []]
    assert len({revision for revision, name in hub.given if name.endswith(".parquet")}) == 1


def test_a_start_in_the_middle_and_another_split_are_streamed_too(look):
    assert look("hf:owner/name", start=1)["labels"] == [[0, 1] * 3]
    assert look("hf:owner/name@train")["labels"] == [[0, 1, 0]]


def test_a_split_that_the_hub_does_not_have_is_refused_with_those_it_has(look):
    assert look("hf:owner/name@test") == {
        "error": "UsageError",
        "message": "the dataset owner/name@test has no split 'test' (choose from train, validation)",
    }


def test_a_dataset_that_the_hub_does_not_have_is_refused(look):
    found = look("hf:owner/other")
    assert found["error"] == "UsageError"
    assert "check its name; for a private or gated one run `hf auth login`" in found["message"]


def test_files_that_cannot_be_fetched_are_told_in_one_line(look, hub):
    hub.failing = True
    found = look("hf:owner/name")
    assert found["error"] == "BackendError"
    assert "owner/name could not be fetched" in found["message"]
    assert "\n" not in found["message"]
