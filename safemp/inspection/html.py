"""A report as HTML: a fragment for notebooks, and a page that needs nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from safemp.engines.memory import size
from safemp.errors import shortened
from safemp.inspection.report import Report
from safemp.inspection.tree import Branch, kinds, tree_of, verdict, where

__all__ = ["fragment", "page"]

# Jupyter's own rules for lists are more specific than these, hence the "!important".
_STYLE = """
.safemp{font:14px/1.5 system-ui,sans-serif;max-width:72em}
.safemp code,.safemp summary{font-family:ui-monospace,monospace;font-size:13px}
.safemp ul,.safemp ul ul{list-style:none!important;margin:0;padding-left:1.2em;border-left:1px solid #8884}
.safemp>ul{padding-left:0;border:0}
.safemp .type{opacity:.65}
.safemp .bad{color:#c0262d;font-weight:600}
.safemp .good{color:#19803d}
.safemp dl{display:grid;grid-template-columns:max-content 1fr;gap:0 .8em;margin:.1em 0 .5em 1.2em}
.safemp dt{opacity:.65}.safemp dd{margin:0;overflow-wrap:anywhere}
.safemp table{border-collapse:collapse}.safemp td{padding:.1em .8em .1em 0;text-align:left}
.safemp .bar{display:inline-block;height:.7em;background:#3b78c4;min-width:1px}
@media (prefers-color-scheme:dark){.safemp .bad{color:#ff7b7f}.safemp .good{color:#58c97c}}
"""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}
</body>
</html>
"""


def page(report: Report) -> str:
    """Show *report* as a page of its own."""
    return _PAGE.format(title=escape(verdict(report)), style=_STYLE, body=_body(report))


def fragment(report: Report) -> str:
    """Show *report* as a part of another page."""
    return f"<style>{_STYLE}</style>\n{_body(report)}"


def _body(report: Report) -> str:
    return '<div class="safemp">\n' + "\n".join(_parts(report)) + "\n</div>"


def _parts(report: Report) -> Iterator[str]:
    yield f'<p class="{"good" if report.ok else "bad"}">{escape(verdict(report))}</p>'
    if report.culprits or any(repair.type_name != "module" for repair in report.repairs):
        yield "<ul>"
        yield from _branch(tree_of(report))
        yield "</ul>"
    if report.repairs:
        yield "<p><b>Repairs</b></p><ul>"
        for kind in kinds(report):
            often = f" &times;{kind.count}" if kind.count > 1 else ""
            yield (
                f'<li><span class="good">{escape(kind.repair.kind)}</span> '
                f"<code>{escape(kind.repair.type_name)}</code>{often}: {escape(kind.repair.why + where(kind))}</li>"
            )
        if report.more_repairs:
            yield f"<li>(+ {report.more_repairs} more)</li>"
        if report.needs_safemp:
            yield "<li>what is sent loads only where safemp is installed</li>"
        yield "</ul>"
    if report.sizes:
        yield "<p><b>Heaviest</b></p><table>"
        most = report.sizes[0].size
        for heavy in report.sizes:
            width = 12 * heavy.size / most
            yield (
                f"<tr><td>{escape(size(heavy.size))}</td>"
                f'<td><span class="bar" style="width:{width:.2f}em"></span></td>'
                f'<td><code>{escape(shortened(heavy.path))}</code> <span class="type">'
                f"{escape(heavy.type_name)}</span></td></tr>"
            )
        yield "</table>"


def _branch(branch: Branch) -> Iterator[str]:
    colour = ' class="bad"' if branch.culprits else ' class="good"' if branch.repairs else ""
    said = "".join(f' <span class="bad">{escape(culprit.problem)}</span>' for culprit in branch.culprits)
    said += "".join(f' <span class="good">{escape(repair.kind)}</span>' for repair in branch.repairs)
    label = (
        f'<code{colour}>{escape(branch.text.strip())}</code> <span class="type">{escape(branch.type_name)}</span>{said}'
    )
    yield "<li>"
    yield f"<details open><summary>{label}</summary>" if branch.below else label
    for culprit in branch.culprits:
        yield "<dl>"
        for name, text in (("reason", culprit.reason), ("fix", culprit.fix), ("owner", culprit.owner)):
            if text:
                yield f"<dt>{name}</dt><dd>{escape(text)}</dd>"
        yield f"<dt>path</dt><dd><code>{escape(shortened(culprit.path))}</code></dd></dl>"
    if branch.below:
        yield "<ul>"
        for below in branch.below.values():
            yield from _branch(below)
        yield "</ul></details>"
    yield "</li>"
