"""What tiny can draw: each thing's glyph in Noto Color Emoji and the words for it.

The order is the curriculum: training begins with the first rows and takes in more as it goes.
The first word of a row is the thing's plain name; the others are what people also call it.
"""

THINGS: dict[str, tuple[str, ...]] = {
    # the first thirty-two: bold shapes, no two alike
    "🐱": ("cat", "kitten", "kitty"),
    "🐶": ("dog", "puppy"),
    "🍎": ("red apple", "apple"),
    "🚀": ("rocket", "spaceship"),
    "🍌": ("banana",),
    "🏰": ("castle",),
    "🐼": ("panda", "panda bear"),
    "🚗": ("car", "red car", "automobile"),
    "🌹": ("rose", "red rose"),
    "🦉": ("owl",),
    "🐳": ("whale",),
    "🍕": ("pizza", "slice of pizza"),
    "⭐": ("star", "yellow star"),
    "❤️": ("red heart", "heart"),
    "🏠": ("house", "home"),
    "🍄": ("mushroom", "toadstool"),
    "🌳": ("tree",),
    "🐟": ("fish",),
    "🌞": ("sun",),
    "🤖": ("robot",),
    "🦊": ("fox",),
    "🐸": ("frog",),
    "🐷": ("pig",),
    "🍓": ("strawberry",),
    "⚽": ("soccer ball", "football"),
    "🌻": ("sunflower",),
    "🎃": ("pumpkin", "halloween pumpkin", "jack-o-lantern"),
    "🐧": ("penguin",),
    "👻": ("ghost",),
    "🍩": ("donut", "doughnut"),
    "🚲": ("bicycle", "bike"),
    "🎂": ("birthday cake", "cake"),
    # the next thirty-two
    "🦁": ("lion",),
    "🐯": ("tiger",),
    "🐰": ("rabbit", "bunny"),
    "🐻": ("bear", "brown bear"),
    "🐨": ("koala",),
    "🐵": ("monkey",),
    "🐮": ("cow",),
    "🦄": ("unicorn",),
    "🐘": ("elephant",),
    "🐢": ("turtle", "tortoise"),
    "🦋": ("butterfly",),
    "🐝": ("bee", "honeybee"),
    "🐞": ("ladybug", "ladybird"),
    "🐙": ("octopus",),
    "🐬": ("dolphin",),
    "🦆": ("duck",),
    "🍋": ("lemon",),
    "🍊": ("orange", "tangerine", "orange fruit"),
    "🍇": ("grapes", "bunch of grapes"),
    "🍉": ("watermelon", "slice of watermelon"),
    "🍒": ("cherries",),
    "🥕": ("carrot",),
    "🌵": ("cactus",),
    "🌷": ("tulip",),
    "🎄": ("Christmas tree",),
    "🍔": ("hamburger", "burger"),
    "🍦": ("ice cream", "ice cream cone"),
    "☕": ("cup of coffee", "coffee", "cup of tea"),
    "🚌": ("bus",),
    "⛵": ("sailboat", "boat"),
    "🎈": ("balloon", "red balloon"),
    "🎁": ("gift", "present"),
    # and the rest of a hundred and twelve
    "🐴": ("horse", "pony"),
    "🐺": ("wolf",),
    "🐭": ("mouse",),
    "🐔": ("chicken", "hen"),
    "🦒": ("giraffe",),
    "🐍": ("snake",),
    "🦀": ("crab",),
    "🐌": ("snail",),
    "🦈": ("shark",),
    "🦜": ("parrot",),
    "🐉": ("dragon",),
    "🦖": ("dinosaur", "T-Rex"),
    "🌴": ("palm tree",),
    "🌲": ("pine tree", "fir tree"),
    "🍍": ("pineapple",),
    "🍐": ("pear",),
    "🍑": ("peach",),
    "🍅": ("tomato",),
    "🥑": ("avocado",),
    "🌽": ("corn", "ear of corn"),
    "🍞": ("bread", "loaf of bread"),
    "🧀": ("cheese", "piece of cheese"),
    "🍟": ("french fries", "fries"),
    "🍪": ("cookie", "biscuit"),
    "🧁": ("cupcake", "muffin"),
    "🍭": ("lollipop",),
    "✈️": ("airplane", "plane"),
    "🚁": ("helicopter",),
    "🚒": ("fire truck", "fire engine"),
    "🚜": ("tractor",),
    "🚂": ("train", "steam train", "locomotive"),
    "🛸": ("UFO", "flying saucer"),
    "🌙": ("moon", "crescent moon"),
    "🪐": ("planet", "Saturn"),
    "🌈": ("rainbow",),
    "☂️": ("umbrella",),
    "⛄": ("snowman",),
    "🔥": ("fire", "flame"),
    "🌋": ("volcano",),
    "⛺": ("tent",),
    "🏀": ("basketball",),
    "🧸": ("teddy bear",),
    "👑": ("crown",),
    "🎩": ("top hat", "hat"),
    "🎸": ("guitar",),
    "💎": ("diamond", "gem"),
    "🔑": ("key",),
    "🕯️": ("candle",),
}

PAIRS = frozenset({"grapes", "cherries", "french fries", "fries"})
"""Names that are plural already."""

UNCOUNTED = frozenset({"corn", "bread", "cheese", "fire", "ice cream", "coffee"})
"""Names that take no article."""

_IRREGULAR = {"fish": "fish", "mouse": "mice", "wolf": "wolves", "cactus": "cacti"}


def one(name: str) -> str:
    """The name as a single thing: `a cat`, `an owl`, `bread`."""
    if name in PAIRS or name in UNCOUNTED:
        return name
    if name in ("sun", "moon"):
        return f"the {name}"
    an = name[0] in "aeio" or name.startswith("umb")
    return f"{'an' if an else 'a'} {name}"


def many(name: str) -> str:
    """The name as several things: `cats`, `cups of coffee`, `cherries`."""
    if name in PAIRS or name in UNCOUNTED:
        return name
    head, of, rest = name.partition(" of ")
    if of:
        return many(head) + of + rest
    before, _, last = name.rpartition(" ")
    before = before and before + " "
    if last in _IRREGULAR:
        return before + _IRREGULAR[last]
    if last.endswith(("s", "x", "ch", "sh", "to")):
        return name + "es"
    if last.endswith("y") and last[-2] not in "aeiou":
        return name[:-1] + "ies"
    return name + "s"
