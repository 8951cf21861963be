"""What notebooks and pages show: pictures with alt text, light and dark figures, galleries."""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nanh2lib.errors import InputError
from nanh2lib.report.drawing import write_bytes
from nanh2lib.report.html_table import typeset

_FITS_A_PHONE = 700  # CSS pixels: wider figures scroll on a narrow page instead of shrinking
STYLE = """<style>
.nanh2-figure{margin:1rem 0;text-align:left}
.nanh2-figure img{max-width:100%;height:auto;border-radius:6px}
.nanh2-figure img.nanh2-paper{background:#fff!important}
.nanh2-figure figcaption{margin-top:.4rem;font-size:.92em;line-height:1.4}
.nanh2-figure figcaption{text-align:left!important;font-weight:400!important;overflow-wrap:anywhere}
.nanh2-figure figcaption,.nanh2-figure figcaption *{color:var(--pst-color-text-base,inherit)!important}
.nanh2-figure figcaption a{color:var(--pst-color-link,inherit)!important;text-decoration:underline}
.nanh2-figure figcaption strong{font-weight:600!important}
.nanh2-compare label{color:var(--pst-color-text-base,inherit)}
html[data-theme="dark"] .cell_output .text_html:has(.nanh2-figure){background:none!important;padding:0!important}
html[data-theme="dark"] .cell_output .widget-subarea{background:none!important;padding:0!important}
html[data-theme="dark"] .cell_output .nanh2-figure img{padding:0!important}
.cell_output:has(.nanh2-live),.jp-OutputArea:has(.nanh2-live){display:flex;flex-wrap:wrap;gap:1rem}
.cell_output:has(.nanh2-live)>*,.jp-OutputArea:has(.nanh2-live)>*{flex:1 1 320px;min-width:0}
.nanh2-strip{overflow-x:auto}
.nanh2-strip img{width:min(760px,max(100%,560px));max-width:none!important}
.nanh2-dark{display:none!important}
html[data-theme="dark"] .nanh2-dark{display:inline!important}
html[data-theme="dark"] .nanh2-light{display:none!important}
body[data-jp-theme-light="false"] .nanh2-dark{display:inline!important}
body[data-jp-theme-light="false"] .nanh2-light{display:none!important}
.nanh2-gallery{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,250px),1fr));gap:1rem}
.nanh2-gallery .nanh2-figure{margin:0}
.nanh2-gallery img{width:100%;aspect-ratio:4/3;object-fit:contain}
.nanh2-compare img{width:100%;max-width:520px;aspect-ratio:4/3;object-fit:contain}
.nanh2-compare{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,280px),1fr));gap:1rem;margin:1rem 0}
.nanh2-compare select{max-width:100%;font:inherit;margin:.2rem 0 .5rem}
</style>
"""


def _checked_alt(alt: str) -> str:
    if not alt.strip():
        raise InputError("alt text is empty: say in one or two sentences what the picture shows")
    return " ".join(alt.split())


def data_uri(data: bytes, mime: str) -> str:
    """Inline address of some bytes."""
    return f"data:{mime};base64,{base64.b64encode(data).decode('ascii')}"


def _figure_html(images: str, caption: str, *, extra: str = "", live: bool = False) -> str:
    note = f"<figcaption>{html.escape(typeset(caption))}{extra}</figcaption>" if caption or extra else ""
    names = "nanh2-figure nanh2-live" if live else "nanh2-figure"
    return f'<figure class="{names}">{images}{note}</figure>'


@dataclass(frozen=True)
class Picture:
    """A PNG with alt text and caption, and a live view beside it where there is one.

    Attributes
    ----------
    png : bytes
    alt : str
        Never empty.
    caption : str
    width : int
        Shown width, CSS pixels.
    live : object or None
        nglview widget, shown after the picture.
    strip : bool
        Frames side by side: on a narrow page the picture scrolls instead of shrinking.
    """

    png: bytes
    alt: str
    caption: str = ""
    width: int = 560
    live: Any = None
    strip: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "alt", _checked_alt(self.alt))

    def __repr__(self) -> str:
        return f"Picture: {self.alt}"

    def image_html(self) -> str:
        """The ``<img>`` alone."""
        source, alt = data_uri(self.png, "image/png"), html.escape(self.alt, quote=True)
        return f'<img class="nanh2-paper dark-light" src="{source}" alt="{alt}" width="{self.width}">'

    def _repr_html_(self) -> str:
        image = f'<div class="nanh2-strip" tabindex="0">{self.image_html()}</div>' if self.strip else self.image_html()
        return STYLE + _figure_html(image, self.caption, live=self.live is not None)

    def _ipython_display_(self) -> None:
        from IPython.display import HTML, display

        display(HTML(self._repr_html_()))
        if self.live is not None:
            display(self.live)

    def save(self, path: str | Path) -> Path:
        """Write the PNG in one step."""
        return write_bytes(path, self.png)


@dataclass(frozen=True)
class ThemedFigure:
    """A chart as two vector images, shown by the page's light or dark mode.

    Attributes
    ----------
    light, dark : bytes
        SVG.
    alt, caption : str
        The alt text is never empty.
    width : int
        Shown width, CSS pixels.
    """

    light: bytes
    dark: bytes
    alt: str
    caption: str = ""
    width: int = 640

    def __post_init__(self) -> None:
        object.__setattr__(self, "alt", _checked_alt(self.alt))

    def __repr__(self) -> str:
        return f"Figure: {self.alt}"

    def _repr_html_(self) -> str:
        alt = html.escape(self.alt, quote=True)
        images = "".join(
            f'<img class="nanh2-{theme} dark-light" src="{data_uri(svg, "image/svg+xml")}" alt="{alt}" '
            f'width="{self.width}">'
            for theme, svg in (("light", self.light), ("dark", self.dark))
        )
        if self.width > _FITS_A_PHONE:
            images = f'<div class="nanh2-strip" tabindex="0">{images}</div>'
        return STYLE + _figure_html(images, self.caption)

    def save(self, path: str | Path, *, theme: str = "light") -> Path:
        """Write one of the two SVG files in one step."""
        return write_bytes(path, self.dark if theme == "dark" else self.light)


@dataclass(frozen=True)
class GalleryItem:
    """One crystal of a gallery.

    Attributes
    ----------
    title : str
        E.g. ``"S1-P21c: P2_1/c (Z = 4)"``.
    picture : Picture
    note : str
        Under the title: energy, source.
    cif : str
        Text of the file offered for download; empty for none.
    file_name : str
        Its name.
    """

    title: str
    picture: Picture
    note: str = ""
    cif: str = ""
    file_name: str = "structure.cif"

    def html(self) -> str:
        """The item as a ``<figure>``."""
        link = ""
        if self.cif:
            address = data_uri(self.cif.encode(), "chemical/x-cif")
            name = html.escape(self.file_name, quote=True)
            link = f'<br><a href="{address}" download="{name}">CIF ({name})</a>'
        note = f"<br>{html.escape(typeset(self.note))}" if self.note else ""
        extra = f"<strong>{html.escape(typeset(self.title))}</strong>{note}{link}"
        return _figure_html(self.picture.image_html(), "", extra=extra)


@dataclass(frozen=True)
class Gallery:
    """Pictures in a grid, each with its title, note and CIF; any two side by side on request.

    Attributes
    ----------
    items : sequence of GalleryItem
    compare : bool
        Add two menus that put any two of the crystals side by side (no network, no library).
    """

    items: Sequence[GalleryItem]
    compare: bool = True

    def __repr__(self) -> str:
        return f"Gallery of {len(self.items)}: " + "; ".join(item.title for item in self.items)

    def _repr_html_(self) -> str:
        grid = "".join(item.html() for item in self.items)
        name = "g" + hashlib.sha256("|".join(item.title for item in self.items).encode()).hexdigest()[:8]
        pair = self._compare_html(name) if self.compare and len(self.items) > 1 else ""
        return f'{STYLE}{pair}<div class="nanh2-gallery" id="{name}">{grid}</div>'

    def _compare_html(self, name: str) -> str:
        panes = []
        for k, side in enumerate(("First", "Second")):
            options = "".join(
                f'<option value="{i}"{" selected" if i == k else ""}>{html.escape(typeset(item.title))}</option>'
                for i, item in enumerate(self.items)
            )
            panes.append(
                f'<div><label for="{name}-{k}">{side} structure</label><br>'
                f'<select id="{name}-{k}">{options}</select><div id="{name}-pane{k}" aria-live="polite"></div></div>'
            )
        script = (
            "<script>(function(){function fill(k){"
            f'var s=document.getElementById("{name}-"+k),p=document.getElementById("{name}-pane"+k),'
            f'f=document.querySelectorAll("#{name} figure")[s.value];'
            "p.replaceChildren(f.cloneNode(true));}"
            f'function start(){{[0,1].forEach(function(k){{fill(k);document.getElementById("{name}-"+k)'
            '.addEventListener("change",function(){fill(k);});});}'
            'if(document.readyState==="loading"){document.addEventListener("DOMContentLoaded",start);}'
            "else{setTimeout(start,0);}})();</script>"
        )
        return f'<div class="nanh2-compare">{"".join(panes)}</div>{script}'
