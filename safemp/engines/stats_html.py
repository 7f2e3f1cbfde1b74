"""What has happened in a pool, as HTML: a fragment for notebooks, and a page that needs nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from safemp.engines.memory import size
from safemp.engines.stats import Stats, WorkerStats
from safemp.engines.timeline import Timeline

__all__ = ["fragment", "page"]

_COLUMNS = 400
"""Parts of the pool's time that a worker's strip has. Picked: finer than one sees."""

_MOST_WORKERS = 200

# Jupyter's own rules for lists are more specific than these, hence the "!important".
_STYLE = """
.safemp-run{font:14px/1.5 system-ui,sans-serif;max-width:72em}
.safemp-run code{font-family:ui-monospace,monospace;font-size:13px;overflow-wrap:anywhere}
.safemp-run .numbers{display:flex;flex-wrap:wrap;gap:.4em 2em;margin:0 0 1em;padding:0}
.safemp-run .numbers div{display:flex;flex-direction:column-reverse}
.safemp-run .numbers dt{opacity:.65}
.safemp-run .numbers dt,.safemp-run .numbers dd{float:none!important;width:auto!important;white-space:nowrap}
.safemp-run .numbers dt{font-weight:normal!important}
.safemp-run .numbers dd{margin:0!important;padding:0!important;font-size:1.5em}
.safemp-run .bad{color:#c0262d}
.safemp-run h2{font-size:1em;margin:1.2em 0 .3em}
.safemp-run .wide{overflow-x:auto}
.safemp-run table{border-collapse:collapse}
.safemp-run td,.safemp-run th{padding:.1em .9em .1em 0;text-align:left;vertical-align:top;white-space:nowrap}
.safemp-run td.text{white-space:normal}
.safemp-run th{font-weight:normal;opacity:.65}
.safemp-run td.n{text-align:right;font-variant-numeric:tabular-nums}
.safemp-run .use{display:inline-block;width:6em;height:.7em;background:#8883}
.safemp-run .use i{display:block;height:100%;background:#3b78c4}
.safemp-run svg{display:block;width:100%;min-width:30em;height:auto}
.safemp-run svg rect.at{fill:#3b78c4}.safemp-run svg rect.failed{fill:#c0262d}
.safemp-run svg rect.row{fill:#8882}.safemp-run svg text{font-size:10px;fill:currentColor;opacity:.65}
@media (prefers-color-scheme:dark){.safemp-run .bad{color:#ff7b7f}.safemp-run svg rect.failed{fill:#ff7b7f}}
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


def page(stats: Stats) -> str:
    """Show *stats* as a page of its own."""
    title = f"{stats.calls} calls in {stats.seconds:.1f} s"
    return _PAGE.format(title=title, style=_STYLE, body=_body(stats))


def fragment(stats: Stats) -> str:
    """Show *stats* as a part of another page."""
    return f"<style>{_STYLE}</style>\n{_body(stats)}"


def _body(stats: Stats) -> str:
    return '<div class="safemp-run">\n' + "\n".join(_parts(stats)) + "\n</div>"


def _parts(stats: Stats) -> Iterator[str]:
    yield from _numbers(stats)
    timeline = stats.timeline
    if timeline is not None and timeline.spans:
        yield "<h2>Timeline</h2>"
        yield from _strips(stats, timeline)
    if stats.workers:
        yield "<h2>Workers</h2>"
        yield from _workers(stats)
    if timeline is not None and timeline.spans:
        yield '<h2>Longest calls</h2><div class="wide"><table>'
        for span in timeline.longest():
            bad = ' class="bad"' if span.failures else ""
            many = f", {span.calls} of them" if span.calls > 1 else ""
            yield (
                f'<tr><td class="n">{_seconds(span.seconds / span.calls)}{" each" * bool(many)}</td>'
                f"<td><code{bad}>{escape(span.label)}</code>{many}</td>"
                f"<td>worker {span.pid}, from {_seconds(span.begin)} on</td></tr>"
            )
        yield "</table></div>"
    if timeline is not None and timeline.errors:
        yield '<h2>Errors</h2><div class="wide"><table>'
        for label, text in timeline.errors:
            yield f'<tr><td><code>{escape(label)}</code></td><td class="bad text">{escape(text[:300])}</td></tr>'
        yield "</table></div>"
        more = stats.failures - len(timeline.errors)
        if more > 0:
            yield f"<p>(+ {more} more)</p>"
    if timeline is not None and timeline.lost:
        yield f"<p>{timeline.lost} spans were too many to be kept.</p>"


def _numbers(stats: Stats) -> Iterator[str]:
    shown = [
        ("calls", str(stats.calls), False),
        ("failed", str(stats.failures), bool(stats.failures)),
        ("tried again", str(stats.retries), False),
        ("ended with their worker", str(stats.crashes), bool(stats.crashes)),
        ("in all", _seconds(stats.seconds), False),
        ("at work, all workers", _seconds(stats.busy), False),
        ("in the queue, all calls", _seconds(stats.queued), False),
        ("pickling", _seconds(stats.encoding), False),
        ("sent", size(stats.bytes_sent), False),
        ("repairs", str(stats.repairs), False),
    ]
    yield '<dl class="numbers">'
    for name, text, bad in shown:
        colour = ' class="bad"' if bad else ""
        yield f"<div><dt>{name}</dt><dd{colour}>{escape(text)}</dd></div>"
    yield "</dl>"


def _workers(stats: Stats) -> Iterator[str]:
    yield '<div class="wide"><table><tr><th>worker<th>busy<th><th>calls<th>failed<th>there for<th></tr>'
    for worker in stats.workers[-_MOST_WORKERS:]:
        use = f"{worker.utilisation:.0%}"
        yield (
            f'<tr><td>{worker.pid}</td><td><span class="use"><i style="width:{use}"></i></span></td>'
            f'<td class="n">{use}</td><td class="n">{worker.calls}</td><td class="n">{worker.failures}</td>'
            f'<td class="n">{_seconds(worker.seconds)}</td><td>{_now(worker)}</td></tr>'
        )
    yield "</table></div>"


def _now(worker: WorkerStats) -> str:
    if worker.ended:
        return f"ended with {worker.exitcode}" if worker.exitcode else "ended"
    return f"at <code>{escape(worker.doing)}</code> for {_seconds(worker.doing_for)}" if worker.doing else ""


def _strips(stats: Stats, timeline: Timeline) -> Iterator[str]:
    """Draw a strip for each worker, the darker the more of that time it was busy."""
    workers = [worker.pid for worker in stats.workers[-_MOST_WORKERS:]]
    total = max(stats.seconds, *(span.begin + span.seconds for span in timeline.spans)) or 1.0
    busy: dict[int, list[float]] = {pid: [0.0] * _COLUMNS for pid in workers}
    bad: dict[int, set[int]] = {pid: set() for pid in workers}
    for span in timeline.spans:
        if span.pid not in busy:
            continue
        row, begin = busy[span.pid], span.begin / total * _COLUMNS
        end = begin + span.seconds / total * _COLUMNS
        for column in range(int(begin), min(int(end), _COLUMNS - 1) + 1):
            row[column] += max(0.0, min(end, column + 1) - max(begin, column))
        if span.failures:
            bad[span.pid].add(min(int(end), _COLUMNS - 1))
    height = 16 * len(workers) + 16
    box = f'viewBox="0 0 {_COLUMNS + 60} {height}"'
    yield f'<div class="wide"><svg {box} role="img" aria-label="when workers were busy">'
    for i, pid in enumerate(workers):
        y = 16 * i
        yield f'<text x="0" y="{y + 10}">{pid}</text><rect class="row" x="60" y="{y}" width="{_COLUMNS}" height="12"/>'
        for begin, end, part in _runs(busy[pid]):
            yield f'<rect class="at" x="{60 + begin}" y="{y}" width="{end - begin}" height="12" opacity="{part:g}"/>'
        for column in sorted(bad[pid]):
            yield f'<rect class="failed" x="{60 + column}" y="{y}" width="1.5" height="12"/>'
    yield f'<text x="60" y="{height - 3}">0 s</text>'
    yield f'<text x="{_COLUMNS + 60}" y="{height - 3}" text-anchor="end">{_seconds(total)}</text></svg></div>'


def _runs(row: list[float]) -> Iterator[tuple[int, int, float]]:
    """Yield where columns of the same shade begin and end, but for those without any."""
    since, shade = 0, 0.0
    for column, part in enumerate([*row, 0.0]):
        found = round(min(1.0, part), 1) if part < 0.05 or part >= 0.1 else 0.1
        if found != shade:
            if shade:
                yield since, column, shade
            since, shade = column, found
    if shade:
        yield since, len(row), shade


def _seconds(seconds: float) -> str:
    if seconds >= 100:
        return f"{seconds:.0f} s"
    if seconds >= 0.1:
        return f"{seconds:.1f} s"
    return f"{1000 * seconds:.1f} ms" if seconds >= 0.0001 else f"{1e6 * seconds:.0f} µs" if seconds else "0 s"
