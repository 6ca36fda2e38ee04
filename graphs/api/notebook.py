"""HTML of a run and of a unit for notebooks, with embedded images; every text is escaped."""

from __future__ import annotations

import base64
from collections.abc import Callable
from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING, Any

from line_neurons.agent.text import clean_text, format_spread, short_score
from line_neurons.tools.cache.reader import StoredImage
from line_neurons.tools.images.reader import ImageError, read_image

if TYPE_CHECKING:
    from jinja2 import Environment, Template

UNITS_SHOWN = 20
"""Maximum number of units in the table of a run."""
IMAGES_SHOWN = 5
"""Maximum number of images of a unit in the table of a run."""

_EDGE = 96
"""Longer side of a thumbnail, in pixels."""

_IMAGES = """
{%- macro strip(found) -%}
{%- for one in found -%}
{%- if one.error -%}<span title="{{ one.error|text }}">the image {{ one.error|text }}</span>
{%- else -%}<img src="{{ one|thumbnail }}" title="{{ one|caption }}" style="display:inline;margin:1px">
{%- endif -%}
{%- endfor -%}
{%- endmacro -%}
"""

RUN = (
    _IMAGES
    + """
<div><b>{{ result.run.target_name|text }} {{ result.run.layer|text }}</b>, run {{ result.run.id|text }}:
{{ result.run.status|text }}</div>
<table><thead><tr><th>unit</th><th>label</th><th>images</th><th>score</th><th>AUC</th><th>MAD</th><th>margin</th>
<th>origin</th><th>runner-up</th></tr></thead><tbody>
{%- for unit in result.units[:shown] -%}
<tr><td>{{ unit.unit }} {{ unit.name|text }}</td>
{%- if unit.label is none -%}
<td colspan="8" style="text-align:left">{{ unit.status|text }} {{ unit.error|text }} {{ unit.condition|text }}</td>
{%- else -%}
<td><b>{{ unit.label|text }}</b>
{%- if unit.error %}<br>{{ unit.status|text }}: {{ unit.error|text }}{% endif -%}
{%- if unit.condition %}<br><em>{{ unit.condition|text }}</em>{% endif -%}</td>
<td style="text-align:left">{{ strip(unit.evidence()[:few]) }}</td>
<td>{{ unit.score|number }} {{ unit.spread|spread }}</td>
<td>{{ unit.auc|number }}</td><td>{{ unit.mad|number }}</td>
<td>{{ unit.margin|number }}</td><td>{{ unit.origin|text }}</td>
<td>{% if unit.runner_up %}{{ unit.runner_up[0]|text }} {{ unit.runner_up[1]|number }}{% endif %}</td>
{%- endif -%}
</tr>
{%- endfor -%}
</tbody></table>
{%- if result.units|length > shown -%}
<div>and {{ result.units|length - shown }} more units; all of them: <code>.frame()</code></div>
{%- endif -%}
{%- for remark in result.remarks -%}<div><em>{{ remark|text }}</em></div>{%- endfor -%}
"""
)

UNIT = (
    _IMAGES
    + """
<div><b>{{ unit.layer|text }} {{ unit.title|text }}:
{{ (unit.label or unit.status)|text }}</b> {{ unit.error|text }}
{%- if unit.label is not none -%}
, score {{ unit.score|number }} {{ unit.spread|spread }}, AUC {{ unit.auc|number }}, MAD {{ unit.mad|number }},
{{ unit.margin|number }} above the best initial label {{ unit.initial_label|text }}
{%- endif -%}
{%- if unit.condition %}<br><em>{{ unit.condition|text }}</em>{% endif -%}
</div><div>{{ strip(unit.evidence()) }}</div>
<table><thead><tr><th>step</th><th>concept</th><th>score</th><th>outcome</th><th>reasoning</th></tr>
</thead><tbody>
{%- for step in unit.history -%}
<tr><td>{{ step.step }} {{ step.kind|text }}</td><td>{{ step.concept|text }}</td><td>{{ step.score|number }}
{%- if step.score is not none %} {{ unit.spread_of(step)|spread }}{% endif -%}</td>
<td>{{ step.outcome|text }}</td><td style="text-align:left">{{ step.reasoning|text }}</td></tr>
{%- endfor -%}
</tbody></table>
"""
)


def render(template: str, **values: Any) -> str:
    """Fill ``RUN`` in with a ``result``, or ``UNIT`` with a ``unit``."""
    return _template(template).render(shown=UNITS_SHOWN, few=IMAGES_SHOWN, **values)


@cache
def _environment() -> Environment:
    from jinja2 import Environment

    environment = Environment(autoescape=True)
    filters: dict[str, Callable[..., str]] = {
        "text": lambda value: "" if value is None else clean_text(str(value), 2000),
        "number": _number,
        "spread": format_spread,
        "thumbnail": _thumbnail,
        "caption": _caption,
    }
    environment.filters.update(filters)
    return environment


@cache
def _template(source: str) -> Template:
    return _environment().from_string(source)


def _number(value: float | None) -> str:
    return "" if value is None else short_score(value)


def _caption(image: StoredImage) -> str:
    activation = "" if image.activation is None else f", activation {short_score(image.activation)}"
    return f"{clean_text(image.prompt, 300)}{activation}"


def _thumbnail(image: StoredImage) -> str:
    try:
        small = read_image(image.content)
    except ImageError:
        return ""
    small.thumbnail((_EDGE, _EDGE))
    file = BytesIO()
    small.save(file, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
