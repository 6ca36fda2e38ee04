"""A real Ollama server for tests, with two small models; ``tests/ollama/install.sh`` installs it."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from line_neurons.tools.language_models.registry import EMBEDDED

FOLDER = Path(sys.prefix) / "ollama"
SMALL, GOOD = "smollm2:135m", "qwen2.5-coder:1.5b"
PACKS = {SMALL: "smollm2-135m", GOOD: "qwen2.5-coder-1.5b"}
_MODELFILE = Path(__file__).parents[1] / "ollama" / "Modelfile"
_START_SECONDS = 120


class OllamaServer:
    """One server process; can be killed and started again at the same address.

    Args:
        models: folder of its models.
        log: file that its log goes to.
    """

    def __init__(self, models: Path, log: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.host = f"127.0.0.1:{free.getsockname()[1]}"
        self.url = f"http://{self.host}"
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(FOLDER),
            "OLLAMA_HOST": self.host,
            "OLLAMA_MODELS": str(models),
            # A model that is loaded again for another test or context reads its prompts again.
            "OLLAMA_MAX_LOADED_MODELS": "2",
            "OLLAMA_CONTEXT_LENGTH": "2048",
            "OLLAMA_NUM_PARALLEL": "1",
            # Whatever the machine can reach, nothing is pulled from a registry.
            "HTTPS_PROXY": "http://127.0.0.1:9",
            "NO_PROXY": "127.0.0.1",
        }

    def start(self) -> None:
        """Start it and wait until it answers."""
        with self._log.open("ab") as log:
            # A session of its own, so that its runner processes can be ended with it.
            process = self._process = subprocess.Popen(
                [FOLDER / "ollama", "serve"],
                env=self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        end = time.monotonic() + _START_SECONDS
        while time.monotonic() < end:
            try:
                httpx.get(f"{self.url}/api/version", timeout=2, trust_env=False).raise_for_status()
                return
            except httpx.HTTPError:
                if process.poll() is not None:
                    break
                time.sleep(0.1)
        self.kill()
        raise RuntimeError(f"the Ollama server did not start:\n{self._log.read_text('utf-8', 'replace')[-2000:]}")

    def kill(self) -> None:
        """End it and its runners at once, without a chance to finish an answer."""
        # Taken first: while this waits, another thread may start it again.
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def create(self, name: str, weights: Path) -> None:
        """Make a model of a GGUF file, unless it is there."""
        listed = httpx.get(f"{self.url}/api/tags", timeout=60, trust_env=False).json()["models"]
        if name in {model["name"] for model in listed}:
            return
        file = FOLDER / f"{name.replace(':', '-')}.modelfile"
        file.write_text(f"FROM {weights}\n{_MODELFILE.read_text()}")
        subprocess.run(
            [FOLDER / "ollama", "create", name, "-f", file],
            env=self._environment,
            check=True,
            capture_output=True,
            timeout=300,
        )


def installed() -> Path:
    """The folder of the models; the test is skipped where no server is installed."""
    if not (FOLDER / ".installed").is_file():
        pytest.skip(f"no Ollama server in {FOLDER}; tests/ollama/install.sh installs one")
    return FOLDER / "models"


@pytest.fixture
def ollama_servers(assets, tmp_path):
    """Makes servers of their own, all with the same models, that a test may kill; it ends them."""
    models = installed()
    made = []

    def make() -> OllamaServer:
        made.append(OllamaServer(models, tmp_path / f"ollama-{len(made)}.log"))
        made[-1].start()
        _fill(made[-1], assets)
        return made[-1]

    yield make
    for server in made:
        server.kill()


@pytest.fixture(scope="session")
def ollama(assets, tmp_path_factory):
    """A server with both models, for the whole session; its ``url`` says where."""
    server = OllamaServer(installed(), tmp_path_factory.mktemp("ollama") / "ollama.log")
    server.start()
    try:
        _fill(server, assets)
        yield server
    finally:
        server.kill()


def _fill(server: OllamaServer, assets: Path) -> None:
    for name, pack in PACKS.items():
        server.create(name, assets / pack / EMBEDDED[pack][0])
