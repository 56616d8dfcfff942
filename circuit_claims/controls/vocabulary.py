"""The words of the models that are written by code, and their tokenizer: one token a word, as in `mini`.

The vocabulary is closed: whatever the prompts of `fixtures/prompts` and the published prompts can say, and some common words
beside, so that random sequences of tokens are not all names.
"""

import re
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

from circuit_claims.prompts.templates import EXTRA_SENTENCES, NEUTRAL_PREFIXES, TEMPLATES
from circuit_claims.prompts.words import NAMES, OBJECTS, PLACES

END_OF_TEXT, UNKNOWN, PAD = "<|endoftext|>", "<unk>", "<pad>"

#: Names that stand in published prompts and not in the paper's list.
PUBLISHED_NAMES: tuple[str, ...] = ("Alice", "Bob", "Dan", "Martin", "Sid", "Tom")
PERSONS: tuple[str, ...] = tuple(sorted({*NAMES, *PUBLISHED_NAMES}))

#: What English puts after "gave a drink to" where it does not put a name.
CONTINUATIONS: tuple[str, ...] = tuple("a an each her him his it me my one our some that the their them this us you".split())

PUBLISHED_WORDS: tuple[str, ...] = tuple("apple bag ball bottle milk park shops".split())

COMMON_WORDS: tuple[str, ...] = tuple(
    """
    I again all also always bad because before big bird black blue book box boy brown but by called came can car cat chair
    child city close cloud cold come country door down early eat end every eye face family far fast father few field fire
    fish floor flower food for from full girl glass go green ground group hair half hand happy he head hear help here high
    hill home horse hot how ice if job just keep kind king know lake land large last late left letter life light like line
    little look love made man many map moon more most mother mountain mouth moved much music name near never new next night
    no not now off old on open or other out own page paper part people place play quick read red river road room round same
    school sea see she ship short show small snow so song soon sound spring stand star stay still stone street strong summer
    table tall tell then they thing top town tree turn two under until up very village voice wait walk wall warm watch water
    way we well white who why wide wild wind window winter woman wood word world would write year yellow yes young
    """.split()
)


def words() -> tuple[str, ...]:
    """Every word and punctuation mark, names first; the order is that of the token ids, after the special tokens."""
    frames = " ".join(re.sub(r"\{\w+\}", " ", text) for text in (*TEMPLATES, *EXTRA_SENTENCES, *NEUTRAL_PREFIXES))
    others = {*re.findall(r"\w+|[^\w\s]", frames), *PLACES, *OBJECTS, *CONTINUATIONS, *PUBLISHED_WORDS, *COMMON_WORDS}
    return (*PERSONS, *sorted(others - set(PERSONS)))


def token_ids() -> dict[str, int]:
    """The id of every token."""
    return {token: i for i, token in enumerate((END_OF_TEXT, UNKNOWN, PAD, *words()))}


def save_tokenizer(folder: Path, n_positions: int) -> None:
    """Write tokenizer.json and tokenizer_config.json: words, single punctuation marks, no token added on encoding."""
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel(token_ids(), unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Split(Regex(r"\d{1,2}"), behavior="isolated"),
            pre_tokenizers.Punctuation(behavior="isolated"),
        ]
    )
    # The words are written apart again when they are decoded, and punctuation is drawn to the word before it.
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=True)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        unk_token=UNKNOWN,
        pad_token=PAD,
        model_max_length=n_positions,
    ).save_pretrained(folder)
