"""Links as QR codes. The one module that imports segno."""

from collections.abc import Mapping
from pathlib import Path

import segno

from deploy.errors import Refused

# A tenth of a millimetre a unit prints a code of 30 mm and more.
_SCALE = 8


def write_qr_codes(folder: Path, links: Mapping[str, str]) -> None:
    """Writes one SVG for each link, named after it. They hold codes: readable by their user alone.

    Raises Refused where that cannot be done.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, link in links.items():
            path = folder / f"{name}.svg"
            path.touch(mode=0o600)
            segno.make_qr(link, error="m").save(str(path), scale=_SCALE, title=name)
    except OSError as error:
        raise Refused(f"{folder} cannot be written: {error.strerror}.") from error
