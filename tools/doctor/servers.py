"""Check the servers of language models."""

from __future__ import annotations

from collections.abc import Iterator

from line_neurons.agent.errors import LineError
from line_neurons.agent.settings import Settings
from line_neurons.tools.doctor.findings import Finding

_SECONDS = 3
_SHOWN_MODELS = 5


def check_ollama(servers: str, llm: str) -> Iterator[Finding]:
    """Check Ollama servers, and that they have the configured model, or the default one."""
    from line_neurons.tools.language_models.ollama.address import server_urls
    from line_neurons.tools.language_models.ollama.models import installed

    try:
        urls = server_urls(servers)
    except LineError as error:
        yield Finding("ollama", "warn", error.message, error.remedy)
        return
    default = str(Settings.model_fields["llm"].default)
    wanted = (llm if llm.startswith("ollama:") else default).removeprefix("ollama:")
    for found in installed(urls, timeout=_SECONDS):
        if found.error:
            yield Finding("ollama", "warn", f"{found.error}; not needed for the demo", found.remedy)
            continue
        models = ", ".join(f"{model.name} {model.size / 1e9:.1f} GB" for model in found.models) or "no model yet"
        yield Finding("ollama", "ok", f"server {found.version} at {found.server}: {models}")
        if wanted not in {model.name for model in found.models}:
            yield Finding("ollama", "warn", f"{found.server} does not have {wanted}", f"line pull {wanted}")


def check_openai(servers: str, llm: str) -> Iterator[Finding]:
    """Check OpenAI-compatible servers, where any are configured."""
    from line_neurons.tools.language_models.openai.address import configured, server_urls
    from line_neurons.tools.language_models.openai.models import served

    kind, _, wanted = llm.partition(":")
    if kind != "openai" and not configured(servers):
        return
    try:
        urls = server_urls(servers)
    except LineError as error:
        yield Finding("openai", "warn", error.message, error.remedy)
        return
    for found in served(urls, timeout=_SECONDS):
        if found.error:
            yield Finding("openai", "warn", found.error, found.remedy)
            continue
        ids = [model.id for model in found.models]
        more = f" and {len(ids) - _SHOWN_MODELS} more" if len(ids) > _SHOWN_MODELS else ""
        yield Finding(
            "openai", "ok", f"server at {found.server}: {', '.join(ids[:_SHOWN_MODELS]) or 'no model'}{more}"
        )
        if kind == "openai" and wanted not in ids:
            yield Finding("openai", "warn", f"{found.server} does not serve {wanted}", "see `line models`")
