"""The text of a Word document (.docx): mammoth makes a page of it, which is read as any other."""

from __future__ import annotations

import io
import zipfile

from tamis.probes.errors import BadInput
from tamis.probes.extras import import_extra
from tamis.service.documents.decoding import display_name
from tamis.service.documents.html_text import html_text

MAX_UNPACKED_BYTES = 1 << 28
"""A .docx that unpacks to more (256 MiB) is refused before it fills the memory."""
_CODE_STYLES = "\n".join(
    f"{style} => pre:separator('\\n')"
    for name in ("Source Code", "HTML Preformatted", "Preformatted Text", "Code")
    for style in (f"p[style-name='{name}']", f"p.{name.replace(' ', '')}")
)


def docx_text(data: bytes, name: str) -> str:
    """Headings, paragraphs, lists, tables and notes as Markdown; pictures are left out.

    Raises:
        BadInput: the file is damaged, or unpacks to more than `MAX_UNPACKED_BYTES`.
        MissingExtra: `mammoth` is not installed.
    """
    package = import_extra("mammoth", "DOCX", "documents")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > MAX_UNPACKED_BYTES:
            raise BadInput(
                f"{display_name(name)} unpacks to {unpacked:,} bytes and at most "
                f"{MAX_UNPACKED_BYTES:,} are read; save its text alone"
            )
        without_pictures = package.images.img_element(lambda picture: {})
        html: str = package.convert_to_html(
            io.BytesIO(data), convert_image=without_pictures, style_map=_CODE_STYLES
        ).value
    except BadInput:
        raise
    except Exception as error:  # mammoth raises whatever its parts raise on a damaged file
        raise BadInput(
            f"{display_name(name)} cannot be read as DOCX ({error}); bring a whole copy"
        ) from error
    return html_text(html).text
