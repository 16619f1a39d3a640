"""A run as an SVG: CPU time per request, bars by server. Pure: results in, text out.

It brings its own background, so that it can be read on a page of any colour; both follow the
viewer's colour scheme.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from harness.results import Results, Row

PANELS = (
    ("bare", "Bare ASGI application"),
    ("fastapi", "FastAPI, one JSON route"),
    ("tls", "Bare ASGI application over TLS"),
)
CONNECTIONS = 64
WIDTH = 760
MARGIN = 20
LABEL_WIDTH = 200
VALUE_WIDTH = 130
BAR_HEIGHT, BAR_GAP = 22, 8
TITLE_HEIGHT, PANEL_HEAD, PANEL_GAP = 64, 30, 22
STYLE = """\
  .page { fill: #ffffff; }
  text { font: 14px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; fill: #24292f; }
  .title { font-size: 17px; font-weight: 600; }
  .panel { font-weight: 600; }
  .soft { fill: #59636e; }
  .own { font-weight: 600; }
  .bar { fill: #a3adb8; }
  .bar.own { fill: #e0602b; }
  .bar.limit { fill: none; stroke: #8b949e; stroke-width: 1.5; stroke-dasharray: 4 3; }
  .axis { stroke: #8b949e; stroke-width: 1; }
  @media (prefers-color-scheme: dark) {
    .page { fill: #0d1117; }
    text { fill: #e6edf3; }
    .soft { fill: #9198a1; }
    .bar { fill: #656c76; }
    .bar.own { fill: #f0814f; }
  }"""


def svg(results: Results) -> str:
    """Return the picture."""
    rows = results.rows()
    panels = []
    for scenario, title in PANELS:
        group = [
            row
            for (name, _, connections), row in rows.items()
            if name == scenario and connections == CONNECTIONS
        ]
        if group:
            panels.append((title, sorted(group, key=lambda row: row.cpu_us)))
    lines: list[str] = []
    top = TITLE_HEIGHT
    for title, group in panels:
        lines += _panel(results, title, group, top)
        top += PANEL_HEAD + len(group) * (BAR_HEIGHT + BAR_GAP) + PANEL_GAP
    summary = "; ".join(
        f"{title}: " + ", ".join(f"{row.server} {row.cpu_us:.1f}" for row in group)
        for title, group in panels
    )
    width, height = WIDTH + 2 * MARGIN, top - PANEL_GAP + 2 * MARGIN
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            f'viewBox="{-MARGIN} {-MARGIN} {width} {height}" role="img" '
            'aria-labelledby="title summary">',
            '<title id="title">CPU time per request, in microseconds</title>',
            f'<desc id="summary">{escape(summary)}</desc>',
            f"<style>\n{STYLE}\n</style>",
            f'<rect class="page" x="{-MARGIN}" y="{-MARGIN}" width="{width}" '
            f'height="{height}" rx="6"/>',
            '<text class="title" x="0" y="22">CPU time per request, in microseconds</text>',
            '<text class="soft" x="0" y="44">less is better: user and system time of all '
            f"processes, one worker, {CONNECTIONS} connections</text>",
            *lines,
            "</svg>",
            "",
        ]
    )


def _panel(results: Results, title: str, group: list[Row], top: int) -> Iterator[str]:
    scale = (WIDTH - LABEL_WIDTH - VALUE_WIDTH) / max(row.cpu_us for row in group)
    own = next((row.cpu_us for row in group if row.server == "rsgi"), None)
    yield f'<text class="panel" x="0" y="{top + 16}">{escape(title)}</text>'
    begin = top + PANEL_HEAD
    for index, row in enumerate(group):
        y = begin + index * (BAR_HEIGHT + BAR_GAP)
        middle = y + BAR_HEIGHT - 6
        kind = {"rsgi": " own", "hyper": " limit"}.get(row.server, "")
        width = max(row.cpu_us * scale, 1)
        name = results.versions[row.server].rpartition(" ")[0]
        ratio = ""
        if own and row.server != "rsgi":
            ratio = f'<tspan class="soft" dx="6">({row.cpu_us / own:.1f}x)</tspan>'
        text = 'text class="own"' if row.server == "rsgi" else "text"
        yield f'<{text} x="{LABEL_WIDTH - 10}" y="{middle}" text-anchor="end">{escape(name)}</text>'
        yield (
            f'<rect class="bar{kind}" x="{LABEL_WIDTH}" y="{y}" width="{width:.1f}" '
            f'height="{BAR_HEIGHT}" rx="2"/>'
        )
        yield (
            f'<{text} x="{LABEL_WIDTH + width + 8:.1f}" y="{middle}">{row.cpu_us:.1f}{ratio}</text>'
        )
    end = begin + len(group) * (BAR_HEIGHT + BAR_GAP)
    yield f'<path class="axis" d="M{LABEL_WIDTH - 0.5} {begin - 4}V{end - BAR_GAP + 4}"/>'
