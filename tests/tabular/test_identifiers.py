"""names="snake": what analysts' headers become, and that it is always a valid set of columns."""

import re
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from taskwidgets.errors import OptionError
from taskwidgets.tabular.identifiers import by_column, snake_names

PLAIN = re.compile(r"[a-z_][a-z0-9_]*")

# What headers are made of, beside anything that Unicode has.
LETTERS = st.sampled_from(
    [*"aAbBzZ_ .-%#&'0129", "ä", "Ö", "ß", "É", "İ", "µ", "й", "Ж", "名", "\u0301"]
)
NAMES = st.text() | st.text(LETTERS) | st.sampled_from(["order", "Select", "a", "A", "", "xmin"])


@pytest.mark.parametrize(
    ("name", "expected"),
    {
        "dep_time": "dep_time",
        "Flight Number": "flight_number",
        "  Flight - Number  ": "flight_number",
        "LATITUDE": "latitude",
        "DepDelay": "dep_delay",
        "depDelay": "dep_delay",
        "UserIDs": "user_ids",
        "HTTPServer2": "http_server2",
        "pValue": "p_value",
        "Q1Sales": "q1_sales",
        "Energy (kWh)": "energy_kwh",
        "pH": "ph",
        "PM2.5": "pm2_5",
        "Größe (cm)": "groesse_cm",
        "Gro\u0308ße": "groesse",  # as macOS writes it
        "Année": "annee",
        "İl": "il",
        "Łódź": "lodz",
        "µg/m³": "ug_m3",
        "Дата Рождения": "дата_рождения",
        "名前": "名前",
        "% paid": "percent_paid",
        "# of items": "number_of_items",
        "R&D": "r_and_d",
        "Driver's age": "drivers_age",
        "2019": "_2019",
        "50%": "_50_percent",
        "Order": "order_",
        "xmin": "xmin_",
        "\ufeffid": "id",
        "": "column_1",
        "--": "column_1",
    }.items(),
)
def test_what_a_header_becomes(name, expected):
    """Names of real files become what an analyst would write."""
    assert snake_names([name]) == (expected,)


def test_collisions_are_numbered_in_the_files_order():
    """Of names that become the same the first has it; a name that stands there is not taken."""
    assert snake_names(["a", "A", "a "]) == ("a", "a_2", "a_3")
    assert snake_names(["a", "A", "a_2"]) == ("a", "a_3", "a_2")
    assert snake_names(["", "column_1", "order", "Order"]) == (
        "column_1", "column_1_2", "order_", "order_2",
    )  # fmt: skip
    long = "x" * 70
    first, second = snake_names([long, long])
    assert (len(first), len(second)) == (63, 63)
    assert second.endswith("x_2")


@given(st.lists(NAMES, max_size=12))
@example(["İ", "i̇", "ﬀ" * 40, "é" * 40, "名" * 30, "_" * 70, "9" * 64, "1_" * 40])
def test_any_header_gives_columns_that_need_no_quotes(names):
    """Unique, not empty, 63 bytes at most, lower case, valid, and stable when done again."""
    found = snake_names(names)
    assert len(found) == len(names) == len(set(found))
    for name in found:
        assert 0 < len(name.encode()) <= 63
        assert name == unicodedata.normalize("NFC", name)
        if name.isascii():
            assert PLAIN.fullmatch(name)
        else:  # by the scanner of Postgres, any byte from 0x80 on is a letter
            assert not name[0].isdecimal()
            assert all(letter == "_" or unicodedata.category(letter)[0] in "LMN" for letter in name)
    assert snake_names(found) == found


@given(st.text(LETTERS))
def test_a_name_does_not_depend_on_how_it_is_composed(name):
    """Files from different systems give one column, however their accents are encoded."""
    assert snake_names([unicodedata.normalize("NFC", name)]) == snake_names(
        [unicodedata.normalize("NFD", name)]
    )


def test_options_may_call_a_column_by_either_name():
    """The new name goes first; what is not certain is refused and says what there is."""
    header, columns = ("A b", "a_b", "c", "c"), ("a_b", "a_b_2", "c", "c_2")
    assert by_column({"A b": 1}, header, columns, "types") == {"a_b": 1}
    assert by_column({"a_b": 1, "c_2": 2}, header, columns, "types") == {"a_b": 1, "c_2": 2}
    assert by_column({"d": 1}, header, columns, "types") == {"d": 1}
    with pytest.raises(OptionError, match="the column 'a_b' is named twice, also as 'A b'"):
        by_column({"a_b": 1, "A b": 2}, header, columns, "types")
    with pytest.raises(OptionError, match=r"types: 'D' stands 2 times in the file; .*'d', 'd_2'"):
        by_column({"D": 1}, ("D", "D"), ("d", "d_2"), "types")
