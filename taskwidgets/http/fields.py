"""What a request may hold: JSON Schemas, by which requests are checked and the document is made."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match

from taskwidgets.runtime.states import State
from taskwidgets.transfers.part_formats import FORMATS

__all__ = [
    "CONTROL", "DOWNLOAD", "EVENTS", "JOBS", "JOB_ID", "NOTHING", "RESUME", "UPLOAD",
    "BadField", "Fields",
]  # fmt: skip

LONGEST_MESSAGE = 400  # characters: a value that is repeated in an error may be long

TEXT = {"type": "string", "pattern": "^[^\\u0000]*$"}
NAME = {**TEXT, "minLength": 1}
OPTIONAL_TEXT = {"type": ["string", "null"], "pattern": "^[^\\u0000]*$"}
SWITCH = {"type": "boolean"}
ROWS = {"type": ["integer", "null"], "minimum": 0, "maximum": 1_000_000_000}
WORDS = {"type": "array", "items": TEXT}


class BadField(Exception):
    """The request holds what it must not; ``field`` is the name of it, where it is about one."""

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True)
class Fields:
    """Named fields with their schemas; those that are not ``required`` may be left out."""

    schemas: dict[str, dict[str, Any]] = field(default_factory=dict)
    required: tuple[str, ...] = ()

    @property
    def schema(self) -> dict[str, Any]:
        """One schema for all of them as an object."""
        made: dict[str, Any] = {
            "type": "object",
            "properties": self.schemas,
            "additionalProperties": False,
        }
        return {**made, "required": list(self.required)} if self.required else made

    def checked(self, given: object) -> dict[str, Any]:
        """What was given, null left out; BadField for what does not fit."""
        fault = best_match(Draft202012Validator(self.schema).iter_errors(given))
        if fault is not None:
            raise self._described(fault)
        assert isinstance(given, dict)
        return {name: _plain(value) for name, value in given.items() if value is not None}

    def parsed(self, given: dict[str, list[str]]) -> dict[str, Any]:
        """The values of a query string, each as what its schema wants; then as ``checked``."""
        return self.checked({name: self._parsed(name, texts) for name, texts in given.items()})

    def _parsed(self, name: str, texts: list[str]) -> object:
        schema = self.schemas.get(name, {})
        if schema.get("type") == "array":
            return texts
        if len(texts) > 1:
            raise BadField(f"{name} is given {len(texts)} times", name)
        (text,) = texts
        if schema.get("type") == "integer":
            # int() takes blanks, underscores and the digits of other scripts as well.
            digits = text.removeprefix("-")
            if digits.isascii() and digits.isdigit() and len(digits) < 20:
                return int(text)
        return text

    def _described(self, fault: ValidationError) -> BadField:
        path = list(fault.absolute_path)
        name = str(path[0]) if path else None
        given: Any = fault.instance
        if name is None and fault.validator == "required":
            missing = next(one for one in self.required if one not in given)
            return BadField(f"{missing} is missing: {self._meaning(missing)}", missing)
        if name is None and fault.validator == "additionalProperties":
            unknown = next(one for one in given if one not in self.schemas)
            known = ", ".join(sorted(self.schemas)) or "none"
            return BadField(
                f"there is no field {unknown[:LONGEST_MESSAGE]!r} here; there are: {known}", unknown
            )
        if name is None:
            return BadField("the body must be a JSON object")
        message = fault.message
        if len(message) > LONGEST_MESSAGE:
            message = f"{message[:LONGEST_MESSAGE]}…"
        return BadField(f"{name}: {message}; it is {self._meaning(name)}", name)

    def _meaning(self, name: str) -> str:
        return str(self.schemas[name].get("description", "required"))


def _plain(value: object) -> object:
    """The value, whole numbers as such: to JSON, 4.0 and 4 are the same."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def described(schema: dict[str, Any], description: str) -> dict[str, Any]:
    """The schema with a description."""
    return {**schema, "description": description}


JOB_ID = described(
    {"type": "integer", "minimum": 1, "maximum": 2**63 - 1}, "the job's number, as start gave it"
)
SIZE = {"type": ["integer", "string", "null"], "minimum": 1, "maximum": 2**62 - 1, "maxLength": 32}
COMMON = {
    "workers": described(
        {"type": ["integer", "null"], "minimum": 1, "maximum": 64},
        "how many connections work at once, from 1 to 64; null: as many as there are cores, 4 at"
        " most",
    ),
    "max_rate": described(
        {"type": ["number", "null"], "exclusiveMinimum": 0}, "bytes per second; null: no limit"
    ),
    "again": described(SWITCH, "true: start over where the same job is there already"),
}
UPLOAD = Fields(
    {
        "source": described(NAME, "the file's path, relative to the server's root"),
        "table": described(NAME, 'the table: "flights", "schema.table", or quoted as in SQL'),
        "if_exists": described(
            {"type": "string", "enum": ["fail", "replace", "append"]},
            "what to do with an existing table",
        ),
        "on_error": described(
            {"type": "string", "enum": ["stop", "reject"]},
            "what to do with a row that cannot be loaded",
        ),
        "max_rejects": described(
            {"type": ["number", "null"], "minimum": 0, "maximum": 2**53},
            "how many rows may be rejected, or which fraction of them",
        ),
        "cast": described(
            {"type": "string", "enum": ["exact", "assignment"]},
            "assignment: round and cut values that their column's type would change",
        ),
        "types": described(
            {
                "anyOf": [
                    {"const": "text"},
                    {"type": "object", "additionalProperties": TEXT},
                    {"type": "null"},
                ]
            },
            'the Postgres type of some columns, by name, or "text" for every column as written',
        ),
        "names": described(
            {"enum": ["snake", None]}, "snake: lower case column names that need no quotes in SQL"
        ),
        "source_column": described(
            {"type": ["boolean", "string"], "maxLength": 63},
            'a column that says which file a row is from; true: "_source"',
        ),
        "sheet": described(
            {"type": ["string", "integer", "null"], "maxLength": 255},
            "of an Excel workbook: the sheet's name, or its number from 1 on; null: the first",
        ),
        "delimiter": described(OPTIONAL_TEXT, "what stands between two fields; null: detected"),
        "quotechar": described(OPTIONAL_TEXT, 'the quote, "" for none; null: detected'),
        "escapechar": described(OPTIONAL_TEXT, "what stands before a quote inside; null: detected"),
        "encoding": described(OPTIONAL_TEXT, "the text encoding; null: detected"),
        "header": described(
            {"type": ["boolean", "integer", "null"], "minimum": 0, "maximum": 1_000_000},
            "whether there is a header, or how many rows it has; null: detected",
        ),
        "null_values": described(
            {"anyOf": [TEXT, WORDS, {"type": "null"}]}, "the text, or texts, that mean NULL"
        ),
        "skip_rows": described(ROWS, "lines above the table; null: detected"),
        "footer_rows": described(ROWS, "lines below the table; null: detected"),
        "decimal": described(OPTIONAL_TEXT, "the decimal sign; null: detected"),
        "thousands": described(OPTIONAL_TEXT, "the sign between thousands; null: detected"),
        "date_formats": described(
            {"type": ["object", "null"], "additionalProperties": TEXT},
            'how dates are written, by column, such as "%d.%m.%Y"',
        ),
        "booleans": described(
            {
                "type": ["object", "null"],
                "additionalProperties": {
                    "type": "array", "items": TEXT, "minItems": 2, "maxItems": 2,
                },
            },
            "the words for true and false, by column",
        ),
        "skip_initial_space": described(
            {"type": ["boolean", "null"]}, "whether a blank after the delimiter is no data"
        ),
        "line_terminator": described(
            {"enum": ["\n", "\r\n", "\r", "", None]}, "what ends a line; null: detected"
        ),
        "max_unpacked": described(
            SIZE, "bytes that a packed file, a workbook or a Parquet file may become, such as"
            ' "2 GiB"; null: 4 GiB, or 100 times its size'
        ),
        "max_row": described(
            SIZE, 'bytes that a row of the file may have, such as "64 MB"; null: 16 MiB'
        ),
        **COMMON,
    },
    required=("source", "table"),
)  # fmt: skip
DOWNLOAD = Fields(
    {
        "source": described(NAME, "a table's or view's name, or a SELECT"),
        "path": described(
            NAME,
            "the file to be made, relative to the server's root; .gz and .zst are compressed; one"
            " that ends in / is a folder of part files",
        ),
        "if_exists": described(
            {"type": "string", "enum": ["fail", "replace"]},
            "what to do with an existing file or folder",
        ),
        "delimiter": described(TEXT, "what stands between two fields"),
        "null_value": described(TEXT, "what is written for NULL"),
        "header": described(SWITCH, "whether the first line names the columns"),
        "quote_all": described(SWITCH, "whether every value is quoted"),
        "escape_formulas": described(
            SWITCH, "whether what a spreadsheet would take for a formula gets an apostrophe"
        ),
        "format": described(
            {"enum": [*FORMATS, None]}, "the format of a folder's part files; null: csv"
        ),
        **COMMON,
    },
    required=("source", "path"),
)
CONTROL = Fields({"job_id": JOB_ID}, required=("job_id",))
RESUME = Fields(
    {
        "job_id": JOB_ID,
        "workers": COMMON["workers"],
        "max_rate": COMMON["max_rate"],
        "take_over": described(
            SWITCH, "true: also from a process that has the job, such as a kernel that hangs"
        ),
    },
    required=("job_id",),
)
LIMIT = {"type": "integer", "minimum": 1, "maximum": 1000}
JOBS = Fields(
    {
        "state": described(
            {
                "type": "array",
                "items": {"type": "string", "enum": [str(state) for state in State]},
            },
            "only jobs in this state; may be given several times",
        ),
        "search": described(TEXT, "only jobs with this text in their name, source or target"),
        "limit": described(LIMIT, "at most so many, by default 100"),
        "offset": described(
            {"type": "integer", "minimum": 0, "maximum": 2**31 - 1}, "so many are left out"
        ),
    }
)
EVENTS = Fields({"limit": described(LIMIT, "only so many of the last, by default 1000")})
NOTHING = Fields()
