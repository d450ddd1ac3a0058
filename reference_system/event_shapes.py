"""The shape of a record: where its ids and texts are, and what an id is.

In: a record's declaration. Out: what strict decoding must look at beyond the types, and its description in a schema.
Invariant: a record is one flat object whose fields are all required; a declaration that is not is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from inspect import cleandoc
from operator import attrgetter
from typing import Annotated, Any, get_args, get_type_hints

import msgspec
from msgspec import Meta

# What nobody can see or what moves the text around it: control characters, soft hyphens, marks of direction, ends of
# lines and paragraphs, characters without width. Listed: what a Python calls printable changes with its version.
_UNSEEN = (
    r"\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
)
# The look-ahead is the end of the string in Python and in JSON Schema alike: `$` would let a newline pass.
ID_PATTERN = rf"^(?!\s)[^{_UNSEEN}]+(?<!\s)(?![\s\S])"
# The same in words.
AN_ID = "text of one line that begins and ends with a visible character"
# An id in a record: `decode` checks the pattern, for all ids of an event at once, because msgspec's own check of three
# ids costs four times as much as all the rest of a payment's decoding.
Id = Annotated[str, Meta(min_length=1, max_length=64), "an id of a record"]
# An id where msgspec decodes on its own, as it does the service's requests.
CheckedId = Annotated[str, Meta(min_length=1, max_length=64, pattern=ID_PATTERN)]

is_id = re.compile(ID_PATTERN).search


def are_plain_ids(joined: str) -> bool:
    """Whether texts that are joined by a space are ids, at a glance: of ASCII, and no two spaces in a row.

    Others may be ids as well: each must be looked at.
    """
    return joined.isascii() and joined.isprintable() and "  " not in f" {joined} "


@dataclass(slots=True, kw_only=True)
class Shape:
    """Where a record has ids and texts; every record is one flat object whose fields are all required.

    Without escapes the number of quotation marks tells how many keys and texts an object has, so one with a repeated
    key, of which the decoder silently keeps the last value, has more of them than its event calls for.
    """

    ids: list[str]
    id_lists: list[str] = field(default_factory=list)
    fixed_quotes: int = 0
    text_lists: list[str] = field(default_factory=list)
    optional_texts: list[str] = field(default_factory=list)

    def joined_ids(self) -> Callable[[msgspec.Struct], str]:
        """All ids of an event, joined by spaces."""
        if self.id_lists:
            # The single ids twice, so that there are at least two, which makes them a tuple.
            singles = attrgetter(*self.ids, self.ids[0])
            lists = [attrgetter(name) for name in self.id_lists]
            return lambda event: " ".join(sum([get(event) for get in lists], [*singles(event)]))
        if len(self.ids) == 1:
            return attrgetter(self.ids[0])
        several = attrgetter(*self.ids)
        return lambda event: " ".join(several(event))

    def quotes(self) -> Callable[[msgspec.Struct], int]:
        """How many quotation marks an event has when it is written without escapes and without a repeated key."""
        fixed, lists, optional = self.fixed_quotes, self.text_lists, self.optional_texts
        if not lists and not optional:
            return lambda _: fixed
        return lambda event: (
            fixed
            + 2 * sum([len(getattr(event, name)) for name in lists])
            + 2 * sum([getattr(event, name) is not None for name in optional])
        )


@cache
def shape_of(record: type[msgspec.Struct]) -> Shape:
    """The shape of a record, read from its declaration.

    Raises:
        TypeError: if it is no flat object of required fields.
    """
    hints = get_type_hints(record, include_extras=True)
    info = msgspec.inspect.type_info(record)
    shape = Shape(ids=[name for name, hint in hints.items() if hint == Id])
    for each in info.fields if isinstance(info, msgspec.inspect.StructType) else ():
        shape.fixed_quotes += 2 + 2 * _is_text(each.type)
        match each.type:
            case msgspec.inspect.ListType(item_type=item) if _is_text(item):
                shape.text_lists.append(each.name)
                if _holds_id(hints[each.name]):
                    shape.id_lists.append(each.name)
            case msgspec.inspect.UnionType(types=(value, msgspec.inspect.NoneType())) if _is_text(value):
                shape.optional_texts.append(each.name)
            case kind if not _is_flat(kind):
                raise TypeError(f"{record.__name__}: {each.name} is neither a plain value nor a list of those")
        if not each.required or (each.name in shape.optional_texts and _holds_id(hints[each.name])):
            raise TypeError(f"{record.__name__}: {each.name} has a default, or is an id that may be null")
    return shape


def without_indentation(definitions: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """JSON Schema definitions whose descriptions, which are docstrings, are the same on every Python.

    The compiler of Python 3.13 takes the indentation from a docstring, older ones leave it.
    """
    return {
        name: {key: cleandoc(value) if key == "description" else value for key, value in definition.items()}
        for name, definition in definitions.items()
    }


_decode_pairs = json.JSONDecoder(object_pairs_hook=list).decode


def pairs_of(data: bytes) -> list[tuple[str, Any]]:
    """The keys and values of a flat object that was decoded, each as often as it stands there."""
    pairs: list[tuple[str, Any]] = _decode_pairs(data.decode())
    return pairs


def repeated_key(pairs: Sequence[tuple[str, object]]) -> str | None:
    """A key that stands more than once, of which the decoder silently keeps the last value."""
    names = [name for name, _ in pairs]
    return next((name for name in names if names.count(name) > 1), None)


def _is_text(kind: msgspec.inspect.Type) -> bool:
    """Whether JSON writes such a value in quotation marks, always."""
    if isinstance(kind, msgspec.inspect.LiteralType):
        return isinstance(kind.values[0], str)
    return isinstance(kind, msgspec.inspect.StrType | msgspec.inspect.DateTimeType)


def _is_flat(kind: msgspec.inspect.Type) -> bool:
    """Whether a value has as many quotation marks as `_is_text` says, which is two or none."""
    match kind:
        case msgspec.inspect.ListType(item_type=item):
            return not isinstance(item, msgspec.inspect.ListType) and (_is_text(item) or _is_flat(item))
        case msgspec.inspect.UnionType(types=kinds):
            return not any(map(_is_text, kinds)) and all(map(_is_flat, kinds))
    plain = msgspec.inspect.IntType | msgspec.inspect.FloatType | msgspec.inspect.BoolType | msgspec.inspect.NoneType
    return _is_text(kind) or isinstance(kind, plain | msgspec.inspect.LiteralType)


def _holds_id(hint: object) -> bool:
    return hint == Id or any(map(_holds_id, get_args(hint)))
