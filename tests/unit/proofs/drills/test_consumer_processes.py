"""Fleets of consumers in one program."""

from __future__ import annotations

from multiprocessing import forkserver

import psutil

from reference_system.proofs.drills.consumer_processes import ConsumerFleet


def test_each_fleet_of_a_program_ends_the_process_that_it_forks_from(tmp_path):
    started = []
    for number in range(2):
        with ConsumerFleet(tmp_path / str(number)):
            started.append(forkserver._forkserver._forkserver_pid)
            assert psutil.pid_exists(started[-1])
        assert not psutil.pid_exists(started[-1])
    assert started[0] != started[1]
