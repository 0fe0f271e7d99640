"""What `--engine ray` refuses before Ray is started, and what a copy takes of a machine."""

from __future__ import annotations

import pytest

from tamis.probes.errors import BadInput
from tamis.service.http.ray_server import CopyShare, check_settings
from tamis.service.http.runtime.settings import Settings


def ray(**knobs: object) -> Settings:
    return Settings(engine="ray", **knobs)


@pytest.mark.parametrize(
    ("knobs", "cluster", "wanted"),
    [
        ({"replicas": 2}, {"CPU": 8}, CopyShare(4, 0)),
        ({"replicas": 3}, {"CPU": 8}, CopyShare(2, 0)),
        ({"replicas": 8}, {"CPU": 8}, CopyShare(1, 0)),
        ({"replicas": 2, "threads": 3}, {"CPU": 8}, CopyShare(3, 0)),
        ({"replicas": 4}, {"CPU": 8, "GPU": 2}, CopyShare(2, 0.5)),
        ({"replicas": 1}, {"CPU": 8, "GPU": 2}, CopyShare(8, 1)),
        ({"replicas": 2, "device": "cpu"}, {"CPU": 8, "GPU": 2}, CopyShare(4, 0)),
    ],
)
def test_copies_divide_what_ray_has(knobs, cluster, wanted):
    assert CopyShare.of(ray(**knobs), cluster) == wanted


@pytest.mark.parametrize(
    ("knobs", "cluster", "said"),
    [
        ({"replicas": 9}, {"CPU": 8}, "9 copies of 1 threads need 9 CPUs and Ray has 8"),
        ({"replicas": 3, "threads": 3}, {"CPU": 8}, "need 9 CPUs and Ray has 8"),
        ({"device": "cuda"}, {"CPU": 8}, "needs a GPU"),
    ],
)
def test_more_than_ray_has_is_refused_instead_of_waited_for(knobs, cluster, said):
    with pytest.raises(BadInput, match=said):
        CopyShare.of(ray(**knobs), cluster)


@pytest.mark.parametrize(
    ("knobs", "said"),
    [
        ({"header_timeout_s": 3.0}, "--header-timeout-s"),
        ({"drain_delay_s": 3.0}, "--drain-delay-s"),
        ({"replicas": 2, "rate_limit": "600/minute"}, "--rate-limit"),
        ({"replicas": 2, "retrieve_bytes": 1000}, "--retrieve-bytes"),
        ({"port": 0}, "--port"),
    ],
)
def test_settings_that_copies_could_not_follow_are_refused(knobs, said):
    with pytest.raises(BadInput, match=said):
        check_settings(ray(**knobs))
    check_settings(ray())


def test_one_copy_follows_what_several_could_not():
    check_settings(ray(rate_limit="600/minute", retrieve_bytes=1000))


def test_replicas_without_their_engine_are_refused():
    with pytest.raises(BadInput, match="--engine ray"):
        Settings(replicas=2)
