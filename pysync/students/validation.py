"""What a test-center user's form accepts, without a database.

The rules, their order and their messages are those of the 2012 form. A field has one error at most:
the first of its own rules, then of the rules between fields, then Latin-1, each for fields that are
clean so far. ``student.testcenter_user_errors`` says the same in SQL.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

_COUNTRY_CODE_LENGTH: Final = 3
_COUNTRIES_WITH_STATES: Final = ("USA", "CAN")
_LAST_OF_LATIN1: Final = "\xff"


class FieldError(NamedTuple):
    """What is wrong with a field."""

    field: str
    message: str


@dataclass(frozen=True)
class Rule:
    """A field's own rules.

    :param limit: the most characters it takes.
    :param required: whether it has to be filled in.
    :param country_code: whether it is a three-character country code, if filled in.
    """

    limit: int
    required: bool = False
    country_code: bool = False

    def error(self, value: str) -> str | None:
        """Return what is wrong with a value, looking at nothing else."""
        if not value:
            return "This field is required." if self.required else None
        if len(value) > self.limit:
            return f"Ensure this value has at most {self.limit} characters (it has {len(value)})."
        if "\0" in value:
            return "Null characters are not allowed."
        if self.country_code and len(value) != _COUNTRY_CODE_LENGTH:
            return "Must be three characters (ISO 3166-1): e.g. USA, CAN, MNG"
        return None


class TestCenterUserForm(BaseModel):
    """The fields that a user fills in; bad data raise all errors at once, each at its field."""

    __test__ = False  # whatever pytest takes the name for

    model_config = ConfigDict(extra="ignore", frozen=True)

    first_name: Annotated[str, Rule(30, required=True)] = ""
    middle_name: Annotated[str, Rule(30)] = ""
    last_name: Annotated[str, Rule(50, required=True)] = ""
    suffix: Annotated[str, Rule(255)] = ""
    salutation: Annotated[str, Rule(50)] = ""
    address_1: Annotated[str, Rule(40, required=True)] = ""
    address_2: Annotated[str, Rule(40)] = ""
    address_3: Annotated[str, Rule(40)] = ""
    city: Annotated[str, Rule(32, required=True)] = ""
    state: Annotated[str, Rule(20)] = ""
    postal_code: Annotated[str, Rule(16)] = ""
    country: Annotated[str, Rule(3, required=True, country_code=True)] = ""
    phone: Annotated[str, Rule(35, required=True)] = ""
    extension: Annotated[str, Rule(8)] = ""
    phone_country_code: Annotated[str, Rule(3, required=True, country_code=True)] = ""
    fax: Annotated[str, Rule(35)] = ""
    fax_country_code: Annotated[str, Rule(3, country_code=True)] = ""
    company_name: Annotated[str, Rule(50)] = ""

    @model_validator(mode="before")
    @classmethod
    def _clean(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        if errors := testcenter_user_errors(data):
            details = [
                InitErrorDetails(
                    type=PydanticCustomError("testcenter_user", "{message}", {"message": message}),
                    loc=(name,),
                    input=data.get(name),
                )
                for name, message in errors
            ]
            raise ValidationError.from_exception_data(cls.__name__, details)
        return {name: data.get(name) or "" for name in RULES}


RULES: Final = {
    name: next(rule for rule in field.metadata if isinstance(rule, Rule))
    for name, field in TestCenterUserForm.model_fields.items()
}
"""The rules of the fields, in the form's order."""


def testcenter_user_errors(data: Mapping[str, Any]) -> list[FieldError]:
    """Return all errors of a test-center user's data, in the order of the form's fields.

    :param data: values by field. A null counts as missing, a missing field as empty, and fields
        that the form doesn't have are ignored.
    :returns: an empty list if the data are fine.
    """
    errors: dict[str, str] = {}
    beyond_latin1 = []
    for name, rule in RULES.items():
        value = data.get(name)
        if value is None:
            value = ""
        elif not isinstance(value, str):
            errors[name] = "Must be text."
            continue
        if not value.isascii() and max(value) > _LAST_OF_LATIN1:
            beyond_latin1.append(name)
            value = _joined(value)
        if error := rule.error(value):
            errors[name] = error
    # The 2012 form looks between fields before it looks at encodings: a fax number that is refused
    # for its characters still asks for its country code.
    errors |= _between_fields(data, errors)
    for name in beyond_latin1:
        errors.setdefault(name, "Must only use characters in Latin-1 encoding")
    return [FieldError(name, errors[name]) for name in RULES if name in errors] if errors else []


def _between_fields(data: Mapping[str, Any], errors: Mapping[str, str]) -> dict[str, str]:
    """Return what is missing because of other fields; fields with errors have no say in it."""

    def filled(name: str) -> bool:
        return name not in errors and bool(data.get(name))

    def blank(name: str) -> bool:
        return name not in errors and not data.get(name)

    found: dict[str, str] = {}
    if filled("country") and data["country"] in _COUNTRIES_WITH_STATES:
        for name in filter(blank, ("state", "postal_code")):
            found[name] = "Required if country is USA or CAN."
    if filled("fax") and blank("fax_country_code"):
        found["fax_country_code"] = "Required if fax is specified."
    return found


def _joined(text: str) -> str:
    """Return text with each pair of surrogates as the character it stands for, as in JSON."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


def row_errors(row: Any) -> list[FieldError]:
    """Return all errors of a row of a file; those of the row as a whole name no field.

    :param row: as :func:`pysync.students.rows.read_rows` has it: any JSON value, or a CSV file's
        cells, with those beyond the header under ``None``.
    """
    if not isinstance(row, Mapping):
        return [FieldError("", "Must be an object.")]
    errors = testcenter_user_errors(row)
    if None in row:
        errors.append(FieldError("", "Has more cells than the header."))
    return errors
