"""A Markdown report as one HTML page that needs nothing else."""

import base64
import html
import io
import mimetypes
import re
from pathlib import Path
from string import Template
from urllib.parse import unquote

import markdown
from PIL import Image

_WIDTH = 1200  # pixels of a photograph in a page, at most

_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff;
  margin: 0 auto; max-width: 72rem; padding: 1rem; }
/* Where a table goes on beyond the edge, a shadow says so. */
table { border-collapse: collapse; display: block; overflow-x: auto; font-size: .9rem;
  font-variant-numeric: tabular-nums; background:
  linear-gradient(to right, #fff 2rem, transparent) 0 0 / 4rem 100% local no-repeat,
  linear-gradient(to left, #fff 2rem, transparent) 100% 0 / 4rem 100% local no-repeat,
  linear-gradient(to right, #0004, transparent) 0 0 / .8rem 100% scroll no-repeat,
  linear-gradient(to left, #0004, transparent) 100% 0 / .8rem 100% scroll no-repeat; }
th, td { padding: .25rem .45rem; border-bottom: 1px solid #ddd; text-align: left;
  white-space: nowrap; }
th { border-bottom: 2px solid #888; white-space: normal; vertical-align: bottom; }
td:has(code) { white-space: normal; }
td code { white-space: nowrap; }
p { overflow-x: auto; }
img { max-width: 100%; height: auto; }
/* The captions within a photograph are to be read on a phone, too. */
img[src^="data:image/jpeg"] { min-width: 48rem; }
pre { overflow-x: auto; background: #f4f4f4; padding: .6rem; }
code { overflow-wrap: anywhere; }
</style>
</head>
<body>
$body
</body>
</html>
""")


def render(text: str, title: str, folder: Path) -> str:
    """Renders Markdown, with its pictures embedded.

    Args:
      text: Markdown with tables.
      title: of the page.
      folder: what the paths of pictures are relative to.
    """
    body = markdown.markdown(text, extensions=["tables", "fenced_code", "toc"])
    body = re.sub(
        r'(<img [^>]*src=")([^"]+)"',
        lambda found: f'{found[1]}{_embedded(folder / unquote(html.unescape(found[2])))}"',
        body,
    )
    return _PAGE.substitute(title=html.escape(title), body=body)


def is_intact(path: Path) -> bool:
    """Whether a picture can be read to its end: an interruption may have torn it."""
    try:
        with Image.open(path) as picture:
            picture.load()
    except (OSError, SyntaxError):  # the latter of a chunk of a PNG
        return False
    return True


def _embedded(path: Path) -> str:
    """A picture as data: URL; photographs become JPEG of a page's width."""
    kind, content = mimetypes.guess_type(path)[0], path.read_bytes()
    if path.suffix == ".png":
        picture = Image.open(path).convert("RGB")
        picture.thumbnail((_WIDTH, picture.height))
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=85)
        kind, content = "image/jpeg", buffer.getvalue()
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
