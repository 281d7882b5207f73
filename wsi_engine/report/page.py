"""Pages: one file each, with all that they need in it."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from wsi_engine.report.charts import number, readable
from wsi_engine.version import __version__

_TEMPLATES = "templates"


def write_page(path: Path, template: str, **values: Any) -> None:
    """Fill a template and write the page.

    Names and texts are escaped. A policy in the page's head forbids it to load anything: images
    are data URIs, style and script are in the page, and no other script runs.

    Parameters
    ----------
    path
        Target.
    template
        Name of a file in ``templates/``.
    values
        Values by the names that the template knows; each must be there.

    Raises
    ------
    OutputError
        If the page cannot be written.
    """
    script = _resource("sort.js").strip()
    page = (
        _environment()
        .get_template(template)
        .render(
            style=Markup(_resource("report.css")),
            script=Markup(script),
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            version=__version__,
            **values,
        )
    )
    path.write_text(page, encoding="utf-8")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("wsi_engine.report", _TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {"number": number, "readable": readable}
    return environment


def _resource(name: str) -> str:
    """Read a part of a page that goes in as it is; there are no names of users in it."""
    folder = resources.files("wsi_engine.report") / _TEMPLATES
    return (folder / name).read_text(encoding="utf-8")
