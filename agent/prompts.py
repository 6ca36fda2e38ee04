"""The prompts of a search: templates, examples, and the requests of images."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from line_neurons.agent.ports import ImageRequest, Message, Prompt
from line_neurons.agent.scoreboard import Entry, Scoreboard
from line_neurons.agent.seeds import derive_rng, derive_seed
from line_neurons.agent.text import clean_text, format_score

IMAGE_TEMPLATE = "A realistic photo of a {concept}, {angle}, {lighting}"
ANGLES = ("extreme close-up", "wide angle shot", "aerial view", "low angle")
EDIT_WORDS = {
    "remove": "Remove the {concept} and fill the place with what lies behind it. Change nothing else.",
    "replace": "Replace the {concept} with a {other}. Change nothing else.",
    "insert": "Add a {concept} where it fits. Change nothing else.",
    "unchanged": "Keep this image exactly as it is.",
}
"""What models that edit by instructions are told, by kind of edit."""
FILL_WORDS = {
    "remove": "empty background",
    "elsewhere": "empty background",
    "replace": "a photo of a {other}",
    "unchanged": "",
}
"""What models that fill a region are told, by kind of edit."""
LIGHTINGS = ("cinematic lighting", "natural sunlight", "studio lighting")

_PROPOSE_TASK = """\
You find out what one unit of a vision model looks for. The scoreboard lists concepts with the unit's response \
to pictures of them: the higher, the better.
First reason, in two short sentences: what do the strongest concepts share that the weakest lack (kind of thing, \
shape, texture, material, colour, surroundings, use)? Which two or three other things, not listed yet, share it \
too? Then propose the one of these that should excite the unit most: a sibling of the strongest, a special kind \
of them, or a part, material or pattern that they share.
The concept is one to three words and names something that can be photographed."""
_SEVERAL_TASK = """\
You find out what one unit of a vision model looks for. The scoreboard lists concepts with the unit's response \
to pictures of them: the higher, the better.
First reason, in two short sentences: what do the strongest concepts share that the weakest lack (kind of thing, \
shape, texture, material, colour, surroundings, use)? Then propose {count} different things that share it and \
should excite the unit most, the best first: siblings of the strongest, special kinds of them, and parts, \
materials or patterns that they share.
Each concept is one to three words and names something that can be photographed."""
_SUMMARY_TASK = """\
You find out what one unit of a vision model looks for. You see the three concepts whose pictures excite the \
unit most. First reason, in one short sentence: what do the three share? Then name one more general concept \
that unifies them.
The concept is one to three words and names something that can be photographed."""
_ANSWER = 'Answer with JSON only: {"reasoning": "...", "concept": "..."}'
_SEVERAL_ANSWER = 'Answer with JSON only: {"reasoning": "...", "concepts": ["...", "..."]}'

PROPOSE_SYSTEM = f"{_PROPOSE_TASK} Never answer with a concept that is on the scoreboard or forbidden.\n{_ANSWER}"
SUMMARY_SYSTEM = f"{_SUMMARY_TASK} Never answer with one of the three or with a forbidden concept.\n{_ANSWER}"
PAPER_PROPOSE_SYSTEM = f"{_PROPOSE_TASK} Never answer with a forbidden concept.\n{_ANSWER}"
PAPER_SUMMARY_SYSTEM = f"{_SUMMARY_TASK}\n{_ANSWER}"


INITIAL_SYSTEM = """\
You find out what one unit of a vision model looks for. Nothing is known yet but the model and the layer. First \
reason, in one short sentence: what do units of such a layer respond to, and what kind of it has not been named \
yet? Then name one such thing, as different from those already named as can be.
The concept is one to three words and names something that can be photographed. Never answer with one that was \
named already.
Answer with JSON only: {"reasoning": "...", "concept": "..."}"""


@dataclass(frozen=True)
class _Captions:
    strong: tuple[str, ...]
    middle: tuple[str, ...]
    answer: str
    more: tuple[str, ...]


_IMAGES_TASK = """\
You find out what one unit of a vision model looks for. You see captions of pictures that excite the unit most, \
and of pictures that leave it indifferent.
First reason, in one short sentence: what is in the exciting pictures and not in the others (kind of thing, part, \
shape, texture, material, colour, surroundings)? Then name {count} different things that may be it, the likeliest \
first: the things themselves, a kind that unifies them, and parts or patterns that they share.
Each concept is one to three words and names something that can be photographed."""
_IMAGES_EXAMPLE = _Captions(
    strong=("zebra", "a woman in a striped shirt", "tiger", "barcode"),
    middle=("brown horse", "a man in a white shirt", "lion", "envelope"),
    answer='{"reasoning": "The exciting ones are striped, the horse, the lion and the plain shirt are not.", '
    '"concept": "stripes"}',
    more=("zebra", "striped shirt", "tiger", "striped cat", "barcode", "zebra crossing", "striped fabric",
          "prison uniform", "barber pole"),
)  # fmt: skip


@dataclass(frozen=True)
class _Example:
    entries: tuple[Entry, ...]
    forbidden: tuple[str, ...]
    drawable: tuple[str, ...]
    answer: str
    more: tuple[str, ...] = ()
    """Further concepts of the answer where several are requested."""

    def answer_with(self, concepts: int) -> str:
        """Return the answer that names a number of concepts."""
        return _answer_with(self.answer, self.more, concepts)


_PROPOSE_EXAMPLES = (
    _Example(
        entries=(Entry("husky", 9.1), Entry("malamute", 8.7), Entry("wolf", 6.2), Entry("red fox", 2.9),
                 Entry("sofa", 0.4)),
        forbidden=("dog sled", "snow dog"),
        drawable=("samoyed", "sled", "tiger", "poodle"),
        answer='{"reasoning": "Husky, malamute and wolf are thick-coated northern dogs, the sofa is not an '
        'animal. Other such dogs: samoyed, akita, eskimo dog.", "concept": "samoyed"}',
        more=("akita", "eskimo dog", "norwegian elkhound", "white wolf", "chow", "arctic fox", "sheepdog",
              "coyote", "thick fur"),
    ),
    _Example(
        entries=(Entry("zebra crossing", 4.8), Entry("piano", 4.5), Entry("zebra", 3.9), Entry("horse", 0.7),
                 Entry("street", 0.6)),
        forbidden=("chess board",),
        drawable=("barcode", "donkey", "guitar", "car"),
        answer='{"reasoning": "Zebra crossing, piano and zebra share black and white stripes, and the plain '
        'horse is weak. Other striped things: barcode, striped shirt, prison uniform.", "concept": "barcode"}',
        more=("striped shirt", "prison uniform", "barber pole", "okapi", "referee", "road barrier", "skunk",
              "window blind", "badger"),
    ),
)  # fmt: skip

_SUMMARY_EXAMPLE = _Example(
    entries=(Entry("espresso", 5.1), Entry("teapot", 4.9), Entry("soup bowl", 4.2)),
    forbidden=("mug",),
    drawable=(),
    answer='{"reasoning": "Espresso, teapot and soup bowl are all round vessels for hot food or drink.", '
    '"concept": "tableware"}',
)


def _answer_with(answer: str, more: Sequence[str], concepts: int) -> str:
    if concepts == 1:
        return answer
    said = json.loads(answer)
    named = [said.pop("concept"), *more]
    return json.dumps({**said, "concepts": named[:concepts]})


# What chat templates, markup and JSON are made of; U+FF5C stands in the templates of some models.
_MARKS = str.maketrans(dict.fromkeys("<>[]{}|\uff5c", " "))
_LONGEST_NAME = 100
_LONGEST_REASON = 500


def quoted(text: str, limit: int = _LONGEST_NAME) -> str:
    """Quote text from outside within one line of a request: it can begin no line, turn or object of its own."""
    return clean_text(text[: 4 * limit].translate(_MARKS), limit)


def _list(names: Sequence[str]) -> str:
    return ", ".join(quoted(name) for name in names)


def refusal_lines(reasons: Sequence[str]) -> list[str]:
    """Tell the model why earlier replies to the same request were refused, a line each."""
    return [f"Refused: {quoted(reason, _LONGEST_REASON)}" for reason in reasons]


def _scores(entries: Sequence[Entry]) -> list[str]:
    return ["Scoreboard:", *(f"{format_score(entry.score)} {quoted(entry.concept)}" for entry in entries)]


def _other_kind(found: Sequence[str]) -> list[str]:
    return ["Found before: " + _list(found) + ". Look for something of another kind."] if found else []


def _request(
    entries: Sequence[Entry],
    forbidden: Sequence[str],
    drawable: Sequence[str],
    refused: Sequence[str],
    found: Sequence[str] = (),
    concepts: int = 1,
) -> str:
    lines = _scores(entries)
    lines.append("Forbidden: " + (_list(forbidden) or "none"))
    if drawable:
        lines.append("Pictures can be made of, for example: " + _list(drawable))
    lines += [*_other_kind(found), *refusal_lines(refused)]
    strongest = _list([entry.concept for entry in entries[:3]])
    wanted = "a new concept, not one" if concepts == 1 else f"{concepts} new concepts, none"
    lines.append(f"Strongest: {strongest}. Name {wanted} of these.")
    return "\n".join(lines)


def _chat(system: str, examples: Sequence[_Example], request: str, concepts: int = 1) -> Prompt:
    turns = [
        _request(example.entries, example.forbidden, example.drawable, (), concepts=concepts)
        for example in examples
    ]
    answers = [example.answer_with(concepts) for example in examples]
    return dialogue(system, list(zip(turns, answers, strict=True)), request, concepts)


def _task(one: str, rule: str, concepts: int) -> str:
    """Return the instructions for a number of concepts: those for one, or those for several with their rule."""
    if concepts == 1:
        return one
    return f"{_SEVERAL_TASK.replace('{count}', str(concepts))} {rule}\n{_SEVERAL_ANSWER}"


def propose_prompt(
    board: Scoreboard,
    forbidden: Sequence[str],
    drawable: Sequence[str] = (),
    refused: Sequence[str] = (),
    found: Sequence[str] = (),
    concepts: int = 1,
) -> Prompt:
    """Write the prompt of one iteration (paper, appendix D.2; the words are ours).

    Args:
        board: the scoreboard; listed best first.
        forbidden: every concept proposed so far that is no longer on the board.
        drawable: things near the board's best that the generator can draw; empty to leave the line out.
        refused: why earlier replies to the same request were refused, oldest first.
        found: the best concepts of the unit's earlier searches.
    """
    request = _request(board.entries, forbidden, drawable, refused, found, concepts)
    rule = "Never answer with a concept that is on the scoreboard or forbidden."
    return _chat(_task(PROPOSE_SYSTEM, rule, concepts), _PROPOSE_EXAMPLES, request, concepts)


def summary_prompt(
    board: Scoreboard,
    forbidden: Sequence[str],
    drawable: Sequence[str] = (),
    refused: Sequence[str] = (),
    found: Sequence[str] = (),
) -> Prompt:
    """Write the prompt of the summary: one more general concept over the board's top three."""
    return _chat(SUMMARY_SYSTEM, [_SUMMARY_EXAMPLE], _request(board.top(3), forbidden, drawable, refused, found))


def paper_propose_prompt(
    board: Scoreboard,
    proposed: Sequence[str],
    refused: Sequence[str] = (),
    found: Sequence[str] = (),
    concepts: int = 1,
) -> Prompt:
    """Write the prompt of one iteration with the parts of the paper's prompt (appendix D.2) and no others.

    ``proposed`` are all concepts proposed before, also those on the board: they are forbidden. ``concepts`` is the
    number of concepts to name.
    """
    examples = [
        _paper_turn(example.entries, example.forbidden, concepts=concepts) for example in _PROPOSE_EXAMPLES
    ]
    request = _paper_turn(board.entries, proposed, refused, found, concepts)
    answers = [example.answer_with(concepts) for example in _PROPOSE_EXAMPLES]
    system = _task(PAPER_PROPOSE_SYSTEM, "Never answer with a forbidden concept.", concepts)
    return dialogue(system, list(zip(examples, answers, strict=True)), request, concepts)


def paper_summary_prompt(board: Scoreboard, refused: Sequence[str] = ()) -> Prompt:
    """Write the prompt of the summary from the board's top three alone (paper, appendix D.2)."""
    example = (_paper_turn(_SUMMARY_EXAMPLE.entries, None), _SUMMARY_EXAMPLE.answer)
    return dialogue(PAPER_SUMMARY_SYSTEM, [example], _paper_turn(board.top(3), None, refused))


def _paper_turn(
    entries: Sequence[Entry],
    proposed: Sequence[str] | None,
    refused: Sequence[str] = (),
    found: Sequence[str] = (),
    concepts: int = 1,
) -> str:
    """Write a request, without a list of forbidden concepts where ``proposed`` is None."""
    lines = _scores(entries)
    if proposed is not None:
        lines.append("Forbidden: " + (_list(proposed) or "none"))
    wanted = "a new concept" if concepts == 1 else f"{concepts} new concepts"
    return "\n".join([*lines, *_other_kind(found), *refusal_lines(refused), f"Name {wanted}."])


def images_prompt(strong: Sequence[str], middle: Sequence[str], concepts: int) -> Prompt:
    """Write the prompt for concepts of a first board from captions of control images.

    Args:
        strong: captions of the images that excite the unit most, strongest first.
        concepts: number of concepts to name, at least 2.
    """
    example = _IMAGES_EXAMPLE
    answer = _answer_with(example.answer, example.more, concepts)
    turns = [(_captions_turn(example.strong, example.middle, concepts), answer)]
    system = f"{_IMAGES_TASK.replace('{count}', str(concepts))}\n{_SEVERAL_ANSWER}"
    return dialogue(system, turns, _captions_turn(strong, middle, concepts), concepts)


def _captions_turn(strong: Sequence[str], middle: Sequence[str], concepts: int) -> str:
    lines = [
        "Exciting: " + "; ".join(map(quoted, strong)),
        "Indifferent: " + ("; ".join(map(quoted, middle)) or "none"),
    ]
    return "\n".join([*lines, f"Name {concepts} concepts."])


_INITIAL_EXAMPLES = (
    (
        "torchvision:resnet18, layer avgpool, 512 units.\nNamed already: none\nName a new concept.",
        '{"reasoning": "Units of a late layer of a classifier respond to kinds of objects, animals first among '
        'them.", "concept": "spaniel"}',
    ),
    (
        "torchvision:resnet18, layer avgpool, 512 units.\nNamed already: spaniel, sports car\nName a new concept.",
        '{"reasoning": "An animal and a vehicle are named; buildings and landscapes are not.", '
        '"concept": "lighthouse"}',
    ),
)


def initial_prompt(
    model: str, layer: str, units: int, named: Sequence[str], refused: Sequence[str] = ()
) -> Prompt:
    """Write the prompt for one concept of a first board that the model fills from the layer's context.

    Args:
        named: the concepts proposed so far.
        refused: why earlier replies to the same request were refused, oldest first.
    """
    lines = [
        f"{quoted(model)}, layer {quoted(layer)}, {units} units.",
        "Named already: " + (_list(named) or "none"),
    ]
    lines += refusal_lines(refused)
    lines.append("Name a new concept.")
    return dialogue(INITIAL_SYSTEM, _INITIAL_EXAMPLES, "\n".join(lines))


def dialogue(system: str, examples: Sequence[tuple[str, str]], request: str, concepts: int = 1) -> Prompt:
    """Put a system message, worked examples and a request together as one chat."""
    shared = [Message("system", system)]
    for example, answer in examples:
        shared += [Message("user", example), Message("assistant", answer)]
    return Prompt((*shared, Message("user", request)), shared=len(shared), concepts=concepts)


def instructions(*, paper: bool = False, concepts: int = 1) -> dict[str, tuple[Message, ...]]:
    """Return the instructions and examples that requests begin with, by kind of step.

    ``paper``: those of a run that uses the parts of the paper's prompts alone; ``concepts``: the number that a
    request of an iteration asks for.
    """
    board = Scoreboard((), 1)
    prompts = {
        "iteration": (paper_propose_prompt if paper else propose_prompt)(board, (), concepts=concepts),
        "summary": paper_summary_prompt(board) if paper else summary_prompt(board, ()),
        "initial": initial_prompt("", "", 0, ()),
    }
    return {kind: prompt.messages[: prompt.shared] for kind, prompt in prompts.items()}


def image_requests(
    concept: str,
    count: int,
    run_seed: int,
    *,
    first: int = 0,
    per_concept: bool = False,
    template: str = IMAGE_TEMPLATE,
) -> list[ImageRequest]:
    """Request the images that score one concept; a function of (run seed, concept, image index).

    Args:
        concept: the normalised concept.
        count: images per concept (n in the paper).
        first: index of the first image; a concept that is scored again gets new indices.
        per_concept: draw angle and lighting once per concept instead of once per image.
    """
    requests = []
    for index in range(first, first + count):
        rng = derive_rng("modifiers", run_seed, concept, first if per_concept else index)
        angle, lighting = rng.choice(ANGLES), rng.choice(LIGHTINGS)
        seed = derive_seed("image", run_seed, concept, index)
        requests.append(ImageRequest(concept, angle, lighting, seed, template))
    return requests


def prompt_hash(prompt: Prompt) -> str:
    """Return the first 32 hexadecimal digits of the SHA-256 of a prompt's messages."""
    messages = json.dumps([[message.role, message.content] for message in prompt.messages])
    return hashlib.sha256(messages.encode()).hexdigest()[:32]
