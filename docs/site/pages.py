"""What the site has beside docs/: pages of the root, the reference, the code that is linked to."""

from __future__ import annotations

import re
from pathlib import Path
from posixpath import dirname, join, normpath, relpath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from reference import command_line, spec_file

ROOT = Path(__file__).parents[2]

# Pages of the site that are files of the repository's root.
_FROM_ROOT = {
    "index.md": "README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
    "security.md": "SECURITY.md",
}
_GENERATED = {"reference/cli.md": command_line, "reference/spec.md": spec_file}
_LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)#\s]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages, and every file of the repository that a page links to."""
    for page, source in _FROM_ROOT.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text()))
    for page, write in _GENERATED.items():
        files.append(File.generated(config, page, content=write()))
    linked = {
        _target(link, file.src_uri)
        for file in files.documentation_pages()
        for link in _LINK.findall(file.content_string)
    }
    for path in sorted(linked):
        source_file = ROOT / path.removeprefix("code/")
        if path.startswith("code/") and source_file.is_file():
            files.append(
                File.generated(
                    config,
                    path,
                    abs_src_path=str(source_file),
                    inclusion=InclusionLevel.INCLUDED,
                )
            )
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Turn links between files of the repository into links between files of the site."""
    here = page.file.src_uri
    return _LINK.sub(lambda link: relpath(_target(link[1], here), dirname(here) or "."), markdown)


def _target(link: str, page: str) -> str:
    """Where the site has what a page links to."""
    path = normpath(join(dirname(_FROM_ROOT.get(page, f"docs/{page}")), link))
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    pages = {source: name for name, source in _FROM_ROOT.items()}
    return pages.get(path, f"code/{path}")
