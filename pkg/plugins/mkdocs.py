"""MkDocs: `hooks: [node_modules/shirube/plugins/mkdocs.py]` builds the search after every `mkdocs build`. Needs Node.

Every page gets the search's button in its lower corner; `extra: {shirube: {button: false}}` leaves it out.
"""

import re
import shutil
import subprocess
from pathlib import Path

CLI = Path(__file__).resolve().parent.parent / "node" / "cli.mjs"


def on_post_page(output, page, config):
    """Adds the script and the button to a page."""
    if (config["extra"].get("shirube") or {}).get("button") is False:
        return output
    up = "../" * page.url.count("/")
    tags = f'<script type="module" src="{up}shirube/ui.js"></script>'
    button = f'<shirube-trigger bundle="{up}shirube/" style="position: fixed; inset: auto 1rem 1rem auto; z-index: 5"></shirube-trigger>'
    output = re.sub("</head>", lambda end: tags + end[0], output, count=1)
    return re.sub("</body>", lambda end: button + end[0], output, count=1)


def on_post_build(config):
    """Builds the search over the site that MkDocs has written."""
    node = shutil.which("node")
    if node is None:
        raise RuntimeError("shirube needs Node (https://nodejs.org) on the path")
    site_url = config["site_url"] or "/"
    base = re.sub(r"^[a-z]+://[^/]+", "", site_url) or "/"
    command = [node, CLI, "build", config["site_dir"], "--name", config["site_name"], "--base", base, "--exclude", "search*", "--quiet"]
    subprocess.run(command, check=True)
