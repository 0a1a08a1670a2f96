"""How often the gate is right, on generated artifacts that were not tuned on."""

import pytest

from cas.secretscan import SecretScanner
from tests.secrets.samples import judge, make_samples

COUNT = 1000


@pytest.fixture(scope="module", params=["hyperscan", "python"])
def scanner(request):
    if request.param == "hyperscan":
        pytest.importorskip("hyperscan", reason="no wheel for this machine")
    return SecretScanner(engine=request.param)


@pytest.mark.parametrize("part", ["tune", "report"])
def test_corpus_half_is_judged_with_precision_and_recall(scanner, part):
    samples = make_samples(COUNT, part=part)
    precision, recall, wrong = judge(samples, lambda sample: scanner.scan(sample.data, sample.name))
    assert precision >= 0.97, [sample for sample in wrong if not sample.line][:5]
    assert recall >= 0.97, [sample for sample in wrong if sample.line][:5]


def test_corpus_findings_name_the_line_of_the_credential(scanner):
    for sample in make_samples(COUNT, part="report"):
        findings = scanner.scan(sample.data, sample.name)
        if sample.line and findings:
            assert sample.line in {finding.line for finding in findings}, sample


def test_corpus_is_the_same_in_every_process():
    assert make_samples(3, part="tune") == make_samples(3, part="tune")
    assert make_samples(3, part="tune") != make_samples(3, part="report")
