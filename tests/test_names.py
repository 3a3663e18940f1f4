import difflib
import random
from collections.abc import Iterator

import pytest

from mint_core import names as similarity
from mint_core.names import KNOWN, RECOGNISED, Match, best_matches, ratio, recognise
from mint_core.types import LabelSpace, normalise_name


def difflib_ratio(response_name: str, known_name: str) -> float:
    a, b = normalise_name(response_name), normalise_name(known_name)
    return difflib.SequenceMatcher(None, a, b, autojunk=False).ratio()


def brute_force(name: str, labels: LabelSpace) -> Match | None:
    """Every name of every label, in order; the first of the best wins."""
    best = None
    for label in labels.names:
        for form in labels.all_names(label):
            value = difflib_ratio(name, form)
            if value >= KNOWN and (best is None or value > best.ratio):
                best = Match(label, value)
    return best


def random_name(draw: random.Random, alphabet: str, longest: int) -> str:
    return "".join(draw.choices(alphabet, k=draw.randint(1, longest)))


def random_space(draw: random.Random, alphabet: str, longest: int, size: int) -> LabelSpace:
    names: dict[str, str] = {}
    while len(names) < size:
        name = random_name(draw, alphabet, longest)
        names.setdefault(normalise_name(name), name)
    *others, last = names.values()
    rows = [[name] for name in [*others[: size // 2], last]]
    for alias in others[size // 2 :]:
        draw.choice(rows).append(alias)
    return LabelSpace(tuple(row[0] for row in rows), tuple(tuple(row[1:]) for row in rows))


def spoilt(draw: random.Random, name: str, alphabet: str) -> str:
    """A name with a few characters replaced, dropped or put in."""
    characters = list(name)
    for _ in range(draw.randint(1, 3)):
        place = draw.randrange(len(characters) + 1)
        characters[place : place + draw.randint(0, 1)] = draw.choices(alphabet, k=draw.randint(0, 2))
    return "".join(characters)


@pytest.fixture
def tissues() -> LabelSpace:
    return LabelSpace(("Adrenal gland", "Breast", "Colon", "Esophagus", "Kidney", "Liver", "Lung", "Prostate", "Skin"))


@pytest.fixture
def difflib_calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, str]]]:
    calls: list[tuple[str, str]] = []

    def counting(junk: None, a: str, b: str, autojunk: bool) -> difflib.SequenceMatcher:
        calls.append((a, b))
        return difflib.SequenceMatcher(junk, a, b, autojunk)

    similarity._matcher.cache_clear()
    monkeypatch.setattr(similarity, "SequenceMatcher", counting)
    yield calls
    similarity._matcher.cache_clear()


def test_ratio_by_hand():
    """colonn / colon: 5 characters in common blocks, 6 + 5 in both: 2 * 5 / 11."""
    assert ratio("Colonn", "Colon") == 10 / 11
    assert ratio("abcd", "wxyz") == 0
    assert ratio("ab", "abab") == 4 / 6


def test_ratio_ignores_case_and_punctuation():
    assert ratio("  WILLIAMS--BEUREN, syndrome. ", "Williams-Beuren Syndrome") == 1
    assert ratio("Bile_duct", "bile duct") == 1


def test_ratio_takes_the_response_first():
    """difflib is not symmetric; this pair of its own documentation shows it."""
    assert ratio("tide", "diet") == 0.25
    assert ratio("diet", "tide") == 0.5


@pytest.mark.parametrize("alphabet", ["ab", "abcd -", "abcdefghijklmnopqrstuvwxyz  '-,12", "äßéöΩ日本 x"])
def test_ratio_is_difflibs_on_random_names(alphabet: str):
    draw = random.Random(alphabet)
    for _ in range(300):
        a, b = random_name(draw, alphabet, 40), random_name(draw, alphabet, 40)
        assert ratio(a, b) == difflib_ratio(a, b)


def test_ratio_of_long_names_knows_no_junk():
    """From 200 characters on difflib's autojunk would drop the frequent ones, here all but the x."""
    long = "ab" * 150
    assert ratio(long, "x" + long) == 600 / 601


@pytest.mark.parametrize(("alphabet", "longest"), [("ab", 6), ("abc -", 10), ("abcdefgh  12", 30), ("aeinorst ", 150)])
def test_matching_equals_brute_force(alphabet: str, longest: int):
    draw = random.Random(longest)
    found = 0
    for _ in range(6):
        labels = random_space(draw, alphabet, longest, 40)
        every_name = [form for name in labels.names for form in labels.all_names(name)]
        names = [spoilt(draw, draw.choice(every_name), alphabet) for _ in range(15)]
        names += [random_name(draw, alphabet, longest) for _ in range(10)]
        matches = best_matches(names, labels)
        assert matches == [brute_force(name, labels) for name in names]
        found += sum(match is not None for match in matches)
    assert found >= 60


def test_of_equally_near_labels_the_earlier_wins():
    """`type 3` is one character off both: 2 * 16 / 34."""
    one, two = "X syndrome type 1", "X syndrome type 2"
    assert best_matches(["X syndrome type 3"], LabelSpace((one, two))) == [Match(one, 32 / 34)]
    assert best_matches(["X syndrome type 3"], LabelSpace((two, one))) == [Match(two, 32 / 34)]


def test_the_earlier_wins_though_the_later_has_the_higher_bound():
    """Blocks `abb`, and `bc` + `b`: 2 * 3 / 10 for both, but the second shares the subsequence `babb`."""
    assert ratio("bcabb", "aaabb") == ratio("bcabb", "babcb") == 0.6
    assert best_matches(["bcabb"], LabelSpace(("aaabb", "babcb"))) == [Match("aaabb", 0.6)]
    assert best_matches(["bcabb"], LabelSpace(("babcb", "aaabb"))) == [Match("babcb", 0.6)]


def test_the_exact_one_of_near_equal_names_wins():
    labels = LabelSpace(("X syndrome type 1", "X syndrome type 2", "X syndrome type 12"))
    for name in labels.names:
        assert best_matches([name.upper() + "."], labels) == [Match(name, 1)]


def test_an_alias_stands_for_its_label():
    williams = "WILLIAMS-BEUREN SYNDROME"
    labels = LabelSpace(("Kabuki syndrome", williams), (("KABUK1",), ("WBS", "Williams syndrome")))
    names = ["wbs", "Wiliams syndrome", "Williams-Beuren syndrome; WBS"]
    assert recognise(names, labels) == [williams] * 3


def test_thresholds_include_their_limit():
    """2 * 3 / 10 = 0.6 is known; 2 * 4 / 10 = 0.8 is recognised."""
    labels = LabelSpace(("abcde", "vwxyz"))
    assert (KNOWN, RECOGNISED) == (0.6, 0.8)
    assert best_matches(["abc77", "ab777"], labels) == [Match("abcde", 0.6), None]
    assert recognise(["abcd7", "abc77"], labels) == ["abcde", None]


@pytest.mark.parametrize("name", ["", "???", "日本", "x" * 5000])
def test_a_name_like_nothing_matches_nothing(name: str, tissues: LabelSpace):
    assert best_matches([name], tissues) == [None]


def test_no_names_no_matches(tissues: LabelSpace):
    assert best_matches([], tissues) == []
    assert recognise([], tissues) == []


def test_difflib_runs_on_few_names_and_once_per_name(difflib_calls: list[tuple[str, str]]):
    draw = random.Random(7)
    labels = random_space(draw, "abcdefghijklmnopqrstuvwxyz  ", 40, 600)
    names = [random_name(draw, "abcdefghijklmnopqrstuvwxyz  ", 40) for _ in range(50)]
    first = best_matches(names, labels)
    assert len(difflib_calls) <= 0.01 * len(names) * 600
    n_calls = len(difflib_calls)
    equal_space = LabelSpace(tuple(labels.names), tuple(labels.aliases))
    assert best_matches(names, equal_space) == first
    assert len(difflib_calls) == n_calls


def test_an_exact_name_needs_no_difflib(difflib_calls: list[tuple[str, str]], tissues: LabelSpace):
    assert best_matches(["COLON", "adrenal-gland"], tissues) == [Match("Colon", 1), Match("Adrenal gland", 1)]
    assert difflib_calls == []


def test_each_label_space_has_its_own_matches():
    assert best_matches(["colon"], LabelSpace(("Colon", "Lung"))) == [Match("Colon", 1)]
    assert best_matches(["colon"], LabelSpace(("Skin", "Lung"))) == [None]


@pytest.fixture(params=["plain", "compiled"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """With and without what `mint-metrics[fast]` installs."""
    if request.param == "plain":
        monkeypatch.setattr(similarity, "SequenceMatcher", difflib.SequenceMatcher)
        monkeypatch.setattr(similarity, "cdist", None)
    else:
        for package in ("cydifflib", "rapidfuzz"):
            pytest.importorskip(package, reason="pip install 'mint-metrics[fast]'")
    similarity._matcher.cache_clear()
    yield request.param
    similarity._matcher.cache_clear()


WORDS = (
    "Syndrome", "syndrome", "type 1", "type 2", "type II", "X-linked", "dysplasia", "deficiency", "Ehlers-Danlos",
    "Prader\u2013Willi", "Sjögren", "Ménière", "日本", "familial", "A", "of", "the", "heart", "Kabuki", "Noonan",
    "β-thal",
)  # fmt: skip


def hard_name(draw: random.Random, known: str) -> str:
    """A name that is hard to tell from a known one, or shares nothing with it."""
    words = known.split()
    return draw.choice((
        lambda: spoilt(draw, known, "aeiorst -,.'é"),
        lambda: " ".join(draw.sample(words, len(words))),
        lambda: known[: draw.randint(0, len(known))],
        lambda: known[draw.randint(0, len(known)) :],
        lambda: f"{known} {draw.choice(WORDS)}",
        lambda: " ".join(word for word in words if draw.random() < 0.7),
        lambda: "".join(f"{c}{draw.choice(('', '', '', '-', ', ', '_'))}" for c in known).upper(),
        lambda: known[::-1],
        lambda: known + known,
        lambda: "".join(draw.sample(known, len(known))),
        lambda: " ".join(draw.choices(WORDS, k=draw.randint(0, 5))),
        lambda: draw.choice(("", " ", "???", "\u0301", "x" * 250, known * 8)),
    ))()  # fmt: skip


def test_ten_thousand_hard_pairs_are_decided_as_difflib_decides(engine: str):
    """Best label, best ratio and both thresholds, against plain difflib on every pair."""
    draw = random.Random(11)
    pairs, decided = 0, {"recognised": 0, "known": 0, "none": 0}
    while pairs < 10_000:
        names = {normalise_name(n): n for n in (" ".join(draw.choices(WORDS, k=draw.randint(1, 5))) for _ in range(20))}
        labels = LabelSpace(tuple(names.values()))
        asked = [hard_name(draw, draw.choice(labels.names)) for _ in range(20)]
        expected = [brute_force(name, labels) for name in asked]
        assert best_matches(asked, labels) == expected
        assert best_matches(asked, labels) == expected  # from what was kept
        assert recognise(asked, labels) == [m.label if m and m.ratio >= RECOGNISED else None for m in expected]
        for match in expected:
            decided["none" if match is None else "recognised" if match.ratio >= RECOGNISED else "known"] += 1
        pairs += len(asked) * len(labels)
    assert min(decided.values()) > 20


def test_no_bound_is_below_the_ratio(engine: str):
    draw = random.Random(12)
    labels = LabelSpace(tuple({normalise_name(w): w for w in WORDS}.values()))
    matcher = similarity._matcher(labels)
    for _ in range(200):
        form = normalise_name(hard_name(draw, draw.choice(labels.names)))
        ratios = [difflib_ratio(form, known) for known in labels.names]
        for common in (matcher._shared(form), matcher._common(form)):
            assert all(
                bound >= value for bound, value in zip(matcher._bounds(form, common), ratios, strict=True) if form
            )


def test_what_is_kept_has_a_limit(engine: str, monkeypatch: pytest.MonkeyPatch, tissues: LabelSpace):
    monkeypatch.setattr(similarity, "_KEPT", 3)
    names = ["colonn", "lungg", "skinn", "livr", "colonn"]
    expected = [brute_force(name, tissues) for name in names]
    assert [best_matches([name], tissues)[0] for name in names] == expected
    assert len(similarity._matcher(tissues)._found) <= 4


def test_a_name_with_more_of_a_character_than_a_short_integer_counts(engine: str, tissues: LabelSpace):
    assert best_matches(["n" * 70_000], tissues) == [None]
