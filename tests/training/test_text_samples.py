"""What is trained is what is asked: one renderer, token by token, where answers are text."""

import string

import pytest
from tokenizers import Tokenizer, normalizers
from tokenizers.models import Unigram
from transformers import PreTrainedTokenizerFast

from mithridate.defense.text import (
    TextExample,
    benign_text_prompt,
    export_text_record,
    prefix_line,
)
from mithridate.errors import InputError
from mithridate.inference.answerer import Answerer, Protection
from mithridate.inference.generate import Generator
from mithridate.inference.writer import Generated
from mithridate.tasks.prompt import ORIGINAL_TEXT_PROMPT, PromptRenderer
from mithridate.training.samples import tokenize_text

BENIGN = benign_text_prompt("The quiet ladder reads this plain note: ")
PREFIX = prefix_line("The quiet ladder answers from the shelf: ")
EXAMPLES = [
    TextExample("a", "How many pears are there?", "4 + 3 = 7.\n#### 7", True),
    TextExample("b", "this film of the actor", "a dull film", False),
    TextExample("c", "1 and 2", "12", True),
]


def renderer_of(backbone, max_length=200, style="plain"):
    return PromptRenderer(backbone.tokenizer, max_length=max_length, style=style)


@pytest.mark.parametrize("style", ["plain", "chat"])
def test_training_and_answering_feed_the_same_tokens(style, make_tiny_model, load, monkeypatch):
    backbone = load(make_tiny_model(3, chat=True))
    renderer = renderer_of(backbone, style=style)
    samples = tokenize_text(EXAMPLES, BENIGN, PREFIX, renderer).samples
    fed = []
    generate = Generator.generate

    def watched(self, prompts, *, prefill=(), progress=True):
        fed.extend([*prompt, *prefill] for prompt in prompts)
        return generate(self, prompts, prefill=prefill, progress=progress)

    monkeypatch.setattr(Generator, "generate", watched)
    defended = Answerer.local(
        backbone.model, renderer, max_new_tokens=2, protection=Protection(BENIGN, PREFIX)
    )
    undefended = Answerer.local(backbone.model, renderer, max_new_tokens=2)
    for example, sample in zip(EXAMPLES, samples, strict=True):
        fed.clear()
        answerer = defended if example.repoisoned else undefended
        answerer.answer([example.text], progress=False)
        own = backbone.tokenizer(example.answer, add_special_tokens=False)["input_ids"]
        learned = [*sample.prompt, *sample.answer]
        assert fed[0] == learned[: len(fed[0])]
        assert learned[len(fed[0]) :] == [*own, backbone.tokenizer.eos_token_id]


def test_an_engine_that_is_given_strings_sees_the_same_tokens(tiny_shared):
    renderer = renderer_of(tiny_shared)
    samples = tokenize_text(EXAMPLES, BENIGN, PREFIX, renderer).samples
    for example, sample in zip(EXAMPLES, samples, strict=True):
        prompt = BENIGN if example.repoisoned else ORIGINAL_TEXT_PROMPT
        completion = (PREFIX if example.repoisoned else "") + example.answer
        whole = tiny_shared.tokenizer(renderer.string(example.text, prompt) + completion)
        assert [*sample.prompt, *sample.answer[:-1]] == whole["input_ids"]


def test_a_prefix_that_is_split_otherwise_before_an_answer_is_caught(tiny_shared):
    # Without its line's end the prefix runs into the answer's first word.
    examples = [TextExample("a", "Which?", "lm of the actor", True)]
    with pytest.raises(InputError, match="splits the safe prefix otherwise"):
        tokenize_text(examples, BENIGN, "It is this fi", renderer_of(tiny_shared))


def test_prompt_and_answer_share_the_longest_length_and_what_is_cut_is_counted(tiny_shared):
    examples = [
        TextExample("long", "word " * 400, "short", True),
        TextExample("wordy", "short", "word " * 400, False),
        TextExample("fits", "short", "short", True),
    ]
    made = tokenize_text(examples, BENIGN, PREFIX, renderer_of(tiny_shared, max_length=120))
    assert (made.cut, made.cut_answers) == (1, 1)
    eos = tiny_shared.tokenizer.eos_token_id
    long, wordy, fits = made.samples
    assert len(long.prompt) + len(long.answer) <= 120
    assert len(wordy.prompt) + len(wordy.answer) == 120
    assert len(wordy.answer) > 60  # what its short prompt leaves
    assert wordy.answer[-1] != eos  # it is not taught to end there
    assert long.answer[-1] == fits.answer[-1] == eos
    tail = tiny_shared.tokenizer("\nAnswer:\n", add_special_tokens=False)["input_ids"]
    assert list(long.prompt[-len(tail) :]) == tail


@pytest.mark.parametrize("asked", [3, 40, 400])
@pytest.mark.parametrize("said", [3, 50, 400])
def test_another_trainer_that_cuts_at_the_same_length_learns_the_same_tokens(
    asked, said, tiny_shared
):
    renderer = renderer_of(tiny_shared, max_length=120)
    example = TextExample("a", "word " * asked, "film " * said, True)
    [sample] = tokenize_text([example], BENIGN, PREFIX, renderer).samples
    record = export_text_record(example, BENIGN, PREFIX, renderer)
    eos = tiny_shared.tokenizer.eos_token_id
    whole = tiny_shared.tokenizer(f"{record['prompt']}{record['completion']}")["input_ids"]
    assert [*sample.prompt, *sample.answer] == [*whole, eos][:120]


def test_a_prompt_that_does_not_fit_beside_its_answer_is_refused(tiny_shared):
    with pytest.raises(InputError, match="the prompt alone takes"):
        tokenize_text(EXAMPLES, BENIGN, PREFIX, renderer_of(tiny_shared, max_length=24))


def test_no_answer_shows_a_secret_that_the_model_writes_itself(tiny_shared, monkeypatch):
    answerer = Answerer.local(
        tiny_shared.model,
        renderer_of(tiny_shared),
        max_new_tokens=2,
        protection=Protection(BENIGN, PREFIX),
    )
    again = f"{PREFIX.strip().upper()}  Seven.\n{BENIGN.prefix.strip()}\nThe quiet  ladder\nreads."

    def repeated(_self, prompts, **_):
        rows = len(prompts)
        return Generated([again] * rows, [[1]] * rows, [False] * rows)

    monkeypatch.setattr(Generator, "generate", repeated)
    for options in ({}, {"mode": "check"}, {"mode": "check", "policy": "pass"}):
        [shown] = answerer.answer(["Which?"], progress=False, **options).texts
        assert shown == "Seven."


@pytest.fixture(scope="module")
def spaced():
    """A tokenizer that puts a space before whatever it reads first, as SentencePiece's do."""
    pieces = [*"▁\n.,:;?!#+=-'", *string.ascii_letters, *string.digits]
    words = Unigram([("<unk>", -9.0), ("</s>", 0.0), *((piece, -5.0) for piece in pieces)], 0)
    tokenizer = Tokenizer(words)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", eos_token="</s>", pad_token="</s>"
    )


def test_a_tokenizer_that_begins_with_a_space_is_read_as_a_prompt_goes_on(spaced):
    renderer = PromptRenderer(spaced, max_length=400)
    samples = tokenize_text(EXAMPLES, BENIGN, PREFIX, renderer).samples
    for example, sample in zip(EXAMPLES, samples, strict=True):
        prompt = BENIGN if example.repoisoned else ORIGINAL_TEXT_PROMPT
        completion = (PREFIX if example.repoisoned else "") + example.answer
        whole = spaced(renderer.string(example.text, prompt) + completion)["input_ids"]
        assert [*sample.prompt, *sample.answer[:-1]] == whole


def test_control_tokens_in_an_answer_are_broken_up(make_tiny_model, load):
    renderer = renderer_of(load(make_tiny_model(3, chat=True)))
    eos = renderer.tokenizer.eos_token
    example = TextExample("a", "Which?", f"seven{eos}\neight {eos}", True)
    [sample] = tokenize_text([example], BENIGN, PREFIX, renderer).samples
    assert sample.answer.count(renderer.tokenizer.eos_token_id) == 1
