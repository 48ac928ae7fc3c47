"""Tables of a few words, in many languages and encodings, are read as they were written."""

from __future__ import annotations

from pathlib import Path

import pytest

from taskwidgets.tabular.detect import detect
from taskwidgets.tabular.detection.encoding import detect_encoding
from taskwidgets.tabular.detection.legacy_encoding import find_legacy_encoding

# For each language: a header, and cells of two columns.
TABLES = {
    "Czech": ("Město;Kraj", "Třebíč;Vysočina|Břeclav;Jižní Čechy|Děčín;Ústí|Žďár;Šumperk"),
    "Polish": ("Miasto;Województwo", "Łódź;Śródmieście|Gdańsk;Żuławy|Kraków;Krzyż|Częstochowa;Łęg"),
    "Hungarian": (
        "Város;Utca",
        "Győr;Petőfi út|Pécs;Fő tér|Miskolc;Széchenyi körút|Érd;Tűzoltó köz",
    ),
    "German": ("Straße;Größe", "Münzgasse;groß|Löwenweg;übergroß|Bäckerweg;mäßig|Grünallee;klein"),
    "French": ("Prénom;Métier", "Hélène;Infirmière|Benoît;Maçon|Loïc;Préfet|Gaëlle;Hôtelière"),
    "Spanish": ("Ciudad;Región", "Logroño;La Rioja|Cáceres;Extremadura|Mérida;Ávila|León;España"),
    "Portuguese": (
        "Cidade;Região",
        "Brasília;Centro|Maceió;Nordeste|Paranaguá;São José|Óbidos;Pão",
    ),
    "Turkish": ("Şehir;Ürün", "İzmir;Üzüm|Eskişehir;Kiraz|Muğla;Çilek|Iğdır;Kayısı|Ağrı;Şeker"),
    "Russian": (
        "Город;Область",
        "Тверь;Калязин|Пермь;Кунгур|Самара;Сызрань|Омск;Тара|Псков;Остров",
    ),
    "Greek": ("Πόλη;Νησί", "Αθήνα;Σύρος|Πάτρα;Κως|Βόλος;Σκιάθος|Χανιά;Κρήτη|Λαμία;Εύβοια"),
    "Japanese": ("都市;産物", "札幌;牛乳とチーズ|青森;りんご|静岡;お茶|高知;ゆず|那覇;砂糖"),
    "Chinese": ("城市;产品", "成都;茶叶|杭州;丝绸|景德镇;瓷器|西安;苹果|青岛;啤酒"),
    "Traditional Chinese": ("城市;產品", "臺南;芒果|高雄;鳳梨|花蓮;麻糬|臺中;太陽餅|嘉義;火雞肉飯"),
    "Korean": ("도시;산물", "대구;사과|전주;비빔밥|제주;감귤|나주;배|안동;간고등어"),
    "English": ("Name;Note", "Zoë;£20 fee|Beyoncé;paid|Smith;paid|Jones;open"),
}
WESTERN = ("cp1252", "iso8859_15", "mac_roman", "cp850")
ENCODINGS = {
    "Czech": ("cp1250", "iso8859_2", "mac_latin2", "cp852"),
    "Polish": ("cp1250", "iso8859_2", "cp852"),
    "Hungarian": ("cp1250", "iso8859_2"),
    **dict.fromkeys(("German", "French", "Spanish", "Portuguese", "English"), WESTERN),
    "Turkish": ("cp1254",),
    "Russian": ("cp1251", "koi8_r", "cp866", "mac_cyrillic", "iso8859_5"),
    "Greek": ("cp1253", "iso8859_7"),
    "Japanese": ("shift_jis", "euc_jp", "iso2022_jp"),
    "Chinese": ("gbk",),
    "Traditional Chinese": ("big5",),
    "Korean": ("euc_kr",),
}


def text_of(language: str, times: int) -> str:
    """A table with a number and a day beside the words."""
    header, cells = TABLES[language]
    rows = cells.split("|") * times
    return f"Nr;{header};2024\n" + "".join(
        f"{number};{row};{number},50\n" for number, row in enumerate(rows)
    )


@pytest.mark.parametrize("times", [1, 20])
@pytest.mark.parametrize(
    ("language", "encoding"),
    [(language, encoding) for language, names in ENCODINGS.items() for encoding in names],
)
def test_a_table_of_words_is_read_as_it_was_written(
    tmp_path: Path, language: str, encoding: str, times: int
) -> None:
    """Of several encodings that read the same text, any will do."""
    text = text_of(language, times)
    path = tmp_path / "a.csv"
    path.write_bytes(text.encode(encoding))
    found = detect(path).description.encoding
    assert path.read_bytes().decode(found) == text


@pytest.mark.parametrize("language", ["Japanese", "Chinese", "Traditional Chinese", "Korean"])
@pytest.mark.parametrize("cut", [0, 1])
def test_pieces_may_begin_and_end_within_a_character(language: str, cut: int) -> None:
    """Of a large file, pieces are looked at that are cut anywhere."""
    encoding = ENCODINGS[language][0]
    data = text_of(language, 400).encode(encoding)
    pieces = [data[start + cut : start + 2001 + cut] for start in range(0, 10_000, 2501)]
    found, _ = find_legacy_encoding(pieces)
    assert found is not None
    assert data.decode(found.name) == data.decode(encoding)


def test_a_line_without_end_is_cut_between_characters() -> None:
    """A single line longer than what is looked at."""
    data = ("りんごとお茶,札幌のチーズ," * 20_000).encode("euc_jp")
    assert detect_encoding(data).name.startswith("euc")


def test_what_no_letter_decides_is_not_called_sure() -> None:
    """Two readings that are as good as each other: the certainty says so."""
    found = detect_encoding("a;b\n1;Ω\n".encode("iso8859_7") * 3)
    assert found.sure < 0.8


@pytest.mark.parametrize("encoding", WESTERN)
@pytest.mark.parametrize("word", ["AäA", "dépôt", "Zoë", "Mañana", "Grüße", "Ærø"])
def test_a_single_word_of_western_europe_is_none_of_east_asia(word: str, encoding: str) -> None:
    """A letter and the one behind it may be a character of two bytes elsewhere."""
    text = f"a,{word} 1,{word} 2\nAB-1,AB-2,AB-3\n"
    found = detect_encoding(text.encode(encoding))
    assert text.encode(encoding).decode(found.name).isascii() is False
    assert not any(one >= "\u3000" for one in text.encode(encoding).decode(found.name))
