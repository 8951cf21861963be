"""Tables as pages show them, and ASCII notation as it is printed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

_SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
_NUMBER = re.compile(r"[+-]?\d[\d.]*(e[+-]?\d+)?|–")
_SHORT, _SHORT_NAME, _LONG = 14, 20, 24  # letters: shorter cells and names do not break, longer ones get room
_STYLE = """<style>
.nanh2-numbers{margin:1rem 0;text-align:left}
.nanh2-numbers figcaption{margin:0 0 .4rem;font-size:.92em;line-height:1.4;text-align:left!important}
.nanh2-numbers figcaption{font-weight:400!important}
.nanh2-numbers figcaption,.nanh2-numbers td,.nanh2-numbers th{color:var(--pst-color-text-base,inherit)!important}
html[data-theme="dark"] .cell_output .text_html:has(.nanh2-numbers){background:none!important;padding:0!important}
.nanh2-scroll{overflow-x:auto}
.nanh2-numbers table{display:table;width:auto;margin:0;border-collapse:collapse;font-size:.92em}
.nanh2-numbers th,.nanh2-numbers td{padding:.22rem .6rem .22rem .3rem;text-align:left;vertical-align:top;border:0}
.nanh2-numbers thead>tr>*{vertical-align:bottom;border-bottom:2px solid var(--pst-color-border,#888)}
.nanh2-numbers tbody tr{border-bottom:1px solid var(--pst-color-border,#ccc)}
.nanh2-numbers tbody th{font-weight:600}
.nanh2-numbers table:has(tr>:nth-child(10)){font-size:.72em}
.nanh2-numbers table:has(tr>:nth-child(10)) :is(th,td){padding-right:.35rem;padding-left:.1rem}
.nanh2-numbers .short{white-space:nowrap}
.nanh2-numbers td.long{min-width:10rem}
.nanh2-numbers td.number{font-variant-numeric:tabular-nums;white-space:nowrap}
</style>"""


def typeset(text: str) -> str:
    """Plain ASCII notation as it is printed: screw axes and formulas with subscripts, units, signs.

    Examples
    --------
    >>> typeset("P2_1/c, NaNH2, 46.4 A^3, 1.03 +- 0.02 A")
    'P2₁/c, NaNH₂, 46.4 Å³, 1.03 ± 0.02 Å'
    """
    text = re.sub(r"(?<=\d)_(\d)", lambda found: found[1].translate(_SUBSCRIPTS), text)
    text = re.sub(r"NH2\b", "NH₂", text)
    text = re.sub(r"(?<=\d) A(\^3)?\b", lambda found: " Å³" if found[1] else " Å", text)
    text = re.sub(r"(?<![A-Za-z])A\^3", "Å³", text)
    text = re.sub(r"(?<=\d) x (?=\d|the )", " × ", text)
    return text.replace("+-", "±").replace(">= ", "≥ ").replace("<= ", "≤ ")


def html_table(caption: str, head: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> str:
    """A ``<figure>`` with caption and table; wide tables scroll inside their own box.

    Parameters
    ----------
    caption : str
    head : sequence of str
        Names of the columns behind the first, which holds the rows' names; empty: no head.
    rows : sequence of (name, cells)
    """
    names = "".join(f'<th scope="col">{escape(typeset(name))}</th>' for name in head)
    top = f"<thead><tr><td></td>{names}</tr></thead>" if head else ""
    body = "".join(
        f"<tr>{_cell('th', name)}{''.join(_cell('td', cell) for cell in cells)}</tr>" for name, cells in rows
    )
    table = f'<table class="nanh2-table">{top}<tbody>{body}</tbody></table>'
    note = f"<figcaption>{escape(typeset(caption))}</figcaption>"
    return f'{_STYLE}<figure class="nanh2-numbers">{note}<div class="nanh2-scroll" tabindex="0">{table}</div></figure>'


def _cell(tag: str, text: str) -> str:
    scope = ' scope="row"' if tag == "th" else ""
    short = _SHORT_NAME if tag == "th" else _SHORT
    name = "short" if len(text) <= short else "long" if len(text) >= _LONG else ""
    name = "number" if tag == "td" and _NUMBER.fullmatch(text) else name
    kind = f' class="{name}"' if name else ""
    return f"<{tag}{scope}{kind}>{escape(typeset(text))}</{tag}>"
