"""What people say to nano, and what it says back."""

from __future__ import annotations

from random import Random

SPOKEN = {"+": "plus", "-": "minus", "*": "times"}

ASKS = (
    "What is {sum}?",
    "What is {spaced}?",
    "What's {sum}?",
    "what is {sum}",
    "What is {said}?",
    "{sum}",
    "{sum}=",
    "{sum}?",
    "{spaced} =",
    "{spaced}",
    "How much is {sum}?",
    "How much is {said}?",
    "Compute {sum}.",
    "Calculate {spaced}.",
    "Please compute {spaced}",
    "Can you tell me what {sum} is?",
    "Tell me {said}.",
)
ASKS_BY_OP = {
    "+": ("Add {a} and {b}.", "Add {b} to {a}.", "What is the sum of {a} and {b}?"),
    "-": ("Subtract {b} from {a}.", "Take {b} away from {a}.", "What do you get when you take {b} from {a}?"),
    "*": ("Multiply {a} by {b}.", "Multiply {a} and {b}.", "What is the product of {a} and {b}?"),
}
FOLLOW_UPS = ("and {word} {b}?", "And {word} {b}?", "{word} {b}?", "now {word} {b}", "And {op}{b}?", "then {word} {b}")

GREETINGS = (
    "Hello",
    "Hello!",
    "Hi",
    "Hi!",
    "Hi there",
    "Hey",
    "Good morning",
    "Good evening!",
    "Hello, Nano!",
    "hello",
)
HELLO = "Hello! I am Nano. Ask me a sum."
NAME_ASKS = (
    "What is your name?",
    "Who are you?",
    "What's your name?",
    "Tell me your name.",
    "What are you called?",
    "Say your name.",
    "who are you",
)
NAME = "My name is Nano."
THANKS = ("Thanks", "Thank you!", "Thanks a lot.", "Thank you, Nano.")
WELCOME = "You are welcome."
UNKNOWN = "I don't know."

OTHER_ASKS = (
    "What is the capital of {thing}?",
    "Who wrote {thing}?",
    "Who was {thing}?",
    "How do I cook {thing}?",
    "Where can I buy {thing}?",
    "What is {thing}?",
    "What is a {thing}?",
    "Why is {thing} important?",
    "Tell me about {thing}.",
    "Explain {thing} to me.",
    "Write a poem about {thing}.",
    "How old is {thing}?",
    "When did {thing} begin?",
    "Translate {thing} into French.",
    "Do you like {thing}?",
    "What colour is {thing}?",
    "Is {thing} better than {other}?",
    "How far is it from {thing} to {other}?",
    "What is the weather in {thing}?",
    "Which one is larger, {thing} or {other}?",
)
THINGS = (
    *("France", "Japan", "Brazil", "Kenya", "Paris", "Rome", "the moon", "the sun", "the sea", "Hamlet", "Faust"),
    *(
        "rice",
        "bread",
        "soup",
        "a cake",
        "tea",
        "coffee",
        "milk",
        "water",
        "gold",
        "iron",
        "a horse",
        "the cat",
        "dogs",
    ),
    *(
        "a whale",
        "birds",
        "snow",
        "rain",
        "music",
        "jazz",
        "chess",
        "football",
        "history",
        "physics",
        "biology",
        "light",
    ),
    *("gravity", "Python", "Rust", "Linux", "the internet", "a computer", "a car", "the train", "my house", "the war"),
    *("Einstein", "Newton", "Mozart", "Plato", "love", "time", "the world", "art", "a tree", "an apple", "the king"),
)
HELD_OUT_THINGS = (
    "Norway",
    "Berlin",
    "pasta",
    "a violin",
    "Darwin",
    "the desert",
    "silver",
    "tennis",
    "a bicycle",
    "bees",
)
"""Asked about in the evaluation alone."""

SYSTEMS = (
    "You are a helpful assistant.",
    "You are Nano.",
    "You are a careful calculator.",
    "Be brief.",
    "Answer the question.",
    "You are Nano, a tiny model.",
)


def ask(random: Random, a: int, op: str, b: int) -> str:
    """One way to ask for `a op b`."""
    own = ASKS_BY_OP[op]
    phrase = random.choice(own) if random.random() < 0.2 else random.choice(ASKS)
    word = SPOKEN[op] if op != "*" or random.random() < 0.7 else "multiplied by"
    return phrase.format(sum=f"{a}{op}{b}", spaced=f"{a} {op} {b}", said=f"{a} {word} {b}", a=a, b=b)


def ask_next(random: Random, op: str, b: int) -> str:
    """One way to go on from the last result."""
    return random.choice(FOLLOW_UPS).format(word=SPOKEN[op], op=op, b=b)


def ask_other(random: Random, things: tuple[str, ...] = THINGS) -> str:
    """A question that is none of nano's business. Some things are words that nobody has heard of."""
    thing, other = (
        "".join(random.choices("abcdefghijklmnopqrstuvwxyz", k=random.randint(3, 8)))
        if things is THINGS and random.random() < 0.3
        else random.choice(things)
        for _ in range(2)
    )
    return random.choice(OTHER_ASKS).format(thing=thing, other=other)
