"""S28: tokens prove the key, for one attempt and one purpose; nothing else does."""

from hypothesis import example, given
from hypothesis import strategies as st

from provisioner.core.tokens import Purpose, new_uid, token, uid_of

KEY = b"k" * 32
uids = st.builds(new_uid)


@given(uids, st.sampled_from(Purpose), st.sampled_from(Purpose))
def test_s27_a_token_opens_its_own_purpose_alone(uid: str, made_for: Purpose, used_for: Purpose) -> None:
    made = token(KEY, uid, made_for)
    assert len(made) == 54
    assert uid_of(KEY, made, used_for) == (uid if made_for is used_for else None)
    assert uid_of(b"l" * 32, made, made_for) is None, "another key proves nothing"


@given(uids, st.integers(0, 53), st.characters())
def test_s28_one_changed_character_kills_a_token(uid: str, at: int, char: str) -> None:
    made = token(KEY, uid, Purpose.EVENT)
    forged = made[:at] + char + made[at + 1 :]
    assert uid_of(KEY, forged, Purpose.EVENT) == (uid if forged == made else None)


@given(st.text(max_size=80))
@example("x" * 54)
@example("x" * 54 + "\n")
@example("é" * 54)
@example("")
def test_s28_what_is_not_shaped_like_a_token_is_none(text: str) -> None:
    for purpose in Purpose:
        assert uid_of(KEY, text, purpose) is None


def test_s28_a_genuine_token_with_a_line_end_is_refused_and_uids_do_not_repeat() -> None:
    made = token(KEY, new_uid(), Purpose.ANSWER)
    assert uid_of(KEY, made + "\n", Purpose.ANSWER) is None
    assert len({new_uid() for _ in range(1000)}) == 1000
