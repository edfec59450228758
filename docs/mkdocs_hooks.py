"""Hooks of mkdocs (``make site``): pages that are not in ``docs/``, and the API's, which are made of docstrings."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from acalsim_backend import _HOME

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "acalsim_backend"
# Names in the site of the pages beside docs/; README is what a visitor sees first.
ABOVE = {
    "README.md": "index.md",
    "ARCHITECTURE.md": "architecture.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
LINK = re.compile(r"\]\((?:\.\./|docs/)?(?P<file>[\w.]+)(?P<rest>#[^)]*)?\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """The pages of modules are listed here, so that no module is forgotten."""
    config.nav.append({"Modules": [uri for uri in _api() if uri != "api/index.md"]})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what mkdocs does not find in its folder."""
    pages = {uri: (ROOT / name).read_text(encoding="utf-8") for name, uri in ABOVE.items()}
    pages["LICENSE"] = (ROOT / "LICENSE").read_text(encoding="utf-8")
    for uri, text in (pages | _api()).items():
        files.append(File.generated(config, uri, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links as they are where all pages lie in one folder."""
    return LINK.sub(lambda m: f"]({ABOVE.get(m['file'], m['file'])}{m['rest'] or ''})", markdown)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Docstrings say ``:class:`` and ``:func:`` before a name; here its type face says enough."""
    return re.sub(r":(class|func|meth|mod):(?=<code>)", "", html)


def _api() -> dict[str, str]:
    """What ``import acalsim_backend`` offers, then every module, a page for each package."""
    public = (f"- [`{name}`][acalsim_backend.{home}.{name}]" for name, home in _HOME.items())
    pages = {"api/index.md": "\n".join(["# Python", "", "`acalsim_backend` offers:", "", *public])}
    for entry in sorted(PACKAGE.iterdir()):
        if entry.name.startswith("_"):
            continue
        modules = sorted(entry.rglob("*.py")) if entry.is_dir() else [entry]
        names = [".".join(m.relative_to(PACKAGE.parent).with_suffix("").parts) for m in modules if m.suffix == ".py"]
        names = [name.removesuffix(".__init__") for name in names]
        if names:
            text = "\n\n".join([f"# {entry.stem}", *(f"::: {name}" for name in names)])
            pages[f"api/{entry.stem}.md"] = text
    return pages
