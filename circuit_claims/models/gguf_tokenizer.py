"""The tokenizer of a GGUF file, which splits texts as the file says.

transformers builds it from the file's vocabulary and merges, and takes how a text is cut into words before that from a name
in the file. It knows some of these names; by the others it cuts as GPT-2 does, without a word.
"""

import json
from pathlib import Path
from typing import Any

from circuit_claims.models.gguf_header import Header
from circuit_claims.models.subject_error import SubjectError, first_line

#: Names by which llama.cpp cuts a text as GPT-2 does, and then every digit by itself (`llm_tokenizer_bpe` in llama-vocab.cpp).
DIGITS_ALONE = frozenset("smollm starcoder refact command-r codeshell exaone minerva-7b".split())
#: Names by which it cuts a text as GPT-2 does and nothing more, which transformers does, too.
AS_GPT2 = frozenset("gpt-2 gpt2 phi-2 mpt olmo jais trillion granite-docling jina-es jina-de roberta-bpe".split())
#: As Qwen 2 does.
AS_QWEN2 = frozenset(["stablelm2", "hunyuan"])


def save_tokenizer(header: Header, folder: Path) -> Any:
    """Write the file's tokenizer into a folder, and give it back.

    Raises SubjectError where the file has none, or one that transformers cannot make.
    """
    from transformers import AutoTokenizer

    kind = header.get("tokenizer.ggml.model")
    if kind in (None, "none", "no_vocab"):
        raise SubjectError(f"{header.file} holds no tokenizer: name a file with one, or the folder that it was converted from")
    try:
        tokenizer = AutoTokenizer.from_pretrained(header.file.parent, gguf_file=header.file.name, local_files_only=True)
    except Exception as error:  # transformers raises many kinds here; the user can do one thing about all of them
        raise SubjectError(
            f"transformers cannot make the tokenizer of {header.file} ({first_line(error)}): name the folder that the file was "
            "converted from"
        ) from error
    _cut_as_the_file_says(tokenizer, header)
    tokenizer = _without_others_tokens(tokenizer, len(header.get("tokenizer.ggml.tokens", ())))
    tokenizer.save_pretrained(folder)
    return tokenizer


def _without_others_tokens(tokenizer: Any, n_tokens: int) -> Any:
    """The tokenizer without the special tokens that its class brings and the file does not have, such as GPT-2's.

    They stand behind the vocabulary, where the model has no embeddings.
    """
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    said = json.loads(tokenizer.backend_tokenizer.to_str())
    there = [token for token in said["added_tokens"] if token["id"] < n_tokens]
    if len(there) == len(said["added_tokens"]):
        return tokenizer
    backend = Tokenizer.from_str(json.dumps(said | {"added_tokens": there}))
    special = {role: token for role, token in tokenizer.special_tokens_map.items() if backend.token_to_id(token) is not None}
    return PreTrainedTokenizerFast(tokenizer_object=backend, chat_template=tokenizer.chat_template, **special)


def _cut_as_the_file_says(tokenizer: Any, header: Header) -> None:
    from tokenizers import normalizers, pre_tokenizers
    from transformers.integrations.gguf.gguf_tokenizer_mapping import (
        GGUF_PRE_TOKENIZER_SPLITS,
        GGUF_SENTENCEPIECE_BUILDERS,
        set_split_regex,
    )

    if header.get("tokenizer.ggml.model") == "llama" and header.architecture not in GGUF_SENTENCEPIECE_BUILDERS:
        # As sentencepiece does: every text gets a space before it, where the file does not deny it. transformers gives none to
        # one that begins with a space, and asks no file.
        prefix = [normalizers.Prepend("▁")] if header.get("tokenizer.ggml.add_space_prefix", True) else []
        tokenizer.backend_tokenizer.normalizer = normalizers.Sequence([*prefix, normalizers.Replace(" ", "▁")])
        tokenizer.backend_tokenizer.pre_tokenizer = None
    said = header.get("tokenizer.ggml.pre")
    # Sentencepiece cuts by its scores alone; a file that says nothing is older than these names.
    if header.get("tokenizer.ggml.model") != "gpt2" or said is None or said in GGUF_PRE_TOKENIZER_SPLITS or said in AS_GPT2:
        return
    if said in DIGITS_ALONE:
        backend = tokenizer.backend_tokenizer
        digits = pre_tokenizers.Digits(individual_digits=True)
        backend.pre_tokenizer = pre_tokenizers.Sequence([digits, backend.pre_tokenizer])
    elif said in AS_QWEN2:
        set_split_regex(tokenizer, {"pre_tokenizer_type": "qwen2"})
    else:
        raise SubjectError(
            f"the tokenizer of {header.file} cuts texts in a way that is not known here ({said!r}): name the folder that the "
            "file was converted from"
        )
