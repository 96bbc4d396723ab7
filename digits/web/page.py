"""The drawing page as one text, with its styles and scripts inside."""

import base64
import hashlib
import html
import json
import re
from pathlib import Path

FOLDER = Path(__file__).parent


def make_page(classes, more=(), folders=(FOLDER,)):
    """Return (the page for these class names, its Content-Security-Policy for styles and scripts).

    more: replacements in page.html, (old, new), made first. folders: where the files are that it names. The policy
    allows no style and script but the page's own.
    """
    # Styles and scripts go into the page: all browsers check the hash of an inline text, but not that of another file.
    hashes = {"style": [], "script": []}

    def inline(link):
        kind = "style" if link["name"].endswith(".css") else "script"
        path = next(path for folder in folders if (path := folder / link["name"]).exists())
        text = path.read_text("utf-8")
        hashes[kind].append(f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'")
        return f"<{kind}>{text}</{kind}>"

    page = (FOLDER / "page.html").read_text("utf-8")
    for old, new in more:
        page = page.replace(old, new)
    page = re.sub(r'<link rel="stylesheet" href="(?P<name>[^"]+)">', inline, page)
    page = re.sub(r'<script src="(?P<name>[^"]+)"></script>', inline, page)
    page = page.replace('data-classes=""', f'data-classes="{html.escape(json.dumps(classes))}"')
    sources = "; ".join(f"{kind}-src {' '.join(found)}" for kind, found in reversed(hashes.items()))
    return page, f"default-src 'none'; {sources}; img-src 'self' data: blob:; base-uri 'none'; form-action 'none'"
