"""--columns: every field is named or has its own name; a slip is answered with what was probably meant."""

from __future__ import annotations

import re
import shlex

import pytest

from reference_system.dataset_import.columns.specs import parse_columns, resolve_columns
from reference_system.errors import ImportRefused

FIELDS = ("transaction_id", "amount", "is_fraud")


def test_fields_and_columns_are_read_from_the_text():
    assert parse_columns(" transaction_id=ID , amount=Amount in EUR", FIELDS) == {
        "transaction_id": "ID",
        "amount": "Amount in EUR",
    }


def test_a_column_may_hold_an_equals_sign():
    assert parse_columns("amount=a=b", FIELDS) == {"amount": "a=b"}


@pytest.mark.parametrize("text", [None, "", " , "])
def test_no_text_names_nothing(text):
    assert parse_columns(text, FIELDS) == {}


@pytest.mark.parametrize("text", ["amount", "amount=", "=TX"])
def test_what_is_no_pair_is_refused(text):
    with pytest.raises(ImportRefused, match="field=COLUMN"):
        parse_columns(text, FIELDS)


def test_an_unknown_field_is_answered_with_the_fields_that_exist():
    with pytest.raises(ImportRefused, match=r"'TX_AMOUNT'.*transaction_id, amount, is_fraud"):
        parse_columns("TX_AMOUNT=amount", FIELDS)


def test_a_field_named_twice_is_refused():
    with pytest.raises(ImportRefused, match="amount twice"):
        parse_columns("amount=A,amount=B", FIELDS)


def test_a_field_that_is_not_named_has_the_column_of_its_own_name():
    found = resolve_columns({"amount": "TX"}, FIELDS, ["transaction_id", "TX", "is_fraud", "more"], file="f")

    assert found == {"transaction_id": "transaction_id", "amount": "TX", "is_fraud": "is_fraud"}


def test_a_column_that_is_not_there_is_answered_with_the_nearest_names():
    with pytest.raises(ImportRefused, match=r"'TX_AMOUT' for amount \(nearest: TX_AMOUNT"):
        resolve_columns({"amount": "TX_AMOUT"}, ("amount",), ["TX_AMOUNT", "TX_FRAUD"], file="f")


def test_a_field_without_a_column_is_answered_with_the_option_to_add():
    with pytest.raises(ImportRefused, match="perhaps --columns is_fraud=TX_FRAUD"):
        resolve_columns({}, ("is_fraud",), ["TX_FRAUD", "other"], file="f")


def test_a_wanted_column_that_stands_in_the_file_twice_is_refused():
    with pytest.raises(ImportRefused, match="more than one column is called a"):
        resolve_columns({"amount": "a"}, ("amount",), ["a", "a", "b"], file="f")


def test_names_that_would_move_the_cursor_are_written_out():
    with pytest.raises(ImportRefused) as error:
        resolve_columns({}, ("amount",), ["amount\x1b[2J"], file="f")
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    "text", ["amount=Amount, USD,is_fraud=F", 'amount="Amount, USD",is_fraud=F', "is_fraud=F, amount=Amount, USD"]
)
def test_a_column_may_hold_a_comma(text):
    assert parse_columns(text, FIELDS) == {"amount": "Amount, USD", "is_fraud": "F"}


@pytest.mark.parametrize(
    "column",
    ["Amount, USD", "a, is_fraud=b", 'the "amount"', '"quoted"', "it's", " x", "a,b=c", "ends,", "$HOME", "é b"],
)
def test_an_advice_works_when_it_is_pasted(column):
    fields = ("the_amount_of_money",)
    column = f"the_amount_of_money{column}"
    with pytest.raises(ImportRefused) as error:
        resolve_columns({}, fields, [column], file="f")
    (advised,) = re.findall(r"perhaps --columns (.*)\); its columns", str(error.value))
    (pasted,) = shlex.split(advised)

    assert parse_columns(pasted, fields) == {fields[0]: column}


def test_spaces_around_the_name_of_a_column_do_not_hide_it():
    columns = [" transaction_id", "amount ", "TX"]

    assert resolve_columns({"is_fraud": " TX"}, FIELDS, columns, file="f") == {
        "transaction_id": " transaction_id",
        "amount": "amount ",
        "is_fraud": "TX",
    }


def test_all_that_is_missing_is_one_phrase_and_no_column_is_advised_twice():
    with pytest.raises(ImportRefused) as error:
        resolve_columns({}, FIELDS, ["is_fraud", "TransactionId", "x"], file="f")

    advice = "no column is given for transaction_id, amount (perhaps --columns transaction_id=TransactionId); "
    assert str(error.value) == f"f: {advice}its columns are is_fraud, TransactionId, x"


def test_what_else_helps_is_said_where_no_column_is_near():
    with pytest.raises(ImportRefused, match=r"given for rating \(--implicit helps\)"):
        resolve_columns({}, ("rating",), ["transactionid"], file="f", hints={"rating": "--implicit helps"})


def test_a_header_that_looks_like_a_row_is_called_one():
    with pytest.raises(ImportRefused, match="the first line looks like a row"):
        resolve_columns({}, ("amount",), ["1", "978300760"], file="f")
    with pytest.raises(ImportRefused) as error:
        resolve_columns({}, ("amount",), ["1", "2"], file="f")
    assert "looks like a row" not in str(error.value)
