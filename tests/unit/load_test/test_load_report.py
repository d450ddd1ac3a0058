"""The run file says everything, and the page needs nothing else."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from reference_system.commands.proofs.load import progress_text
from reference_system.load_test.figures import ServiceCost, figures_of, seconds_of
from reference_system.load_test.plan import LoadPlan, read_profile
from reference_system.load_test.report import RunFile, cells, sentences, write_load_run
from reference_system.load_test.samples import GeneratorProgress, Samples
from reference_system.stack.run_facts import Commit, Machine, RunFacts

_, SHAPE = read_profile("both")
PLAN = LoadPlan(
    url="http://127.0.0.1:3000",
    run="20250303T120000Z",
    rate=50.0,
    seconds=4.0,
    warm_up_seconds=1.0,
    seed=1,
    shares={"fraud": 0.6, "recommendation": 0.4},
    shape=SHAPE,
    customers=100,
    terminals=200,
    viewers=50,
)
FACTS = RunFacts(
    machine=Machine(system="Linux", cpu="A <fast> one", cores=2, memory_gb=8.0, load_average=0.4),
    commit=Commit(id="0123456789abcdef", dirty=True),
    versions={"python": "3.11.9"},
)


def run_of(folder: Path, *, failing: bool = False) -> tuple[RunFile, Samples]:
    count = 250
    samples = Samples(
        due=np.arange(count) / 50,
        lag=np.full(count, 0.0005),
        latency=np.random.default_rng(1).lognormal(-5, 0.5, count),
        endpoint=np.arange(count) % 2,
        outcome=np.full(count, 1 if failing else 0),
        degraded=np.zeros(count, dtype=np.bool_),
        endpoints=("fraud", "recommendation"),
        outcomes=("", "no answer in time"),
    )
    cost = ServiceCost(cpu_share=0.25, requests_per_second=100.0, cpu_ms_per_request=2.5)
    run = RunFile(
        command="workbook load --rate 50",
        facts=FACTS,
        plan=PLAN,
        settings={"seed": 7},
        figures=figures_of(samples, PLAN, service=cost, generator_cpu_share=0.1),
        seconds=seconds_of(samples, PLAN),
        folder=str(folder),
    )
    return run, samples


def test_the_run_file_can_be_read_back_whole(tmp_path: Path):
    run, samples = run_of(tmp_path)
    write_load_run(run, samples)
    assert msgspec.json.decode(run.path(".json").read_bytes(), type=RunFile) == run


def test_the_page_loads_nothing_from_elsewhere_and_escapes_what_it_shows(tmp_path: Path):
    run, samples = run_of(tmp_path)
    write_load_run(run, samples)
    page = run.path(".html").read_text(encoding="utf-8")
    assert "http://" not in page
    assert "https://" not in page
    assert "A &lt;fast&gt; one" in page
    assert 'src="data:image/png;base64,' in page


def test_the_plots_are_a_picture(tmp_path: Path):
    run, samples = run_of(tmp_path)
    write_load_run(run, samples)
    assert run.path(".png").read_bytes().startswith(b"\x89PNG")


def test_a_run_without_one_good_answer_still_has_a_report(tmp_path: Path):
    run, samples = run_of(tmp_path, failing=True)
    write_load_run(run, samples)
    assert cells("all", run.figures.endpoints["all"])[2:6] == ["failed"] * 4
    assert "200 × no answer in time" in cells("all", run.figures.endpoints["all"])[-1]


def test_the_sentences_give_rates_lag_and_cost(tmp_path: Path):
    run, _ = run_of(tmp_path)
    rate, generator, service = sentences(run)
    assert "50 requests/s requested, 50.0 arrived" in rate
    assert "late by 0.5 ms (p50)" in generator
    assert "2.50 ms of CPU a request" in service


def test_the_live_line_says_that_the_warm_up_does_not_count():
    progress = GeneratorProgress(elapsed=0.4, answered=20, failed=3, waiting=2, p50_ms=4.0, p99_ms=12.0)
    line = progress_text(progress, PLAN)
    assert "warm-up" in line
    assert "answered 17 · errors 3 · waiting 2 · p50 4 ms · p99 12 ms" in line
    assert "warm-up" not in progress_text(msgspec.structs.replace(progress, elapsed=2.0), PLAN)
