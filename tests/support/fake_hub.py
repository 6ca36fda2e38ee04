"""The Hugging Face hub on this machine: its cache, and a server that answers what downloads need."""

import hashlib
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def fill_cache(cache: Path, repository: str, folder: Path, leave_out: str = "") -> None:
    """Lay a folder out as the hub's cache does: files are links to blobs, large ones named by their hash."""
    root = cache / f"models--{repository.replace('/', '--')}"
    for name in ("refs", "blobs"):
        (root / name).mkdir(parents=True)
    (root / "refs" / "main").write_text(COMMIT)
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_dir() or name == leave_out:
            continue
        content = path.read_bytes()
        large = path.suffix == ".safetensors"
        blob = root / "blobs" / (hashlib.sha256(content) if large else hashlib.sha1(content)).hexdigest()
        blob.write_bytes(content)
        link = root / "snapshots" / COMMIT / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))


@contextmanager
def hub_of(repositories: dict[str, Path], home: Path) -> Iterator["Hub"]:
    """Serve folders as repositories; ``environment`` is that of a process whose cache is in ``home``."""
    hub = Hub(repositories)
    hub.environment = {
        **os.environ,
        "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}",
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    threading.Thread(target=hub.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()


class Hub(ThreadingHTTPServer):
    """As much of the hub as a download needs, with the repositories in ``folders``."""

    def __init__(self, repositories: dict[str, Path]) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.repositories = repositories
        self.sent: list[str] = []
        self.environment: dict[str, str] = {}


class _Answer(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = self.path.partition("?")[0].strip("/")
        if path.startswith("api/models/"):
            repository = "/".join(path.split("/")[2:4])
            folder = self.server.repositories.get(repository)
            if folder is None:
                return self.refuse(repository)
            files = sorted(one for one in folder.rglob("*") if one.is_file())
            names = [one.relative_to(folder).as_posix() for one in files]
            if "/tree/" in f"{path}/":
                entries = [
                    {"type": "file", "path": name, "size": one.stat().st_size, "oid": "0" * 40}
                    for name, one in zip(names, files, strict=True)
                ]
                return self.send(json.dumps(entries).encode())
            siblings = [{"rfilename": name} for name in names]
            about = {"id": repository, "sha": COMMIT, "siblings": siblings, "private": False, "tags": []}
            return self.send(json.dumps(about).encode())
        if "/resolve/" not in path:
            return self.refuse("")
        owner, name, _resolve, _commit, *file = path.split("/")
        folder = self.server.repositories.get(f"{owner}/{name}")
        if folder is None:
            return self.refuse(f"{owner}/{name}")
        content = (folder / "/".join(file)).read_bytes()
        if self.command == "GET":
            self.server.sent.append("/".join(file))
        return self.send(content)

    def send(self, content: bytes):
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Type", "application/json")
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def refuse(self, repository: str):
        gated = repository.endswith("gated") or repository.startswith("black-forest-labs")
        self.send_response(403 if gated else 404)
        self.send_header("X-Error-Code", "GatedRepo" if gated else "RepoNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass
