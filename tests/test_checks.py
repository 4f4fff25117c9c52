"""The checks, each on texts with the fault and on good ones of several kinds that look alike."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from magpie_cli.checks import CHECKS, REPAIRS, findings, hard, repaired
from magpie_cli.checks.speech import cut_at_other, strip_own_label
from magpie_cli.checks.spoken import Scene, Speaker, Spoken
from magpie_cli.records import Dialogue

SCIENTIST = "A curious scientist who counts moths by lamplight in an old tower by the sea"
LIBRARIAN = "A careful librarian with a cupboard of lost maps and a fear of open windows"
LIST = "\n".join(
    f"{n}. Take the {n}th lamp and count what sits on it for an hour" for n in range(9)
)
LONG = " ".join(["moth"] * 10 + ["lamp"] * 10 + ["sea"] * 30)


def said(text: str, speaker: Speaker = "responder", *before: str) -> Spoken:
    """By the librarian to the scientist, or the other way round."""
    mine, theirs = (LIBRARIAN, SCIENTIST) if speaker == "responder" else (SCIENTIST, LIBRARIAN)
    return Spoken(text, speaker, before, mine, theirs)


def asked(text: str, *before: str) -> Spoken:
    """By the scientist."""
    return said(text, "instructor", *before)


BAD: dict[str, list[Spoken]] = {
    "empty": [said("..."), said("\u200b - "), said("***")],
    "speaker_label": [
        said("Responder: The map is in the north drawer."),
        said("**Assistant:** It is."),
        asked("Instructor: where is it?"),
        asked("[User]: where is it?"),
        said("  AI : yes, under the stairs"),
    ],
    "both_speakers": [
        said("It is in the drawer.\n\nUser: And the key?\nAssistant: Under the mat."),
        said("It is.\nInstructor: Which one?"),
        asked("Where is it?\n**Responder:** In the drawer."),
    ],
    "role_flip": [
        asked("How can I help you today?"),
        asked("Feel free to ask me anything about moths.", "Why?", "Because."),
        asked(f"You need a lamp.\n{LIST}", "Which lamp?", "The brass one."),
        said("What would you like to know?", "responder", "Tell me of the maps."),
    ],
    "farewell": [
        said("Goodbye, and take care!", "responder", "Thank you, goodbye!"),
        asked("Thanks again, see you later!", "Why?", "You're welcome. Take care!"),
        said("You're welcome!", "responder", "Thank you so much for all of this."),
    ],
    "sycophantic_opening": [
        said("Certainly! The map is in the drawer."),
        said("Great question! It is in the drawer."),
        said("That's such a fascinating question, and the answer is long."),
        said("Of course, here it is."),
        said("Thats a good point, and I had not seen it."),
        said("\u201cId be glad to!\u201d"),
        asked("What an excellent point! And the key?"),
    ],
    "refusal": [
        said("As an AI language model, I do not have maps."),
        said("I'm sorry, but I can't help with that."),
        said("I cannot assist with this request."),
        asked("I am an AI and have no questions of my own."),
    ],
    "truncated": [
        said("The map is in the")._replace(finish_reason="length"),
        said("And then you turn left at")._replace(finish_reason="length"),
    ],
    "too_short": [said("Yes.")._replace(min_words=5)],
    "too_long": [said(LONG)._replace(max_words=20)],
    "prompt_echo": [
        said("As a careful librarian with a cupboard of lost maps, I would say no."),
        asked("I am a curious scientist who counts moths by lamplight. Where is it?"),
    ],
    "persona_leak": [
        said("You are a scientist who counts moths by lamplight in an old tower, so you know."),
        asked("With your cupboard of lost maps and a fear of open windows, can you help?"),
    ],
    "repetition": [
        said(LONG),
        said(
            "The map lies in the north drawer under the stairs, as I said.",
            "responder",
            "Where?",
            "The map lies in the north drawer under the stairs.",
            "Where again?",
        ),
    ],
    "language": [
        said("Карта лежит в северном ящике.")._replace(language="en"),
        said("The map is in the north drawer.")._replace(language="ru"),
        said("地図は北の引き出しにあります。")._replace(language="de"),
    ],
}

GOOD: dict[str, list[Spoken]] = {
    "empty": [said("42"), said("はい"), said("да"), said("A.")],
    "speaker_label": [
        said("Note: the drawer is locked."),
        said("User error is the usual cause: nobody turns the key."),
        asked("Assistant librarians: are they paid?"),
        said("AI is a large field."),
        said("Responder cells: what are they?"),
    ],
    "both_speakers": [
        said("The user: a person, or a program, that asks. The assistant answers."),
        said("Write `User: name` in the first line of the file."),
        said("Steps:\n- open it\n- close it"),
        asked("I told my assistant: leave it."),
    ],
    "role_flip": [
        asked("I have tried three lamps, and none of them draws the big ones. Why is that?"),
        asked(f"Here is what I did.\n{LIST}\nWhat did I do wrong?", "Go on.", "Yes."),
        said("It depends: which lamp do you have, and how bright is it?"),
        said(f"Do this.\n{LIST}"),
    ],
    "farewell": [
        said("Take care when you open it: the hinge is loose.", "responder", "Thanks. How?"),
        said("Thanks to the lamp, they come. Which one did you use?", "responder", "Thank you."),
        said("It is in the drawer.", "responder", "Thank you, goodbye!"),
        said("Thank you."),
    ],
    "sycophantic_opening": [
        said("Certainly not before noon."),
        said("Of course the drawer is locked; it always was."),
        said("Great questions come from doubt."),
        said("Sure enough, the moths came."),
        said("Absolute zero is -273.15 °C."),
    ],
    "refusal": [
        said("I can't say which of the two is older, but the paper is from Leiden."),
        said("I'm sorry that the drawer was locked."),
        said("I cannot find it."),
        said("The letter says: as an aide to the king, he refused."),
    ],
    "truncated": [
        said("The map is in the drawer.")._replace(finish_reason="length"),
        said("The map is in the"),
        said("地図は北の引き出しにあります。")._replace(finish_reason="length"),
        said("See `drawer.txt`")._replace(finish_reason="length"),
    ],
    "too_short": [said("Yes."), said("It is in the north drawer.")._replace(min_words=5)],
    "too_long": [said(LONG), said("Yes.")._replace(max_words=20)],
    "prompt_echo": [
        said("I keep lost maps in a cupboard."),
        said(
            "A careful librarian with a cupboard of lost maps, as you put it.",
            "responder",
            "Are you a careful librarian with a cupboard of lost maps?",
        ),
    ],
    "persona_leak": [
        said("You count moths by lamplight, you say. In which month?"),
        asked("Do you have maps of the coast?"),
    ],
    "repetition": [
        said("Yes.", "responder", "Is it?", "Yes.", "Really?"),
        said(
            "The second map is older, and was drawn by another hand.",
            "responder",
            "Where?",
            "The map lies in the north drawer under the stairs.",
            "And the second?",
        ),
        said(
            "The map lies in the north drawer under the stairs.",
            "responder",
            "The map lies in the north drawer under the stairs.",
        ),
    ],
    "language": [
        said("Die Karte liegt im Schrank.")._replace(language="en"),
        said("The word мотылёк means moth, and 蛾 does too.")._replace(language="en"),
        said("Карта, the map, лежит в ящике под окном.")._replace(language="ru"),
        said("42")._replace(language="ja"),
        said("Карта лежит в северном ящике."),
    ],
}


def test_each_check_has_a_table_of_true_and_of_false_cases() -> None:
    """No check is without both."""
    assert set(BAD) == set(GOOD) == set(CHECKS)


@pytest.mark.parametrize(("name", "number"), [(n, k) for n in BAD for k in range(len(BAD[n]))])
def test_the_fault_is_found(name: str, number: int) -> None:
    """A text with the fault has the finding of that name."""
    assert name in findings(BAD[name][number])


@pytest.mark.parametrize(("name", "number"), [(n, k) for n in GOOD for k in range(len(GOOD[n]))])
def test_a_good_text_that_looks_alike_has_no_finding(name: str, number: int) -> None:
    """Where the check cannot decide, it finds nothing."""
    assert name not in findings(GOOD[name][number])


TEXTS = st.text(max_size=300) | st.builds(
    "".join,
    st.lists(st.sampled_from(["User: ", "Assistant:", "\n", "**", "Responder :", "yes", " ", "?"])),
)
BOTH: tuple[Speaker, Speaker] = ("instructor", "responder")
SPEAKERS = st.sampled_from(BOTH)


@settings(deadline=None, max_examples=300)
@given(st.builds(Spoken, TEXTS, SPEAKERS, st.lists(TEXTS, max_size=4).map(tuple), TEXTS, TEXTS))
def test_no_check_raises_on_any_text(spoken: Spoken) -> None:
    """Whatever a model writes, there is an answer, and the hard ones are a part of it."""
    assert set(hard(findings(spoken))) <= set(findings(spoken)) <= set(CHECKS)


SPOKEN = TEXTS.filter(lambda text: bool(text.strip()))


@settings(deadline=None, max_examples=300)
@given(st.lists(st.tuples(SPOKEN, SPOKEN), min_size=1, max_size=4), st.lists(TEXTS, min_size=2))
def test_a_mended_dialogue_is_one(turns: list[tuple[str, str]], personas: list[str]) -> None:
    """Mended, its utterances alternate as before, none is empty, and there is nothing to mend."""
    scene = Scene(personas[0], personas[1])
    texts: list[str] = []
    for speaker, text in (pair for turn in turns for pair in zip(BOTH, turn, strict=True)):
        mended, names = repaired(text, speaker)
        assert repaired(mended, speaker) == (mended, ())
        assert set(names) <= set(REPAIRS)
        assert bool(names) == (mended != text)
        assert scene.speaker == speaker
        assert set(findings(scene.spoken(mended))) <= set(CHECKS)
        scene.say(mended)
        texts.append(mended)
    assert len(Dialogue.from_texts(texts, "tiny").turns) == len(turns)


@settings(deadline=None, max_examples=300)
@given(TEXTS, SPEAKERS)
def test_a_repair_leaves_words_and_is_done_once(text: str, speaker: Speaker) -> None:
    """It never makes an utterance empty, and what it gives it does not touch again."""
    for repair in (strip_own_label, cut_at_other):
        once = repair(text, speaker)
        assert bool(once.strip()) >= bool(text.strip())
        assert repair(once, speaker) == once
