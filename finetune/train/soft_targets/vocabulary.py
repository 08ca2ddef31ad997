"""Says which bytes each token of a tokenizer stands for, and whether two tokenizers are the same.

The width of a model's logits says nothing: models of one tokenizer pad them differently.
"""

import json
from collections.abc import Mapping, Sequence

from transformers.convert_slow_tokenizer import bytes_to_unicode

from finetune.rows.template import Tokenizer
from harvest.core.errors import ConfigError

BYTES = {character: byte for byte, character in bytes_to_unicode().items()}
"""The byte that each character stands for in the tokens of byte-level tokenizers."""


def pieces_of(tokenizer: Tokenizer) -> list[bytes]:
    """Returns the bytes of each token, by id. An id without a token has no bytes."""
    added = {i: str(token).encode() for i, token in tokenizer.added_tokens_decoder.items()}
    known = sorted(tokenizer.get_vocab().values())
    names = tokenizer.convert_ids_to_tokens(list(range(known[-1] + 1)))
    backend = getattr(tokenizer, "backend_tokenizer", None)
    is_byte_level = backend is not None and '"ByteLevel"' in json.dumps(json.loads(backend.to_str())["decoder"])
    read = _byte_level if is_byte_level else _sentence_piece
    return [added[i] if i in added else read(name or "") for i, name in enumerate(names)]


def _byte_level(name: str) -> bytes:
    try:
        return bytes(BYTES[character] for character in name)
    except KeyError:
        return name.encode()


def _sentence_piece(name: str) -> bytes:
    if name.startswith("<0x") and name.endswith(">") and len(name) == 6:
        return bytes([int(name[3:5], 16)])
    return name.replace("▁", " ").encode()


def refuse_another(ours: Sequence[bytes], theirs: Sequence[bytes], teacher: str) -> None:
    """Raises ConfigError with the first id that means different tokens to the student and to the teacher.

    One of the two may have more tokens. These must come after all tokens that both have.
    """
    for i, (our, their) in enumerate(zip(ours, theirs, strict=False)):
        if our != their:
            raise ConfigError(difference(i, our, their, teacher))


def check_sent(ours: Sequence[bytes], sent: Mapping[int, bytes], teacher: str) -> None:
    """Raises ConfigError with the first token that an endpoint sent with other bytes than the student's token has.

    A token that was sent without bytes, as special tokens are, is passed over.
    """
    for i, their in sorted(sent.items()):
        if their and i < len(ours) and ours[i] != their:
            raise ConfigError(difference(i, ours[i], their, teacher))


def difference(i: int, our: bytes, their: bytes, teacher: str) -> str:
    return (
        f"teacher {teacher!r}: another tokenizer than the student's: token {i} is {_shown(their)} there and"
        f" {_shown(our)} in the student: soft targets need one tokenizer; `finetune sft` takes the teacher's text"
    )


def _shown(piece: bytes) -> str:
    return ascii(piece.decode(errors="replace"))
