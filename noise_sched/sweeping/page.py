"""The report of a sweep as one HTML file that needs nothing else: no network, no other file."""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from string import Template

from matplotlib.figure import Figure
from PIL import Image

from noise_sched.sweeping import pictures, table
from noise_sched.sweeping.results import Result, Sweep
from noise_sched.sweeping.table import Line

_MOST_SAMPLES = 60  # pictures in the file; of more settings the rest is named
_WIDEST = 360  # pixels of one of them

_PAGE = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
:root { color-scheme: light dark; --line: #8884; --soft: #8882; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 78rem; padding: 1rem 1.2rem 4rem; }
h1 { font-size: 1.5rem; margin: .6rem 0 0; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .5rem; }
p { max-width: 48rem; } .dim { opacity: .7; }
figure { margin: 0; } figure.wide img { max-width: 100%; height: auto; background: #fff; border-radius: 4px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .22rem .7rem; text-align: left; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { cursor: pointer; user-select: none; } th:hover { background: var(--soft); }
td.number { text-align: right; } tr.best { font-weight: 600; } tr.inconclusive { background: var(--soft); }
.samples { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: 1rem; }
.samples img { width: 100%; image-rendering: pixelated; background: #fff; border-radius: 4px; }
.samples figcaption { font-size: .8rem; overflow-wrap: anywhere; }
details summary { cursor: pointer; } code { overflow-wrap: anywhere; }
</style></head><body>
<h1>$title</h1>
<p class="dim"><code>$spec</code> · $counts</p>
$body
<script>
for (const head of document.querySelectorAll("th")) head.addEventListener("click", () => {
  const table = head.closest("table"), at = [...head.parentNode.children].indexOf(head);
  const down = head.dataset.down !== "1"; head.dataset.down = down ? "1" : "0";
  const key = row => { const cell = row.children[at]; return cell.dataset.value ?? cell.textContent; };
  const rows = [...table.tBodies[0].rows].sort((a, b) => {
    const x = key(a), y = key(b), both = !isNaN(x) && !isNaN(y);
    return (both ? x - y : String(x).localeCompare(y)) * (down ? 1 : -1);
  });
  table.tBodies[0].append(...rows);
});
</script>
</body></html>
""")


def make(sweep: Sweep, maps: Mapping[str, Figure], others: Mapping[str, Figure]) -> str:
    """The page.

    Args:
      sweep: the results.
      maps: the heat maps by figure; the first is shown, the others are folded away.
      others: more pictures, by their headings.
    """
    parts = [_stopped(sweep.results)]
    if not maps:
        parts.append("<p>No cell is judged yet.</p>")
    for number, (name, picture) in enumerate(maps.items()):
        inside = f"{_wide(picture, name)}{_table(sweep, name)}"
        if number == 0:
            parts.append(f"<h2>{_text(name)}</h2>{_how_to_read()}{inside}")
        else:
            parts.append(f"<details><summary>{_text(name)}</summary>{inside}</details>")
    for heading, picture in others.items():
        parts.append(f"<h2>{_text(heading)}</h2>{_wide(picture, heading)}")
    parts.append(_samples(pictures.with_samples(sweep.results)))
    return _PAGE.substitute(
        title=_text(sweep.name),
        spec=_text(sweep.spec),
        counts=_text(f"{table.counts(sweep.results)} of {len(sweep.results)} cells"),
        body="\n".join(parts),
    )


def _how_to_read() -> str:
    return (
        "<p class='dim'>Mean ± standard error over training seeds. A setting is compared with the best of "
        "its block, paired by seed; <em>inconclusive</em> is a gap below what seeds alone do (p ≥ 0.05 after "
        "Holm's correction). “Sure” is the probability that the best is the best, given that noise.</p>"
    )


def _table(sweep: Sweep, name: str) -> str:
    lines = table.lines(sweep, name)
    axes = [
        axis for axis, _ in lines[0].setting if any(axis in group for group in table.axes_of(sweep))
    ]
    heads = "".join(f"<th>{_text(h)}</th>" for h in [*axes, "mean", "± error", "seeds", "verdict"])
    rows = "".join(_row(line, axes) for line in lines)
    return f"<div class='scroll'><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"


def _row(line: Line, axes: Sequence[str]) -> str:
    labels = dict(line.setting)
    cells = "".join(f"<td>{_text(labels[axis])}</td>" for axis in axes)
    summary = line.summary
    for number in (summary.mean, summary.error):
        shown = "" if number != number else f"{number:.4g}"
        cells += f"<td class='number' data-value='{number!r}'>{shown}</td>"
    cells += f"<td class='number'>{summary.count}</td><td>{_text(table.verdict(line))}</td>"
    return f"<tr class='{summary.verdict}'>{cells}</tr>"


def _stopped(results: Sequence[Result]) -> str:
    found = [result for result in results if result.message]
    if not found:
        return ""
    items = "".join(f"<li><code>{_text(r.name)}</code>: {_text(r.message)}</li>" for r in found)
    return f"<h2>Cells that stopped</h2><ul>{items}</ul>"


def _samples(results: Sequence[Result]) -> str:
    if not results:
        return ""
    shown = "".join(_sample(result) for result in results[:_MOST_SAMPLES])
    rest = len(results) - _MOST_SAMPLES
    more = (
        f"<p class='dim'>{rest} more settings: see samples.png in their folders.</p>"
        if rest > 0
        else ""
    )
    return f"<h2>Samples</h2><div class='samples'>{shown}</div>{more}"


def _sample(result: Result) -> str:
    assert result.picture is not None
    with Image.open(result.picture) as picture:
        small = picture.convert("RGB")
        if small.width > _WIDEST:
            height = round(small.height * _WIDEST / small.width)
            small = small.resize((_WIDEST, height), Image.Resampling.BOX)
        file = io.BytesIO()
        small.save(file, format="png", optimize=True)
    caption = _text(table.words(result.setting) or result.name)
    return f"<figure>{_image(file.getvalue(), caption)}<figcaption>{caption}</figcaption></figure>"


def _wide(picture: Figure, alt: str) -> str:
    return f"<figure class='wide'>{_image(png(picture), _text(alt))}</figure>"


def png(picture: Figure) -> bytes:
    """A figure as the bytes of a PNG file."""
    file = io.BytesIO()
    picture.savefig(file, format="png", dpi=120)
    return file.getvalue()


def _image(content: bytes, alt: str) -> str:
    return f'<img alt="{alt}" src="data:image/png;base64,{base64.b64encode(content).decode()}">'


def _text(value: object) -> str:
    """Labels are what people write into config files: nothing in them is HTML."""
    return html.escape(str(value), quote=True)
