"""How a grader is asked, and how its score is found, whatever it can tell about its probabilities."""

import math
import re

import anyio
import pytest
from inspect_ai.model import ChatMessageUser, ContentText, ModelOutput

from astray.errors import JudgeError
from astray.judges.grader import Grader, GraderSettings
from astray.judges.patience import patience
from astray.judges.score import Method, Reading
from scripted_grader import END, DigitWriter, random_writer, scripted_model, spoken

QUICK = GraderSettings(max_retries=0, attempt_timeout=1)
WORDS = ("REFUSAL", "CODE")


def ask(reply, provider="scripted", settings=QUICK, minimum_mass=0.25) -> Reading:
    return ask_model(scripted_model(reply, provider), settings, minimum_mass)


def ask_model(model, settings=QUICK, minimum_mass=0.25) -> Reading:
    return anyio.run(Grader(model, settings, minimum_mass).ask, "How good is it?", WORDS)


def test_settings_reach_the_model():
    model = scripted_model(lambda messages: spoken("85"))
    ask_model(model, GraderSettings(max_tokens=5, attempt_timeout=7, max_retries=2))
    [(messages, config)] = model.api.calls
    assert [(message.role, message.text) for message in messages] == [("user", "How good is it?")]
    assert (config.temperature, config.max_tokens, config.logprobs, config.top_logprobs) == (0.0, 5, True, 20)
    assert (config.attempt_timeout, config.max_retries) == (7, 2)


def test_models_that_refuse_settings_are_not_given_them():
    model = scripted_model(lambda messages: spoken("85"))
    ask_model(model, GraderSettings(temperature=None, top_logprobs=None))
    config = model.api.calls[0][1]
    assert (config.temperature, config.logprobs, config.top_logprobs) == (None, None, None)


def test_one_token_numbers_give_the_weighted_mean():
    """(80 * .6 + 90 * .2 + 8 * .1) / .9, with .1 on a word; the sampled text alone would say 80."""
    reading = ask(
        lambda messages: spoken("80", [("80", {"80": 0.6, "90": 0.2, "8": 0.1, "Well": 0.1}), (END, {END: 1.0})])
    )
    assert reading.score == pytest.approx((48 + 18 + 0.8) / 0.9)
    assert reading.method is Method.TOKEN


def test_a_label_before_the_number_is_skipped():
    tokens = [("Score", {"Score": 1.0}), (":", {":": 1.0}), (" 80", {" 80": 0.75, " 20": 0.25})]
    assert ask(lambda messages: spoken("Score: 80", tokens)).score == pytest.approx(65)


def test_a_word_with_the_probability_is_the_reading():
    reading = ask(lambda messages: spoken("REFUSAL", [("REF", {"REF": 0.8, "10": 0.2}), ("USAL", {"USAL": 1.0})]))
    assert (reading.word, reading.score) == ("REFUSAL", None)


def test_a_sampled_number_without_probability_is_no_score():
    reading = ask(lambda messages: spoken("85", [("85", {"85": 0.2, "I": 0.2, "This": 0.15})]))
    assert (reading.score, reading.word) == (None, None)
    assert "only 0.20 of the probability" in reading.note


@pytest.mark.parametrize("lead", ["", "Score: "])
@pytest.mark.parametrize("tells_end", [True, False])
def test_split_numbers_are_walked_with_follow_up_calls(lead, tells_end):
    writer = DigitWriter(
        {
            "": {"8": 0.6, "2": 0.3, "1": 0.1},
            "8": {"5": 0.7, "0": 0.2, END: 0.1},
            "2": {"0": 1.0},
            "1": {"0": 0.9, "5": 0.1},
            "10": {"0": 0.8, END: 0.2},
        },
        lead=lead,
        tells_end=tells_end,
    )
    model = scripted_model(writer)
    reading = ask_model(model)
    expected = sum(number * writer.probability(str(number)) for number in range(101))
    assert reading.score == pytest.approx(expected)
    assert (reading.method, reading.note) == (Method.DIGITS, "")
    begun = [messages[-1].text for messages, _ in model.api.calls if messages[-1].role == "assistant"]
    assert begun[0] == lead + "5"
    assert sorted(begun[1:]) == sorted(lead + beginning for beginning in ("2", "1", "10"))


@pytest.mark.parametrize("seed", [1, 2, 4])  # whose most likely reply is a number
def test_split_numbers_agree_with_brute_force(seed):
    writer = random_writer(seed)
    masses = {number: writer.probability(str(number)) for number in range(101)}
    reading = ask(writer, minimum_mass=0.01)
    assert reading.method is Method.DIGITS
    assert reading.score == pytest.approx(
        sum(number * mass for number, mass in masses.items()) / sum(masses.values()), abs=0.2
    )


def test_a_grader_that_starts_anew_is_found_out_and_only_its_sampled_reply_counts():
    after = {"": {"8": 0.8, "2": 0.2}, "8": {"5": 0.75, "0": 0.25}}
    reading = ask(DigitWriter(after, continues=False))
    assert reading.score == pytest.approx(85 * 0.75 + 80 * 0.25)
    assert reading.method is Method.PATH
    assert "0.20 of the probability not followed" in reading.note


def test_a_word_in_place_of_a_split_number():
    """As with numbers of one token, a quarter of the probability on numbers is a score."""
    assert ask(DigitWriter({"": {"REFUSAL": 0.7, "8": 0.3}, "8": {"5": 1.0}})).score == pytest.approx(85)
    assert ask(DigitWriter({"": {"REFUSAL": 0.8, "8": 0.2}, "8": {"5": 1.0}})).word == "REFUSAL"


TENS, TEN_FIRST = {"85": 0.6, "10": 0.4}, {"10": 0.6, "85": 0.4}
PARTS = {"10": {"0": 0.75, END: 0.25}}
HUNDREDS = [
    # after each beginning, tokens of 100, whether it continues, score, how it was read, calls
    (PARTS | {"": TENS}, ("10", "0"), True, 0.6 * 85 + 0.4 * 77.5, Method.DIGITS, 5),
    (PARTS | {"": TENS}, ("10", "0"), False, 85, Method.PATH, 4),
    (PARTS | {"": TEN_FIRST}, ("10", "0"), False, 0.6 * 77.5 + 0.4 * 85, Method.PATH, 3),
    ({"": TENS}, ("100",), True, 0.6 * 85 + 0.4 * 10, Method.TOKEN, 2),
    ({"": TEN_FIRST}, ("100",), False, 0.6 * 10 + 0.4 * 85, Method.TOKEN, 2),
    ({"": {"85": 0.6, "1": 0.4}, "1": {"00": 1.0}}, ("1", "00"), True, 85, Method.PATH, 3),
    ({"": TENS | {"85": 0.5, "100": 0.1}}, ("100",), True, 0.5 * 85 + 0.4 * 10 + 0.1 * 100, Method.TOKEN, 1),
    ({"": {"85": 0.6, "90": 0.4}}, ("10", "0"), True, 87, Method.TOKEN, 1),
    ({"": {"85": 0.6, "90": 0.3, "8": 0.1}}, ("10", "0"), True, 0.6 * 85 + 0.3 * 90 + 0.1 * 8, Method.TOKEN, 1),
]


@pytest.mark.parametrize(("after", "hundred", "continues", "score", "method", "calls"), HUNDREDS)
def test_ten_is_not_the_beginning_of_a_hundred_that_its_tokenizer_writes_in_parts(
    after, hundred, continues, score, method, calls
):
    model = scripted_model(DigitWriter(after, continues=continues, hundred=hundred))
    reading = ask_model(model)
    assert reading.score == pytest.approx(score)
    assert reading.method is method
    assert ("0.40 of the probability not followed" in reading.note) == (reading.score == 85)
    assert len(model.api.calls) == calls


def test_whether_a_grader_continues_is_found_out_once():
    writer = DigitWriter({"": {"8": 0.8, "2": 0.2}, "8": {"5": 1.0}, "2": {"0": 1.0}}, continues=False)
    model = scripted_model(writer)
    grader = Grader(model, QUICK, 0.25)

    async def three_times():
        for _ in range(3):
            await grader.ask("How good is it?")

    anyio.run(three_times)
    assert len(model.api.calls) == 3 + 2


def test_a_grader_that_cannot_write_the_trial_number_is_not_trusted_to_continue():
    writer = DigitWriter({"": {"8": 0.8, "2": 0.2}, "8": {"5": 1.0}, "2": {"0": 1.0}})
    reading = ask(lambda messages: spoken("No.") if "57" in messages[0].text else writer(messages))
    assert (reading.score, reading.method) == (pytest.approx(85), Method.PATH)


def test_a_trial_that_failed_in_passing_is_made_again():
    writer = DigitWriter({"": {"8": 0.8, "2": 0.2}, "8": {"5": 1.0}, "2": {"0": 1.0}})
    failures = iter([ConnectionError("cut")])

    def reply(messages):
        if "57" in messages[0].text and (failure := next(failures, None)):
            raise failure
        return writer(messages)

    grader = Grader(scripted_model(reply), QUICK, 0.25)
    methods = [anyio.run(grader.ask, "How good is it?").method for _ in range(2)]
    assert methods == [Method.PATH, Method.DIGITS]


def test_a_grader_that_refuses_a_begun_reply_still_gives_the_sampled_branch():
    writer = DigitWriter({"": {"8": 0.8, "2": 0.2}, "8": {"5": 1.0}})

    def reply(messages):
        if messages[-1].role == "assistant":
            raise ValueError("the last message has to be the user's")
        return writer(messages)

    reading = ask(reply)
    assert (reading.score, reading.method) == (pytest.approx(85), Method.PATH)


def test_a_reply_cut_off_within_its_number_is_no_score():
    cut = spoken("8", [("8", {"8": 0.9, "2": 0.1})], stop_reason="max_tokens")
    assert ask(lambda messages: cut).note.startswith("reply cut off: ")
    one_token = ask(lambda messages: cut, settings=QUICK.model_copy(update={"max_tokens": 1}))
    assert one_token.score is None
    assert "1.00 of the probability not followed" in one_token.note


def test_of_a_grader_that_is_asked_for_one_token_only_its_probabilities_count():
    """As in the paper, whose judge has no room for more."""
    settings = QUICK.model_copy(update={"max_tokens": 1})
    cut = spoken("80", [("80", {"80": 0.6, "20": 0.3, "CO": 0.1})], stop_reason="max_tokens")
    assert ask(lambda messages: cut, settings=settings).score == pytest.approx((48 + 6) / 0.9)
    part = spoken("CO", [("CO", {"CO": 0.9, "20": 0.1})], stop_reason="max_tokens")
    assert ask(lambda messages: part, settings=settings).note.startswith("too little probability: ")


def test_likelihoods_of_all_numbers_are_used_where_the_provider_has_them():
    writer = random_writer(0)
    masses = {str(number): writer.probability(str(number)) for number in range(101)}
    reading = ask(
        lambda messages, reply: math.log(masses[reply]) if masses.get(reply) else -math.inf,
        provider="likely",
        minimum_mass=0.01,
    )
    expected = sum(int(number) * mass for number, mass in masses.items()) / sum(masses.values())
    assert reading.score == pytest.approx(expected)
    assert reading.method is Method.EXACT


def test_likelihood_of_a_word_counts_too():
    reading = ask(
        lambda messages, reply: {"CODE": math.log(0.9), "40": math.log(0.1)}.get(reply, -math.inf), provider="likely"
    )
    assert (reading.word, reading.score) == ("CODE", None)


def test_likelihoods_that_are_none_are_a_failure():
    reading = ask(lambda messages, reply: -0.5, provider="likely")
    assert "add up to a probability of 62" in reading.note
    assert ask(lambda messages, reply: math.nan, provider="likely").score is None


def test_without_probabilities_the_text_is_read():
    assert ask(lambda messages: spoken("85/100")) == Reading(score=85.0, method=Method.TEXT)
    assert "several numbers" in ask(lambda messages: spoken("20 or 30")).note


def test_probabilities_of_tokens_that_are_not_the_reply_are_not_used():
    """Reasoning models: the positions begin with the reasoning, the reply does not."""
    tokens = [("12", {"12": 1.0}), (" reasons", {" reasons": 1.0}), ("85", {"85": 1.0})]
    assert ask(lambda messages: spoken("85", tokens)) == Reading(score=85.0, method=Method.TEXT)


def test_probabilities_that_are_none_are_a_failure():
    """A service that sends probabilities in place of their logarithms."""
    output = spoken("85", [("85", {"85": 0.9, "20": 0.1})])
    for each in output.choices[0].logprobs.content[0].top_logprobs:
        each.logprob = math.exp(each.logprob)
    assert "log-probabilities are none" in ask(lambda messages: output).note


def raising(error):
    def reply(messages):
        raise error

    return reply


def declined(text):
    """A reply that the provider marks as a refusal."""
    reply = spoken(text)
    reply.message.content = [ContentText(text=text, refusal=True)]
    return reply


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (raising(RuntimeError("no\n route ")), "RuntimeError: no route"),
        (raising(TimeoutError()), "TimeoutError"),
        (raising(ValueError("x" * 1000)), "..."),
        (lambda messages: spoken(""), "the reply is empty"),
        (lambda messages: spoken("  ", []), "the reply is empty"),
        (lambda messages: ModelOutput(model="scripted", error="overloaded"), "no reply: overloaded"),
        (lambda messages: ModelOutput(model="scripted"), "no reply: no reason given"),
        (lambda messages: spoken("I cannot", stop_reason="content_filter"), "content filter: I cannot"),
        (lambda messages: declined("0"), "content filter: it declined: 0"),
        (lambda messages: spoken("I cannot help with that."), "no number"),
    ],
)
def test_a_failing_grader_gives_a_reason_and_never_raises(reply, why):
    reading = ask(reply)
    assert (reading.score, reading.word) == (None, None)
    assert why in reading.note
    assert len(reading.note) < 400


def test_a_grader_that_hangs_is_given_up():
    model = scripted_model(lambda messages: spoken("85"))

    async def hang(*_, **__):
        await anyio.sleep_forever()

    model.api.generate = hang
    assert re.search("[Tt]imeout", ask_model(model).note)


def test_a_failing_follow_up_call_fails_the_reading():
    writer = DigitWriter({"": {"8": 0.6, "2": 0.4}, "8": {"5": 1.0}, "2": {"0": 1.0}})

    def reply(messages):
        if messages[-1].text == "2":
            raise RuntimeError("rate limit")
        return writer(messages)

    reading = ask(reply)
    assert reading.score is None
    assert "rate limit" in reading.note


def test_the_prompt_is_one_user_message():
    model = scripted_model(lambda messages: spoken("85"))
    ask_model(model)
    assert isinstance(model.api.calls[0][0][0], ChatMessageUser)


STRICT = [
    ("empty reply: the reply is empty", None),
    ("content filter: no reason given", None),
    ("unreadable reply: 'well'", None),
    ("no reply: no reason given", "1 no reply"),
    ("time-out: too slow", "1 time-out"),
]
"""Notes of calls that failed, and what is said of a step that needs their verdicts; None where it goes on without."""


@pytest.mark.parametrize(("note", "told"), STRICT)
def test_a_step_waits_for_verdicts_that_may_still_come_and_not_for_empty_replies(note, told):
    """A grader that says nothing may do so to the same question every time."""
    with patience(strict=True) as patient:
        patient.record("g", note)
        if told is None:
            patient.check()
        else:
            with pytest.raises(JudgeError, match=re.escape(told)):
                patient.check()


@pytest.mark.parametrize(
    ("calls", "empty", "enough"),
    [(1, 1, True), (5, 5, False), (10, 5, True), (12, 6, False), (200, 10, True), (200, 11, False)],
)
def test_strict_work_lets_few_empty_replies_pass(calls, empty, enough):
    with patience(strict=True) as patient:
        for number in range(calls):
            patient.record("g", "empty reply: the reply is empty" if number < empty else "")
            patient.in_a_row.clear()
        if enough:
            patient.check()
        else:
            with pytest.raises(JudgeError, match=f"{empty} of {calls} replies of the grader were empty"):
                patient.check()
