"""The base of every config section."""

import msgspec


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A frozen, strictly checked group of keys."""

    def replace(self, **changes):
        """A copy with some keys changed."""
        return msgspec.structs.replace(self, **changes)
