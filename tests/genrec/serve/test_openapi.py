"""The OpenAPI document is the truth: whatever it allows, and much that it does not, is answered without a fault."""

import os
import warnings
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable

from genrec import Recommender
from genrec.data.prepared import load_prepared
from genrec.serve.app import create_app
from genrec.serve.sql_store import open_store
from tests.genrec.serve.test_clients import listening

schemathesis = pytest.importorskip("schemathesis")

EXAMPLES = int(os.environ.get("GENREC_OPENAPI_EXAMPLES", "2"))
"""Requests of each kind to each operation; a night may take more."""


@pytest.fixture(scope="module")
def address(toy_run, toy_data, tmp_path_factory):
    data = load_prepared(toy_data)
    store = open_store(str(tmp_path_factory.mktemp("openapi") / "store.db"))
    store.fill(data.catalog.items, data.histories)
    with listening(create_app(Recommender.from_pretrained(toy_run, "cpu", "fp32"), store)) as address:
        yield address


@pytest.mark.filterwarnings("ignore")
def test_no_request_is_a_fault_and_answers_are_as_described(address):
    from schemathesis.checks import not_a_server_error
    from schemathesis.generation.modes import GenerationMode
    from schemathesis.specs.openapi.checks import response_schema_conformance

    schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) > 30, "genrec's own, Gorse's and Metarank's"
    for operation in operations:
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

            @settings(
                max_examples=EXAMPLES,
                deadline=None,
                database=None,
                derandomize=True,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy(generation_mode=mode))
            def ask(case):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    case.call_and_validate(checks=[not_a_server_error, response_schema_conformance], timeout=60)

            with suppress(Unsatisfiable):  # an operation without parameters has no wrong ones
                ask()
