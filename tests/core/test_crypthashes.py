"""S15: which hashes of other systems are taken, which are refused and why, and what each costs."""

import pytest
from hashes import FOREIGN
from hypothesis import given
from hypothesis import strategies as st

from provisioner.core.crypthashes import imported, work
from provisioner.errors import InvalidInput

D22, D43, D53, D86 = "a" * 22, "a" * 43, "a" * 53, "a" * 86
REFUSED = {
    "$1$saltsalt$qjXMvbEw8oaL.CzflDtaK/": "MD5 crypt is broken",
    "$apr1$saltsalt$qjXMvbEw8oaL.CzflDtaK/": "MD5 crypt is broken",
    "ab1mZ4JqxfMRo": "DES crypt is broken",
    "_J9..rasmBYk8r9AiWNc": "DES crypt is broken",
    "5f4dcc3b5aa765d61d8327deb882cf99": "a plain digest",
    "5baa61e4c9b93f3f0682250b6cf8331b7ee68fd8": "a plain digest",
    "{SSHA}0c0blFTXXNuAMHECS4uxrj3ZieMoWImr": "a plain digest",
    "$3$$8846f7eaee8fb117ad06bdd830b7586c": "a plain digest",
    "!": "an account without a password",
    "*": "an account without a password",
    f"!$6$salt${D86}": "an account without a password",
    f"$2b$04${D53}": "quickly guessed",
    f"$2x$10${D53}": "made with a mistake",
    f"$2b$15${D53}": "too much time",
    f"$6$rounds=1000$salt${D86}": "quickly guessed",
    f"$6$rounds=9000000$salt${D86}": "too much time",
    f"$6$salt${D86[1:]}": "not whole",
    f"$argon2id$v=19$m=999999,t=3,p=4${D22}${D43}": "too much time or memory",
    f"$argon2id$v=19$m=65536,t=99,p=4${D22}${D43}": "too much time or memory",
    f"$argon2id$v=19$m=0,t=3,p=4${D22}${D43}": "too much time or memory",
    f"$y$jDT${D22}${D43}": "too much time or memory",
    "correct horse battery staple": "none that is known here",
    "pbkdf2_sha256$600000$salt$hash": "none that is known here",
    "": "none that is known here",
    "a" * 300: "none that is known here",
    f"$6$salt${D86}\n$6$": "not whole",
}


@pytest.mark.parametrize("name", FOREIGN)
def test_s15_these_are_taken(name: str) -> None:
    _, stored = FOREIGN[name]
    assert imported(f" {stored}\n") == stored
    begins = work(stored)
    assert begins is not None
    assert begins.count("$") >= 2
    assert stored.startswith(begins) or name.startswith("bcrypt")


@pytest.mark.parametrize("text", REFUSED)
def test_s15_weak_and_costly_ones_are_refused_with_the_reason(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        imported(text)
    assert REFUSED[text] in caught.value.message
    assert "user password NAME" in caught.value.hint
    assert len(text) < 9 or text not in str(caught.value.as_dict())


def test_s15_what_costs_the_same_is_one_kind() -> None:
    bcrypt = {work(f"$2{letter}$10${D53}") for letter in "aby"}
    assert bcrypt == {"$2b$10$"}
    assert work(f"$2b$11${D53}") not in bcrypt
    assert work(f"$6$a${D86}") == work(f"$6$b${D86}") != work(f"$6$rounds=5001$a${D86}")


@given(st.text(max_size=300) | st.from_regex(r"\$(1|2b|5|6|y|argon2id)\$[ -~]{0,120}"))
def test_whatever_it_is_it_is_taken_as_it_is_or_refused_in_words(text: str) -> None:
    try:
        assert imported(text) == text.strip()
    except InvalidInput as error:
        assert error.hint
        assert len(error.message) < 200
