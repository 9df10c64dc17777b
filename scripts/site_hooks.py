"""What mkdocs calls while it builds the site: links of notebooks to pages.

mkdocs turns the links of Markdown pages into links of the site. Those of notebooks stay
as they are written, for readers of the repository, and are turned here.
"""

import re
from typing import Any


def on_page_content(html: str, page: Any, **_: Any) -> str:
    """A page's HTML; `../reading.md` in a notebook becomes `../../reading/`."""
    if not page.file.src_uri.endswith(".ipynb"):
        return html
    return re.sub(r'href="\.\./([\w/]+)\.md', r'href="../../\1/', html)
