"""Facts that are common knowledge, by relation: (subject, relation, answer), each relation in several phrasings.

The form is that of Meng et al. 2022 ("Locating and Editing Factual Associations in GPT", section 2): a prompt says subject and
relation, and the answer is its next token. The facts themselves and their phrasings are this suite's own choice. Which of them
a subject is asked depends on its tokenizer (`circuit_claims.tasks.facts.task`), so the list serves GPT-2 and the embedded
model alike.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import numpy as np

from circuit_claims.prompts.source import Corruptions, Half


@dataclass(frozen=True)
class Relation:
    """One relation: its phrasings, and an answer for each subject.

    In a phrasing, {} is the subject as it stands in a sentence, and {^} with a capital letter, as it opens one.
    """

    phrasings: tuple[str, ...]
    answers: dict[str, str]


def _paired(text: str) -> dict[str, str]:
    """The "subject: answer" entries of `text`, one between semicolons each."""
    entries = [" ".join(entry.split()) for entry in text.split(";")]
    return dict(entry.split(": ") for entry in entries if entry)


_CAPITALS = _paired(
    """
    France: Paris; Germany: Berlin; Italy: Rome; Spain: Madrid; Portugal: Lisbon; England: London; Ireland: Dublin;
    Scotland: Edinburgh; Austria: Vienna; Switzerland: Bern; Belgium: Brussels; Denmark: Copenhagen; Sweden: Stockholm;
    Norway: Oslo; Finland: Helsinki; Iceland: Reykjavik; Poland: Warsaw; Hungary: Budapest; Romania: Bucharest;
    Greece: Athens; Turkey: Ankara; Russia: Moscow; Ukraine: Kyiv; Croatia: Zagreb; Serbia: Belgrade; Estonia: Tallinn;
    Latvia: Riga; Lithuania: Vilnius; Egypt: Cairo; Kenya: Nairobi; Morocco: Rabat; Ghana: Accra; Nigeria: Abuja;
    Japan: Tokyo; China: Beijing; Thailand: Bangkok; Vietnam: Hanoi; Iran: Tehran; Iraq: Baghdad; Syria: Damascus;
    Lebanon: Beirut; Canada: Ottawa; Cuba: Havana; Peru: Lima; Chile: Santiago; Australia: Canberra; Afghanistan: Kabul;
    Pakistan: Islamabad; Nepal: Kathmandu; Bangladesh: Dhaka; Indonesia: Jakarta; Jordan: Amman; Qatar: Doha;
    Yemen: Sanaa; Libya: Tripoli; Tunisia: Tunis; Ethiopia: Addis; Sudan: Khartoum; Somalia: Mogadishu; Uganda: Kampala;
    Zimbabwe: Harare; Venezuela: Caracas; Ecuador: Quito; Argentina: Buenos; South Korea: Seoul; North Korea: Pyongyang;
    Saudi Arabia: Riyadh; the Czech Republic: Prague; the United Kingdom: London; the Philippines: Manila;
    the Soviet Union: Moscow; Northern Ireland: Belfast; Wales: Cardiff
    """
)
#: Several countries may have one language, or a city a namesake elsewhere: the answer is the one that everybody gives.
_LANGUAGES = _paired(
    """
    France: French; Germany: German; Austria: German; Italy: Italian; Spain: Spanish; Portugal: Portuguese; Brazil: Portuguese;
    Mexico: Spanish; Argentina: Spanish; Chile: Spanish; Peru: Spanish; Colombia: Spanish; Cuba: Spanish; England: English;
    Russia: Russian; Japan: Japanese; Sweden: Swedish; Norway: Norwegian; Denmark: Danish; Finland: Finnish; Poland: Polish;
    Hungary: Hungarian; Greece: Greek; Turkey: Turkish; Israel: Hebrew; Egypt: Arabic; Iraq: Arabic; Syria: Arabic;
    Jordan: Arabic; Lebanon: Arabic; Yemen: Arabic; Iran: Persian; Vietnam: Vietnamese; Thailand: Thai; Australia: English;
    Ukraine: Ukrainian; Romania: Romanian; Saudi Arabia: Arabic; South Korea: Korean; North Korea: Korean;
    the Netherlands: Dutch; the United States: English; the United Kingdom: English
    """
)
_CITIES = _paired(
    """
    Munich: Germany; Hamburg: Germany; Frankfurt: Germany; Cologne: Germany; Milan: Italy; Venice: Italy; Naples: Italy;
    Florence: Italy; Turin: Italy; Barcelona: Spain; Seville: Spain; Valencia: Spain; Lyon: France; Marseille: France;
    Toulouse: France; Manchester: England; Liverpool: England; Leeds: England; Glasgow: Scotland; Osaka: Japan; Kyoto: Japan;
    Hiroshima: Japan; Shanghai: China; Guangzhou: China; Mumbai: India; Bangalore: India; Calcutta: India; Karachi: Pakistan;
    Lahore: Pakistan; Toronto: Canada; Montreal: Canada; Vancouver: Canada; Calgary: Canada; Sydney: Australia;
    Melbourne: Australia; Brisbane: Australia; Perth: Australia; Istanbul: Turkey; Aleppo: Syria;
    Mosul: Iraq; Basra: Iraq; Kandahar: Afghanistan; Alexandria: Egypt; Lagos: Nigeria; Geneva: Switzerland;
    Zurich: Switzerland; Krakow: Poland; Gothenburg: Sweden; Tel Aviv: Israel; Haifa: Israel;
    Saint Petersburg: Russia; Sao Paulo: Brazil; Rio de Janeiro: Brazil; Tijuana: Mexico; Guadalajara: Mexico
    """
)
_LANDMARKS = _paired(
    """
    the Louvre: Paris; the Eiffel Tower: Paris; Notre Dame: Paris; Big Ben: London; Buckingham Palace: London;
    the Tower Bridge: London; the Colosseum: Rome; the Vatican: Rome; the Kremlin: Moscow; Red Square: Moscow;
    the Brandenburg Gate: Berlin; the Reichstag: Berlin; the Acropolis: Athens; the Parthenon: Athens; Times Square: New;
    the Statue of Liberty: New; the Empire State Building: New; the Golden Gate Bridge: San; the Space Needle: Seattle;
    the White House: Washington; the Lincoln Memorial: Washington; the Pentagon: Washington; Wrigley Field: Chicago;
    Fenway Park: Boston; Tiananmen Square: Beijing; the Forbidden City: Beijing; the Burj Khalifa: Dubai;
    the Western Wall: Jerusalem; Temple Mount: Jerusalem; the Blue Mosque: Istanbul; the Prado: Madrid
    """
)
_MAKERS = _paired(
    """
    the iPhone: Apple; the iPad: Apple; the MacBook: Apple; the iPod: Apple; Windows: Microsoft; the Xbox: Microsoft;
    Internet Explorer: Microsoft; the PlayStation: Sony; the Walkman: Sony; the Galaxy Note: Samsung; Android: Google;
    Gmail: Google; Chrome: Google; the Nexus: Google; the Kindle: Amazon; Alexa: Amazon; the Wii: Nintendo;
    the Game Boy: Nintendo; the Mustang: Ford; the Corolla: Toyota; the Camry: Toyota; the Prius: Toyota; the Civic: Honda;
    the Accord: Honda; the Corvette: Chevrolet; the Model S: Tesla; the Roadster: Tesla;
    the Pentium: Intel; the Radeon: AMD; the GeForce: Nvidia; Photoshop: Adobe; the ThinkPad: Lenovo
    """
)
_CONTINENTS = _paired(
    """
    Egypt: Africa; Kenya: Africa; Nigeria: Africa; Ghana: Africa; Ethiopia: Africa; Morocco: Africa; Uganda: Africa;
    Somalia: Africa; Zimbabwe: Africa; France: Europe; Germany: Europe; Italy: Europe; Spain: Europe; Poland: Europe;
    Sweden: Europe; Norway: Europe; Austria: Europe; Greece: Europe; China: Asia; Japan: Asia; India: Asia; Vietnam: Asia;
    Thailand: Asia; Nepal: Asia; Mongolia: Asia; Pakistan: Asia; South Korea: Asia; the Congo: Africa; the Netherlands: Europe
    """
)
_MATERIALS = _paired(
    """
    a table: wood; a chair: wood; a violin: wood; a bottle: glass; a window: glass; a mirror: glass; a crown: gold;
    a spoon: silver; a knife: steel; a nail: iron; a wire: copper; a shirt: cotton; a sweater: wool; a scarf: silk;
    a shoe: leather; a wallet: leather; a tire: rubber; a candle: wax; a vase: porcelain; a brick: clay; a newspaper: paper;
    a map: paper; a basket: straw; a tent: canvas; a statue: marble; a can: aluminum; a castle: stone; a pillow: feathers;
    wine: grapes; cheese: milk; glass: sand; paper: wood; beer: barley; chocolate: cocoa; ketchup: tomatoes; cider: apples;
    tofu: soybeans; plastic: oil; ice: water; butter: milk; yogurt: milk; flour: wheat; a snowman: snow; a wedding ring: gold;
    a pair of jeans: cotton; a book: paper; a diamond: carbon
    """
)

#: Facts by relation. "country" asks the capitals the other way round.
RELATIONS: dict[str, Relation] = {
    "capital": Relation(
        (
            "The capital of {} is",
            "The capital city of {} is called",
            "In {}, the capital is",
            "The government of {} sits in",
            "The capital of {} is the city of",
            "{^} has its parliament and its government in its capital,",
        ),
        {country: city for country, city in _CAPITALS.items() if city not in ("Addis", "Buenos")},
    ),
    "country": Relation(
        ("{^} is the capital of", "{^} is the largest city of", "{^}, the capital city of"),
        {
            city: country
            for country, city in _CAPITALS.items()
            if " " not in country
            and country not in ("England", "Turkey", "Canada", "Australia", "Morocco", "China", "Nigeria", "Pakistan")
            and country not in ("Vietnam", "Switzerland", "Scotland", "Syria", "Ecuador", "Wales")
            and city not in ("Addis", "Buenos", "London", "Moscow")
        },
    ),
    "language": Relation(
        (
            "The official language of {} is",
            "In {}, most people speak",
            "People who were born in {} usually speak",
            "The newspapers of {} are written in",
        ),
        _LANGUAGES,
    ),
    "city in country": Relation(
        ("{^} is a city in", "The city of {} is located in", "{^} is one of the largest cities in"),
        {city: country for city, country in _CITIES.items()},
    ),
    "landmark": Relation(
        ("{^} is located in the city of", "{^} is in the heart of", "Tourists who want to see {} travel to"),
        {landmark: city for landmark, city in _LANDMARKS.items() if city not in ("New", "San")},
    ),
    "maker": Relation(
        ("{^} is made by", "{^} was developed by", "{^} is a product of", "The company behind {} is"),
        _MAKERS,
    ),
    "continent": Relation(
        ("{^} is a country in", "{^} lies on the continent of", "The continent that {} belongs to is"),
        _CONTINENTS,
    ),
    "material": Relation(
        ("{^} is made of", "{^} consists of", "People make {} out of", "As everyone knows, {} is made of"),
        _MATERIALS,
    ),
}


@dataclass(frozen=True)
class FactPrompt:
    """One fact in one phrasing.

    answers: the right answer, and the partner's (whose subject an interchange puts in); until there is a partner, twice the
    right one.
    """

    relation: str
    phrasing: int
    subject: str
    answers: tuple[str, str]
    partner: str = ""

    @property
    def template(self) -> str:
        """Relation and phrasing."""
        return f"{self.relation} {self.phrasing}"

    @property
    def cluster(self) -> str:
        """Subjects are what is sampled, each in all phrasings of all its relations: intervals speak of further subjects.

        How another choice of phrasings would do, they do not say.
        """
        return self.subject

    @cached_property
    def _written(self) -> tuple[str, int, int]:
        before, _, after = RELATIONS[self.relation].phrasings[self.phrasing].replace("{^}", "{}").partition("{}")
        opens = "{^}" in RELATIONS[self.relation].phrasings[self.phrasing]
        subject = self.subject[0].upper() + self.subject[1:] if opens else self.subject
        return before + subject + after, len(before), len(before) + len(subject)

    @property
    def text(self) -> str:
        """The whole prompt, without a BOS token."""
        return self._written[0]

    @property
    def spans(self) -> tuple[tuple[str, int, int], ...]:
        """Roles of one token: the subject may have several (see `phrases`)."""
        return ()

    @property
    def phrases(self) -> tuple[tuple[str, int, int], ...]:
        """Where in `text` the subject stands: (what, first character, one past the last)."""
        return (("subject", *self._written[1:]),)

    def __str__(self) -> str:
        return self.text

    def changed(self, change: str) -> "FactPrompt":
        """The prompt with its partner's subject in place of its own ("interchange"); `answers` stay.

        Raises ValueError for any other change, and where it has no partner.
        """
        if change != "interchange" or not self.partner:
            raise ValueError(f"a fact with a partner can undergo an 'interchange', and nothing else: not {change!r}")
        return replace(self, subject=self.partner)


@dataclass(frozen=True)
class FactList:
    """Which facts are meant.

    relations: by name. half: which half of the subjects; a subject is in the same half in all relations. known: only those
    that the model answers right, as Meng et al. 2022 choose theirs. several: only subjects of several tokens.
    """

    relations: tuple[str, ...] = tuple(RELATIONS)
    half: Half | None = "verdict"
    known: bool = True
    several: bool = False

    corruptions: ClassVar[Corruptions] = Corruptions.only("interchange")
    roles: ClassVar[tuple[str, ...]] = ("first subject token", "last subject token", "END")

    def __str__(self) -> str:
        which = "facts that the model knows" if self.known else "facts"
        which += "" if len(self.relations) == len(RELATIONS) else f" of the relation {', '.join(self.relations)}"
        return which + (", with subjects of several tokens" if self.several else "")

    def about(self, under: str, usual_names: Sequence[str]) -> str:
        """Which prompts these are, in words."""
        return f"{self}{under}"

    def stream(self, seed: int) -> Iterator[FactPrompt]:
        """All facts in all phrasings, in an order by seed in which phrasings take turns; none has a partner yet."""
        random = np.random.default_rng([seed, 2022])
        columns = []
        for name in self.relations:
            relation = RELATIONS[name]
            subjects = [subject for subject in relation.answers if self.half in (None, half_of(subject))]
            for phrasing in range(len(relation.phrasings)):
                order = [subjects[i] for i in random.permutation(len(subjects))]
                answers = {one: (relation.answers[one], relation.answers[one]) for one in order}
                columns.append([FactPrompt(name, phrasing, one, answers[one]) for one in order])
        for turn in range(max(map(len, columns), default=0)):
            yield from (column[turn] for column in columns if turn < len(column))


def half_of(subject: str) -> Half:
    """Which half a subject belongs to: the same on every machine and in every run."""
    return "verdict" if hashlib.sha256(subject.encode()).digest()[0] % 2 else "discovery"
