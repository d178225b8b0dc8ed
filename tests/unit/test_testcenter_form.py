"""The form's rules in Python: what the 2012 form said is what ours says."""

from __future__ import annotations

import json
import subprocess
import sys
from random import Random

import pytest
from pydantic import ValidationError

from pysync.models.testcenter import USER_PROVIDED_FIELDS
from pysync.students.validation import RULES, FieldError, TestCenterUserForm
from pysync.students.validation import row_errors as errors_of
from tests.testcenter_rows import GOOD, row

DJANGO_FORM = '''
import json, sys
from django.conf import settings
settings.configure(USE_I18N=False)
from django import forms

LENGTHS = dict(first_name=30, middle_name=30, last_name=50, suffix=255, salutation=50, address_1=40,
               address_2=40, address_3=40, city=32, state=20, postal_code=16, country=3, phone=35,
               extension=8, phone_country_code=3, fax=35, fax_country_code=3, company_name=50)
REQUIRED = "first_name last_name address_1 city country phone phone_country_code".split()


class Form(forms.Form):
    """What is new since 2012 is off: fields aren't stripped."""

    locals().update(
        (name, forms.CharField(max_length=length, required=name in REQUIRED, strip=False))
        for name, length in LENGTHS.items()
    )

    def check_country_code(self, name):
        code = self.cleaned_data[name]
        if code and len(code) != 3:
            raise forms.ValidationError("Must be three characters (ISO 3166-1): e.g. USA, CAN, MNG")
        return code

    def clean_country(self):
        return self.check_country_code("country")

    def clean_phone_country_code(self):
        return self.check_country_code("phone_country_code")

    def clean_fax_country_code(self):
        return self.check_country_code("fax_country_code")

    def clean(self):
        cleaned = super().clean()

        def refuse(name, message):
            self._errors[name] = self.error_class([message])
            del cleaned[name]

        if cleaned.get("country") in ("USA", "CAN"):
            for name in ("state", "postal_code"):
                if name in cleaned and not cleaned[name]:
                    refuse(name, "Required if country is USA or CAN.")
        if cleaned.get("fax") and cleaned.get("fax_country_code") == "":
            refuse("fax_country_code", "Required if fax is specified.")
        for name in list(cleaned):
            try:
                cleaned[name].encode("iso-8859-1")
            except UnicodeEncodeError:
                refuse(name, "Must only use characters in Latin-1 encoding")
        return cleaned


# Of a text that is too long and holds a NUL, today's Django says both.
print(json.dumps([{name: errors[0] for name, errors in Form(data).errors.items()}
                  for data in json.load(sys.stdin)]))
'''


def test_the_2012_form_on_django_finds_the_same_errors() -> None:
    # A form is given text. As JSON has it, surrogates in pairs are one character.
    batch = [
        json.loads(
            json.dumps(
                {k: v for k, v in row(Random(seed)).items() if v is None or isinstance(v, str)}
            )
        )
        for seed in range(3000)
    ]
    process = subprocess.run(
        [sys.executable, "-c", DJANGO_FORM],
        input=json.dumps(batch),
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert process.returncode == 0, process.stderr
    for data, expected in zip(batch, json.loads(process.stdout), strict=True):
        found = errors_of(data)
        assert dict(found) == expected, data
        assert [field for field, _ in found] == [name for name in RULES if name in expected]


def test_a_form_is_built_from_good_data() -> None:
    form = TestCenterUserForm.model_validate(GOOD | {"fax": None, "unknown": "\0"})
    assert form.model_dump() == {name: GOOD.get(name, "") for name in USER_PROVIDED_FIELDS}
    assert TestCenterUserForm.model_validate(form.model_dump()) == form


def test_bad_data_raise_all_errors_each_at_its_field() -> None:
    with pytest.raises(ValidationError) as caught:
        TestCenterUserForm.model_validate({**GOOD, "country": "USA", "city": 5, "state": "Ω"})
    assert [(each["loc"], each["msg"]) for each in caught.value.errors()] == [
        (("city",), "Must be text."),
        (("state",), "Must only use characters in Latin-1 encoding"),
        (("postal_code",), "Required if country is USA or CAN."),
    ]
    with pytest.raises(ValidationError, match="valid dictionary"):
        TestCenterUserForm.model_validate([GOOD])


@pytest.mark.parametrize(
    ("city", "message"),
    [
        ("\ud83d\ude00" * 32, "Must only use characters in Latin-1 encoding"),
        ("\ud83d\ude00" * 33, "Ensure this value has at most 32 characters (it has 33)."),
        ("\ud83d" * 33, "Ensure this value has at most 32 characters (it has 33)."),
        ("\ude00\ud83d" * 16 + "\ud83d", "Must only use characters in Latin-1 encoding"),
    ],
)
def test_surrogates_in_pairs_count_as_in_json(city: str, message: str) -> None:
    assert errors_of(GOOD | {"city": city}) == [FieldError("city", message)]


def test_a_fax_number_that_is_refused_for_its_characters_asks_for_its_country_code() -> None:
    """As the 2012 form did; one that is refused for its length does not."""
    assert [field for field, _ in errors_of(GOOD | {"fax": "☎"})] == ["fax", "fax_country_code"]
    assert [field for field, _ in errors_of(GOOD | {"fax": "☎" * 36})] == ["fax"]


@pytest.mark.parametrize("value", [None, 5, "x", [GOOD]])
def test_a_row_that_is_no_object_has_one_error(value: object) -> None:
    assert errors_of(value) == [FieldError("", "Must be an object.")]
