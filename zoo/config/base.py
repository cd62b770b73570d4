"""The base of every config section."""

from typing import Literal

import msgspec

# What the backward pass computes again instead of keeping it.
Remat = Literal["none", "attention", "dots", "full"]


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A frozen, strictly checked group of keys."""

    def replace(self, **changes):
        """A copy with some keys changed."""
        return msgspec.structs.replace(self, **changes)
