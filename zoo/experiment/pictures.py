"""Pictures inside a page, as data URIs."""

import base64
from io import BytesIO

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

MAX_SIDE = 192  # pixels; forty pictures of that size keep a page below a megabyte
LOSSLESS_UP_TO = 64  # pixels: small pictures are shown enlarged, where JPEG's blocks would show
HEAT_RGB = (255, 122, 0)


def image_uri(image: UInt8[np.ndarray, "rows cols C"]) -> str:
    """A data URI of a grey (C = 1) or RGB image: PNG if it is small, else JPEG of at most 192."""
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    if max(picture.size) <= LOSSLESS_UP_TO:
        return _uri(picture, "png")
    picture.thumbnail((MAX_SIDE, MAX_SIDE))
    return _uri(picture, "jpeg", quality=88)


def heat_uri(heat: Float[np.ndarray, "rows cols"]) -> str:
    """A data URI of an overlay of one pixel a patch: orange, clear where the heat (0 to 1) is 0."""
    layer = np.empty((*heat.shape, 4), np.uint8)
    layer[..., :3] = HEAT_RGB
    layer[..., 3] = np.round(200 * np.clip(np.nan_to_num(heat), 0, 1))
    return _uri(Image.fromarray(layer), "png")


def _uri(picture: Image.Image, kind: str, **options: int) -> str:
    file = BytesIO()
    picture.save(file, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
