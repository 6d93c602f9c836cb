import json

import pytest
from psycopg.conninfo import conninfo_to_dict

from include.connections import BadConnection, postgres_uri

JSON_FORM = json.dumps(
    {
        "conn_type": "postgres",
        "login": "pipe line",
        "password": "p@ss/w?rd#1%",
        "host": "db.example",
        "port": 5433,
        "schema": "ware house",
        "extra": {"sslmode": "require", "cursor": "dictcursor"},
    }
)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (JSON_FORM, "postgresql://pipe%20line:p%40ss%2Fw%3Frd%231%25@db.example:5433/ware%20house?sslmode=require"),
        (
            "postgres://u:p%40ss@db.example:5433/wh?sslmode=require",
            "postgresql://u:p%40ss@db.example:5433/wh?sslmode=require",
        ),
        ("postgresql+psycopg://u@db.example/wh", "postgresql://u@db.example/wh"),
        ("postgresql://u:p@%2Ftmp%2Fsock/wh", "postgresql://u:p@/wh?host=%2Ftmp%2Fsock"),
        ("postgresql://postgres:@/wh?host=/tmp/sock", "postgresql://postgres:@/wh?host=%2Ftmp%2Fsock"),
        ("postgres://u:p@[::1]:5433/wh", "postgresql://u:p@[::1]:5433/wh"),
        ("postgres://u:p@one:5432,two:5433/wh", "postgresql://u:p@one:5432,two:5433/wh"),
        ("postgres://u:p@ss@db.example/wh", "postgresql://u:p%40ss@db.example/wh"),
        (
            "postgres://u@h/wh?__extra__=%7B%22sslmode%22%3A+%22verify-full%22%2C+%22iam%22%3A+false%7D",
            "postgresql://u@h/wh?sslmode=verify-full",
        ),
        (
            '{"conn_type": "postgres", "host": "/tmp/sock", "port": "5433"}',
            "postgresql:///?port=5433&host=%2Ftmp%2Fsock",
        ),
    ],
)
def test_every_form_of_a_connection_becomes_one_libpq_uri(value: str, expected: str) -> None:
    assert postgres_uri(value) == expected
    assert postgres_uri(expected) == expected


def test_libpq_reads_the_parts_back_as_they_were() -> None:
    assert conninfo_to_dict(postgres_uri(JSON_FORM)) == {
        "user": "pipe line",
        "password": "p@ss/w?rd#1%",
        "host": "db.example",
        "port": "5433",
        "dbname": "ware house",
        "sslmode": "require",
    }


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("", "WAREHOUSE is empty"),
        ("mysql://u:geheim@h/d", "of type 'mysql'"),
        ("geheim", "names no type"),
        ('{"conn_type": "postgres", geheim', "no valid JSON"),
        ('{"conn_type": "http", "password": "geheim"}', "of type 'http'"),
        ('{"conn_type": "postgres", "host": "h", "port": "geheim"}', "a port that is no number"),
        ('{"conn_type": "postgres", "host": "h", "extra": "geheim"}', "an extra that is no JSON object"),
        ("postgres://u@h/d?sslmod=geheim", "the extra 'sslmod'"),
        ("postgres://u:p@h:geheim/d", "a host or port that cannot be read"),
        ("postgres://u:12#geheim@h/d", "no valid URI; percent-encode"),
        ("postgres://u:12/geheim@h/d", "no valid URI; percent-encode"),
        ("postgres://u:12?geheim@h/d", "no valid URI; percent-encode"),
        ("postgres://u:geheim@[::1/d", "no valid URI; percent-encode"),
    ],
)
def test_a_connection_that_cannot_be_read_is_named_in_one_sentence_without_its_password(value: str, words: str) -> None:
    with pytest.raises(BadConnection) as caught:
        postgres_uri(value, "AIRFLOW_CONN_WAREHOUSE")
    message = str(caught.value)
    assert message.startswith("AIRFLOW_CONN_WAREHOUSE ")
    assert words in message
    assert "geheim" not in message
