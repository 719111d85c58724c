"""Key-value memory of a batch of growing histories: written in place, reused over turns, row by row.

Every row owns a set of columns of one block of memory. Which columns a row may look at is said by the attention mask
and where they stand in its text by the position ids, so their order in memory means nothing: a row that begins anew
just gives its columns back.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

HOLE = -1


class ColumnLayer(CacheLayerMixin):
    """One layer's keys and values `(N, heads, capacity, head size)`; an update writes at the end and returns views."""

    is_sliding = False
    is_compileable = False

    def __init__(self) -> None:
        super().__init__()
        self.used = 0

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Take the shapes, type and device from the first states."""
        self.keys = key_states.new_zeros(*key_states.shape[:2], 0, key_states.shape[3])
        self.values = value_states.new_zeros(*value_states.shape[:2], 0, value_states.shape[3])
        self.is_initialized = True

    def like(self, other: ColumnLayer, rows: int) -> None:
        """Take the shapes, type and device of another layer, where there are none yet."""
        if not self.is_initialized:
            self.lazy_initialization(other.keys[:1].expand(rows, -1, -1, -1), other.values[:1].expand(rows, -1, -1, -1))

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Append columns and return all that are in use."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        end = self.used + key_states.shape[2]
        self.reserve(end)
        self.keys[:, :, self.used : end] = key_states
        self.values[:, :, self.used : end] = value_states
        self.used = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def reserve(self, columns: int) -> None:
        """Make room for at least so many columns, a quarter more than asked when it must grow."""
        have = self.keys.shape[2]
        if columns > have:
            extra = columns + columns // 4 + 16 - have
            self.keys = torch.cat([self.keys, self.keys.new_zeros(*self.keys.shape[:2], extra, self.keys.shape[3])], 2)
            shape = (*self.values.shape[:2], extra, self.values.shape[3])
            self.values = torch.cat([self.values, self.values.new_zeros(shape)], 2)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return (columns that a query sees, offset)."""
        return self.used + query_length, 0

    def get_seq_length(self) -> int:
        """Return the number of columns in use."""
        return self.used

    def get_max_length(self) -> int:
        """Return -1: there is no limit."""
        return -1


class KeyValueRows:
    """The histories of N rows in one key-value memory.

    Args:
        rows: number of rows N.
        layers: number of attention layers.
    """

    def __init__(self, rows: int, layers: int) -> None:
        self.cache = Cache(layers=[ColumnLayer() for _ in range(layers)])
        self.position = np.full((rows, 0), HOLE, dtype=np.int64)  # (N, columns): place in the row's text
        self.ids = np.full((rows, 0), HOLE, dtype=np.int64)  # (N, columns): token id

    @property
    def columns(self) -> int:
        """Number of columns in use."""
        return self.position.shape[1]

    def held(self, row: int) -> np.ndarray:
        """Return the token ids that a row holds, in the order of its text."""
        columns = np.flatnonzero(self.position[row] != HOLE)
        return self.ids[row, columns[np.argsort(self.position[row, columns])]]

    def common(self, row: int, wanted: Sequence[int]) -> int:
        """Return how many leading tokens of `wanted` the row holds."""
        held = self.held(row)
        limit = min(len(held), len(wanted))
        differs = np.flatnonzero(held[:limit] != np.asarray(wanted[:limit], dtype=np.int64))
        return int(differs[0]) if len(differs) else limit

    def keep_prefix(self, row: int, wanted: Sequence[int]) -> int:
        """Forget what differs from `wanted` and return how many leading tokens of it the row holds.

        At least the last token of `wanted` is forgotten, since its hidden state is what comes next.
        """
        length = self.common(row, wanted[:-1])
        self.position[row, self.position[row] >= length] = HOLE
        return length

    def forget(self, rows: Sequence[int]) -> None:
        """Give all columns of these rows back; a memory that holds nothing at all begins anew."""
        self.position[list(rows)] = HOLE
        if (self.position == HOLE).all():
            self.position, self.ids = self.position[:, :0], self.ids[:, :0]
            for layer in self.cache.layers:
                layer.used = 0

    def append(self, ids: np.ndarray, position: np.ndarray) -> None:
        """Enter `(N, T)` new columns, `HOLE` where a row has none; the model writes their keys and values."""
        self.ids = np.concatenate([self.ids, ids], 1)
        self.position = np.concatenate([self.position, position], 1)

    def lead(self, key_values: Tensor) -> None:
        """Enter keys and values `(N, layers, 2, heads, L, head size)` that all of a row's tokens see, into no history.

        They stand at place 0, beside the first token's; gradients reach them.
        """
        for layer, (keys, values) in zip(self.cache.layers, (kv.unbind(1) for kv in key_values.unbind(1)), strict=True):
            layer.update(keys, values)
        columns = np.zeros((len(self.ids), key_values.shape[4]), dtype=np.int64)
        self.append(columns + HOLE, columns)

    def adopt(self, rows: np.ndarray, other: KeyValueRows) -> None:
        """Take over `other`'s histories as those of `rows`, whose own were forgotten, into the first columns."""
        width = other.columns
        if width > self.columns:
            hole = np.full((len(self.ids), width - self.columns), HOLE, dtype=np.int64)
            self.append(hole, hole)
        self.position[rows], self.ids[rows] = HOLE, HOLE
        self.position[rows, :width], self.ids[rows, :width] = other.position, other.ids
        index = torch.from_numpy(rows)
        for mine, theirs in zip(self.cache.layers, other.cache.layers, strict=True):
            mine.like(theirs, len(self.ids))
            mine.reserve(self.columns)
            mine.used = self.columns
            mine.keys[index, :, :width] = theirs.keys[:, :, :width]
            mine.values[index, :, :width] = theirs.values[:, :, :width]

    def borrow(self, other: KeyValueRows) -> None:
        """Write into `other`'s storage, where it has as many rows; what it holds there is lost."""
        for mine, theirs in zip(self.cache.layers, other.cache.layers, strict=True):
            if theirs.is_initialized and theirs.keys.shape[0] >= len(self.ids):
                mine.keys, mine.values = theirs.keys[: len(self.ids)], theirs.values[: len(self.ids)]
                mine.is_initialized = True

    def take(self, other: KeyValueRows, rows: np.ndarray, lengths: np.ndarray | None = None) -> None:
        """Copy some rows' histories of `other` into this empty memory, without columns that none of them needs.

        Args:
            other: another memory, which is left as it is.
            rows: `(N,)` which rows of it; this memory has as many.
            lengths: `(N,)` how many leading tokens of each history are copied (default: all).
        """
        position = other.position[rows]
        if lengths is not None:
            position = np.where(position < lengths[:, None], position, HOLE)
        columns = np.flatnonzero((position != HOLE).any(0))
        self.position, self.ids = position[:, columns], other.ids[np.ix_(rows, columns)]
        for mine, theirs in zip(self.cache.layers, other.cache.layers, strict=True):
            if theirs.is_initialized:
                mine.like(theirs, len(rows))
                mine.reserve(len(columns))
                row, column = (torch.from_numpy(index).to(theirs.keys.device) for index in (rows, columns))
                mine.keys[:, :, : len(columns)] = theirs.keys.index_select(0, row).index_select(2, column)
                mine.values[:, :, : len(columns)] = theirs.values.index_select(0, row).index_select(2, column)
                mine.used = len(columns)

    def taken(self, rows: np.ndarray) -> KeyValueRows:
        """Return a copy of some rows' histories, without columns that none of them holds."""
        taken = KeyValueRows(len(rows), len(self.cache.layers))
        taken.take(self, rows)
        return taken

    def compact(self, slack: float) -> None:
        """Move every row's columns to the front and drop the rest, if there are `slack` times more than are needed."""
        longest = int((self.position != HOLE).sum(1).max(initial=0))
        if self.columns <= slack * longest + 16:
            return
        order = np.argsort(self.position == HOLE, axis=1, kind="stable")[:, :longest]
        self.position = np.take_along_axis(self.position, order, 1)
        self.ids = np.take_along_axis(self.ids, order, 1)
        for layer in self.cache.layers:
            index = torch.from_numpy(order)[:, None, :, None].to(layer.keys.device)
            layer.keys = layer.keys.take_along_dim(index, 2)
            layer.values = layer.values.take_along_dim(index, 2)
            layer.used = longest

    def attention_mask(self, new: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Return the additive mask `(N, 1, new, columns)` of the last `new` columns' queries.

        A query sees its row's columns up to its own position; a hole sees itself alone, so that no row of the softmax
        is empty.
        """
        place = torch.from_numpy(self.position).to(device)
        query = place[:, -new:, None]
        sees = (place[:, None, :] != HOLE) & (place[:, None, :] <= query)
        own = torch.arange(self.columns - new, self.columns, device=device)
        sees[:, torch.arange(new, device=device), own] = True
        mask = torch.zeros(sees.shape, dtype=dtype, device=device).masked_fill_(~sees, torch.finfo(dtype).min)
        return mask.unsqueeze(1)
