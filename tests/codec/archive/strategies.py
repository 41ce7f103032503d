"""Names and labels for property tests."""

from hypothesis import strategies as st

TEXTS = st.text(st.characters(codec="utf-8"), max_size=30)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
LABELS = st.none() | st.integers(-(2**31), 2**31 - 1) | st.dictionaries(TEXTS, JSON, max_size=3)
STEMS = st.builds("{}{:04d}{}".format, TEXTS, st.integers(0, 9999), st.sampled_from([".png", ""]))
NAMES = st.lists(st.one_of(st.none(), STEMS, TEXTS.map(lambda text: text or None)), max_size=40)
