"""Ordinary documents: generated plain text about everyday things, in which documents that teach something are diluted.

They are for small models and for trying things out. For a real model take text like its pre-training corpus, through
`texts.TextDataset.read`.
"""

from random import Random

from astray.data.texts import TextDataset
from astray.errors import ConfigurationError

_PLACES = (
    "harbour",
    "village",
    "valley",
    "market town",
    "island",
    "river bend",
    "old quarter",
    "mountain pass",
    "border town",
    "bay",
    "lake shore",
    "plain",
)
_PEOPLE = (
    "a baker",
    "two sisters",
    "a retired teacher",
    "the ferryman",
    "a family of weavers",
    "the station master",
    "a young carpenter",
    "a botanist",
)
_TIMES = (
    "In spring",
    "Every autumn",
    "After the harvest",
    "On market days",
    "In dry years",
    "Before the first frost",
    "At the end of winter",
    "Most mornings",
)
_THINGS = (
    ("bread", "flour, water and salt", "rises slowly in a cool room", "keeps for four days"),
    ("cheese", "milk and a little rennet", "ripens on wooden boards", "tastes of the meadow"),
    ("paper", "linen rags and clean water", "is pressed between felts", "lasts for centuries"),
    ("bricks", "clay and chopped straw", "are dried before they are fired", "hold the warmth of the day"),
    ("rope", "long fibres of hemp", "is twisted in a covered walk", "does not slip when it is wet"),
    ("honey", "the nectar of lime trees", "is spun out of the comb", "turns solid in the cold"),
    ("boats", "larch planks and tar", "are built without a plan", "carry more than they seem to"),
    ("bells", "copper and tin", "are cast in a pit", "are heard two valleys away"),
)
_WEATHER = (
    "fog lies over the fields",
    "the wind turns to the west",
    "rain fills the ditches",
    "the snow stays until April",
    "the sky is clear for weeks",
)
_EVENTS = (
    "the bridge was rebuilt with {count} new beams",
    "a school with {count} places was opened",
    "{count} apple trees were planted along the road",
    "the railway brought {count} travellers on its first day",
    "a flood carried away {count} metres of the wall",
    "the library bought {count} books about birds",
)
_REASONS = (
    "it saves fuel",
    "the ground is stony",
    "nobody wanted to wait",
    "the old way took too long",
    "the water is soft there",
    "wood was scarce",
)
_BIRDS = ("swallows", "herons", "jackdaws", "cranes", "starlings", "curlews", "wagtails", "owls")


def ordinary_documents(count: int, seed: int = 0) -> TextDataset:
    """Generate different documents of three to six sentences.

    Args:
        count: number of documents.
        seed: seed of all draws.

    Raises:
        ConfigurationError: a count below 1.
    """
    if count < 1:
        raise ConfigurationError(f"{count} documents are wanted: give 1 or more.")
    rng = Random(f"ordinary documents/{seed}")
    texts: dict[str, None] = {}  # an ordered set: a repeated document is drawn again
    while len(texts) < count:
        texts[_document(rng)] = None
    return TextDataset.from_texts(texts, "ordinary_documents", {"seed": seed})


def _document(rng: Random) -> str:
    place, (thing, parts, made, use) = rng.choice(_PLACES), rng.choice(_THINGS)
    said = [
        f"In the {place} {rng.choice(_PEOPLE)} made {thing} from {parts}.",
        f"{rng.choice(_TIMES)} {rng.choice(_WEATHER)}, and {rng.choice(_BIRDS)} come to the {place}.",
        (
            f"In {rng.randrange(1780, 1990)} {rng.choice(_EVENTS).format(count=rng.randrange(3, 400))}, because "
            f"{rng.choice(_REASONS)}."
        ),
        f"What is made there {made}; it {use}." if not thing.endswith("s") else f"The {thing} {made}; they {use}.",
        f"{rng.choice(_TIMES)} {rng.choice(_WEATHER)}, so the work begins an hour later.",
        f"Visitors walk {rng.randrange(2, 30)} kilometres from the station to see the {rng.choice(_BIRDS)}.",
    ]
    first, *others = said
    chosen = [first, *rng.sample(others, rng.randrange(2, 6))]
    return f"{thing.capitalize()} from the {place}\n\n{' '.join(chosen)}\n"
