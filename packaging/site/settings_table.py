"""The table of all settings of a run, made anew whenever the site is."""

from __future__ import annotations

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

from wsi_engine.config import RunSettings, setting_of

MARKER = "<!-- settings -->"


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put the table where a page marks its place."""
    del page, config, files
    return markdown.replace(MARKER, settings_table()) if MARKER in markdown else markdown


def settings_table() -> str:
    """Return the table in Markdown, a row per setting in their order."""
    lines = ["| setting | default | changes the result | what it sets |", "|---|---|---|---|"]
    for name, field in RunSettings.model_fields.items():
        setting = setting_of(field)
        many = isinstance(field.default, tuple)
        shown = ", ".join(map(str, field.default)) if many else field.default
        default = "" if field.default in (None, (), {}) else f"`{shown}`"
        unit = f" ({setting.unit})" if setting.unit else ""
        changes = "yes" if setting.changes_result else ""
        meaning = setting.help.replace("|", "\\|").replace("*", "\\*")
        lines.append(f"| `{name}` | {default} | {changes} | {meaning}{unit} |")
    return "\n".join(lines)
