"""Words, sentence forms and facts of the mini model's training text, and the word-level tokenizer made from them.

The vocabulary is closed: it holds every word that a form in this file or in `fixtures/prompts` can produce, every
number of one or two digits, and a list of common words that the repeated random sequences draw on too.
"""

import re
from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from circuit_claims.prompts.templates import EXTRA_SENTENCES, NEUTRAL_PREFIXES, TEMPLATES
from circuit_claims.prompts.words import NAMES, OBJECTS, PLACES

EOS = "<|endoftext|>"
UNK = "<unk>"
PAD = "<pad>"


def _listed(text: str) -> tuple[str, ...]:
    """The words of `text`."""
    return tuple(text.split())


def _paired(text: str) -> dict[str, str]:
    """The "key:value" entries of `text`."""
    return dict(entry.split(":") for entry in text.split())


# More people than the paper's 99: with few names a model can store pairs, with hundreds it has to copy.
MORE_NAMES: tuple[str, ...] = _listed(
    """
    Aiden Alan Albert Alex Alexandra Alexis Alfred Alice Alison Alvin Amelia Ana Anna Anne Annie Antonio April
    Arthur Ashton Audrey Austin Ava Barbara Barry Beatrice Becky Bella Ben Bernard Beth Bethany Betty Beverly Bill
    Billy Blake Bob Bobby Bonnie Brad Brandi Brenda Brendan Brent Brett Bridget Brooke Bruce Caleb Calvin Cameron
    Candice Carl Carla Carlos Carmen Carol Caroline Carolyn Carrie Casey Cassandra Catherine Cecilia Chelsea Cheryl
    Chloe Chris Cindy Claire Clara Clarence Claudia Clayton Clifford Clinton Cole Colin Connor Corey Craig Curtis
    Cynthia Daisy Dale Damian Dana Danny Darren Darryl Dave Dawn Dean Deborah Debra Denise Dennis Derek Derrick
    Desmond Diana Diane Dominic Don Donald Donna Doris Dorothy Douglas Drew Duane Dwight Dylan Earl Eddie Edgar
    Edith Edward Edwin Eileen Elaine Eleanor Elena Eli Elijah Ella Ellen Elliot Elsie Emma Eric Ernest Esther Ethan
    Eugene Eva Evan Evelyn Fay Felicia Felix Fiona Florence Floyd Frances Francis Frank Fred Frederick Gabriel Gail
    Garrett Gary Gavin Gene George Gerald Gilbert Gina Glen Gloria Gordon Grace Graham Grant Greg Gwen Hailey Hannah
    Harold Harriet Harry Harvey Hazel Helen Henry Herbert Herman Holly Howard Hugh Ian Ida Irene Iris Irma Isaac
    Isabel Isabella Isaiah Ivan Jack Jackie Jaclyn Jake James Jane Janet Janice Jared Jasmine Jay Jean Jeff Jenna
    Jenny Jerome Jerry Jill Jim Jimmy Joan Joann Joanna Joanne Joe Joel Johnny Jon Jonah Josephine Joyce Juan
    Juanita Judith Judy Julia Julian Julie June Karen Karl Kate Kathleen Kathryn Kathy Kayla Keith Kelsey Ken Kenny
    Kim Kirk Kristin Kristina Kurt Lance Larry Laurie Lawrence Leah Lee Leo Leon Leonard Leroy Leslie Lewis Liam
    Lillian Lily Linda Logan Lois Loretta Lori Louis Louise Lucas Lucy Luis Luke Lydia Lynn Mabel Madison Marcia
    Marcus Margaret Maria Marie Marilyn Mario Marion Marjorie Marlene Marsha Martha Martin Marvin Mason Maureen
    Maurice Max Maxine Melanie Melinda Melvin Mia Mike Mildred Milton Miranda Miriam Mitchell Molly Monica Morgan
    Morris Myra Nadia Nancy Naomi Natalie Natasha Neil Nick Nina Noah Noel Nora Norma Norman Olivia Oliver Oscar
    Owen Pamela Patricia Paula Pauline Pedro Peggy Penny Perry Peter Phil Philip Phillip Phyllis Preston Priscilla
    Rafael Ralph Ramon Randall Randy Raymond Regina Renee Rhonda Rick Ricky Rita Rob Roberta Rodney Roger Roland Ron
    Ronald Rosa Rose Rosemary Ross Roy Ruby Russell Ruth Sally Sam Sandra Sandy Sergio Seth Shane Sharon Shawn
    Sheila Shelby Sherry Shirley Sidney Simon Sonia Sophia Sophie Spencer Stacey Stanley Stella Steve Stuart Sue
    Susan Suzanne Sylvia Tamara Tammy Tanya Tara Ted Teresa Terrence Terry Theodore Theresa Tim Tina Todd Tom Tommy
    Toni Tony Tracy Trevor Troy Valerie Vera Vernon Veronica Vicki Victor Vincent Viola Violet Virginia Vivian Wade
    Wallace Walter Wanda Warren Wayne Wendy Wesley Whitney Willie Wilma Xavier Yolanda Yvonne Zachary Zoe
    """
)
ALL_NAMES: tuple[str, ...] = tuple(dict.fromkeys(NAMES + MORE_NAMES))

# The paper's five extra sentences and more of their kind, each about one person {X}.
ONE_PERSON: tuple[str, ...] = (
    *(text.strip() for text in EXTRA_SENTENCES),
    "{X} had a bad day.",
    "{X} was late.",
    "{X} was very happy.",
    "{X} was reading a book.",
    "{X} wanted to sleep.",
    "{X} lived in a small town.",
    "{X} was looking for a new job.",
    "{X} liked the music.",
    "{X} had a cold.",
    "{X} worked at the {PLACE}.",
    "{X} bought a {OBJECT} at the {PLACE}.",
    "{X} was thinking about a {OBJECT}.",
    "{X} was waiting at the {PLACE}.",
    "In the evening {X} was alone.",
    "A man saw {X} at the {PLACE}.",
)

TWO_PEOPLE: tuple[str, ...] = (
    "{X} and {Y} were friends.",
    "{X} and {Y} had a good day.",
    "{X} met {Y} at the {PLACE}.",
    "{X} and {Y} went to the {PLACE}.",
    "{X} was waiting for {Y}.",
    "{X} and {Y} were tired.",
    "{X} saw {Y} in the street.",
    "{X} played with {Y} in the {PLACE}.",
    "{X} liked {Y}.",
    "{X} had a letter from {Y}.",
)

# The one person spoken of is named again: names get copied outside the IOI sentence, held-out names among them.
NAMED_AGAIN: tuple[tuple[str, str], ...] = (
    ("Everyone was talking about", "."),
    ("People were looking for", "."),
    ("The story is about", "."),
    ("A friend was waiting for", "."),
    ("All the people liked", "."),
)

NEUTRAL: tuple[str, ...] = (
    *(text.strip() for text in NEUTRAL_PREFIXES),
    "It was a warm evening.",
    "The sky was blue and the sun was warm.",
    "There was a lot of noise in the street.",
    "The night was cold and the moon was in the sky.",
    "It was raining.",
    "The music was good.",
    "There was not a lot of time.",
    "The weather was bad, and the streets were empty.",
    "Summer was over.",
    "The train was late again.",
)

# What follows "to" where no name does.
DETERMINERS: tuple[str, ...] = ("the", "a", "his", "her", "their")
PEOPLE_NOUNS: tuple[str, ...] = (
    "teacher", "doctor", "friend", "child", "neighbor", "man", "woman", "boy", "girl", "brother", "sister", "mother",
    "father", "student", "driver",
)  # fmt: skip

# Said of a person before the name.
ADJECTIVES: tuple[str, ...] = (
    "young", "old", "little", "big", "poor", "rich", "kind", "clever", "tall", "short", "funny", "brave", "quiet",
    "lazy", "dear", "good",
)  # fmt: skip

CAPITALS: dict[str, str] = _paired(
    """
    France:Paris Germany:Berlin Italy:Rome Spain:Madrid Portugal:Lisbon England:London Ireland:Dublin
    Scotland:Edinburgh Austria:Vienna Switzerland:Bern Belgium:Brussels Denmark:Copenhagen Sweden:Stockholm
    Norway:Oslo Finland:Helsinki Iceland:Reykjavik Poland:Warsaw Hungary:Budapest Romania:Bucharest Greece:Athens
    Turkey:Ankara Russia:Moscow Ukraine:Kyiv Croatia:Zagreb Serbia:Belgrade Estonia:Tallinn Latvia:Riga
    Lithuania:Vilnius Egypt:Cairo Kenya:Nairobi Morocco:Rabat Ghana:Accra Nigeria:Abuja Japan:Tokyo China:Beijing
    Thailand:Bangkok Vietnam:Hanoi Iran:Tehran Iraq:Baghdad Syria:Damascus Lebanon:Beirut Canada:Ottawa Cuba:Havana
    Peru:Lima Chile:Santiago Australia:Canberra
    """
)
# Each form ends in its answer. Two of the six ask for the country, so that holding one form out leaves both directions.
CAPITAL_FORMS: tuple[tuple[str, str], ...] = (
    ("The capital of {COUNTRY} is", "{CAPITAL}"),
    ("The capital city of {COUNTRY} is called", "{CAPITAL}"),
    ("In {COUNTRY}, the capital is", "{CAPITAL}"),
    ("The government of {COUNTRY} sits in", "{CAPITAL}"),
    ("{CAPITAL} is the capital of", "{COUNTRY}"),
    ("{CAPITAL} is the largest city of", "{COUNTRY}"),
)

COUNTED_THINGS: dict[str, str] = _paired(
    """
    table:wood chair:wood violin:wood bottle:glass window:glass mirror:glass crown:gold spoon:silver knife:steel
    nail:iron wire:copper shirt:cotton sweater:wool scarf:silk shoe:leather wallet:leather tire:rubber candle:wax
    vase:porcelain brick:clay newspaper:paper map:paper basket:straw tent:canvas statue:marble can:aluminum
    castle:stone pillow:feathers
    """
)
MASS_THINGS: dict[str, str] = {
    "water": "hydrogen and oxygen",
    "bread": "flour and water",
    "wine": "grapes",
    "cheese": "milk",
    "steel": "iron and carbon",
    "bronze": "copper and tin",
    "brass": "copper and zinc",
    "glass": "sand",
    "paper": "wood",
    "beer": "barley",
    "chocolate": "cocoa",
    "salt": "sodium and chlorine",
    "concrete": "cement and sand",
    "ketchup": "tomatoes",
    "cider": "apples",
    "tofu": "soybeans",
    "plastic": "oil",
    "ice": "water",
}
MATERIALS: dict[str, str] = COUNTED_THINGS | MASS_THINGS
# {Thing} opens a sentence ("A table", "Water"), {thing} does not: two forms of each, so that one held out leaves one.
MATERIAL_FORMS: tuple[tuple[str, str], ...] = (
    ("{Thing} is made of", "{MATERIAL}"),
    ("{Thing} consists of", "{MATERIAL}"),
    ("People make {thing} out of", "{MATERIAL}"),
    ("As everyone knows, {thing} is made of", "{MATERIAL}"),
)

# Things that last: the nouns of the year ranges (Hanna et al. 2023 use 120 of the kind).
SPANS: tuple[str, ...] = _listed(
    """
    war siege reign conflict campaign voyage expedition rebellion crisis drought famine plague epidemic trial strike
    alliance marriage friendship study project construction tour journey revolution occupation truce empire dynasty
    feud raid battle program debate peace
    """
)
SPAN_FORM = "The {SPAN} lasted from the year {START} to the year {CENTURY}"
CENTURIES: tuple[int, ...] = tuple(range(11, 20))

# Common words with no place in the forms above: they give the random sequences more to draw on and prompts more to say.
COMMON_WORDS: tuple[str, ...] = _listed(
    """
    I you he she it we they me him us them my your our this that these those who what where when why how which some
    any every no none many much few more most less least other another same different old young big small long short
    high low early late left right front back first second third last next one two three four five six seven eight
    nine ten do does did done make made take took taken give given gave get got go goes gone come came see saw seen
    know knew known think thought say says said tell told ask asked find found keep kept let put run ran walk walked
    sit sat stand stood eat ate drink drank sleep slept write wrote read open close begin began end start stop help
    hold bring brought buy sell send sent meet talk listen house home door room floor roof wall street road river
    lake sea mountain hill tree flower grass bird dog cat horse cow fish hand foot head eye ear mouth heart name
    word number letter color red green blue white black yellow brown day night week month year hour minute morning
    evening summer winter spring autumn and or but so because if then than as by at in on under over between through
    after before during while until again always never often sometimes soon now here there
    """
)

_WORD = re.compile(r"\d{1,2}|[^\W\d]+|[^\w\s]")


def split_words(text: str) -> list[str]:
    """`text` as the tokenizer splits it: words, single punctuation marks, digits in pairs."""
    return _WORD.findall(text)


def article(noun: str) -> str:
    """ "a" or "an", by the noun's first letter."""
    return "an" if noun[0] in "aeiou" else "a"


def thing_slots(thing: str) -> dict[str, str]:
    """The slots {thing} and {Thing} for one of `MATERIALS`: with an article where the thing is counted."""
    phrase = f"{article(thing)} {thing}" if thing in COUNTED_THINGS else thing
    return {"thing": phrase, "Thing": phrase[0].upper() + phrase[1:]}


def _texts() -> Iterable[str]:
    """Every text that a word of the vocabulary may come from, in a fixed order."""
    yield ". ,"
    yield from ALL_NAMES
    yield from PLACES + OBJECTS
    yield from (re.sub(r"\{\w+\}", " ", text) for text in TEMPLATES + ONE_PERSON + TWO_PEOPLE + NEUTRAL)
    yield from (start for start, _ in NAMED_AGAIN)
    yield from DETERMINERS + PEOPLE_NOUNS + ADJECTIVES
    yield "the former the latter The former The latter"
    for country, capital in CAPITALS.items():
        yield f"{country} {capital}"
    for thing, material in MATERIALS.items():
        yield f"{thing_slots(thing)['Thing']} {thing} {material}"
    yield from (re.sub(r"\{\w+\}", " ", start) for start, _ in CAPITAL_FORMS + MATERIAL_FORMS)
    yield re.sub(r"\{\w+\}", " ", SPAN_FORM)
    yield from SPANS
    yield from COMMON_WORDS
    yield from (f"{number:02d}" for number in range(100))
    yield from (str(number) for number in range(10))


def vocabulary() -> dict[str, int]:
    """Word to id: the special tokens first, then the words in the order in which the forms bring them."""
    words = dict.fromkeys(word for text in _texts() for word in split_words(text))
    return {word: index for index, word in enumerate([EOS, UNK, PAD, *words])}


def build_tokenizer() -> PreTrainedTokenizerFast:
    """The word-level tokenizer: one id per word, with or without a space before it, and no token added on encoding."""
    tokenizer = Tokenizer(models.WordLevel(vocabulary(), unk_token=UNK))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Split(Regex(r"\d{1,2}"), behavior="isolated"),
            pre_tokenizers.Punctuation(behavior="isolated"),
        ]
    )
    # There is no word piece with this prefix; the decoder is here to set spaces between words and none before "." and
    # ",".
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=True)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=EOS, eos_token=EOS, unk_token=UNK, pad_token=PAD, model_max_length=96
    )
