"""What a changed models file has deployed, deployed anew and deleted."""

import pytest

from serving.models.model_changes import ModelChanges, model_changes, replica_terms
from serving.settings import ServingSettings


def _model(settings: ServingSettings, name: str, **terms: object) -> ServingSettings:
    return settings.model_copy(update={"model_name": name, "machine_replicas_max": 2, **terms})


def _kept(*models: ServingSettings) -> dict[str, ServingSettings]:
    return {each.served_name: each for each in models}


def test_the_same_models_are_no_change(settings: ServingSettings) -> None:
    both = [_model(settings, "a"), _model(settings, "b", replica_slots=4)]
    assert model_changes(_kept(*both), both[::-1]) == ModelChanges((), (), ())


def test_a_model_comes_and_another_goes(settings: ServingSettings) -> None:
    a, b, c = (_model(settings, name) for name in "abc")
    assert model_changes(_kept(a, b), [b, c]) == ModelChanges((c,), (), ("a",))


def test_a_model_that_is_left_alone_stays_though_nobody_can_serve_what_is_wanted(
    settings: ServingSettings,
) -> None:
    a, b = _model(settings, "a"), _model(settings, "b")
    changes = model_changes(_kept(a, b), [a], left_alone=["b", "never kept"])
    assert changes == ModelChanges((), (), ())


def test_another_share_of_the_cores_is_no_change_by_itself(settings: ServingSettings) -> None:
    a = _model(settings, "a")
    now = _model(settings, "a", machine_replicas_max=5)
    b = _model(settings, "b", machine_replicas_max=5)
    assert model_changes(_kept(a), [now, b]) == ModelChanges((b,), (), ())


@pytest.mark.parametrize("number", ["replicas_max", "scale_down_after_s", "scale_up_wait_s"])
def test_another_number_of_replicas_starts_none_anew(
    settings: ServingSettings, number: str
) -> None:
    a = _model(settings, "a")
    (changed,) = model_changes(
        _kept(a), [_model(settings, "a", machine_replicas_max=5, **{number: 4})]
    ).changed
    assert getattr(changed, number) == 4
    assert replica_terms(changed) == replica_terms(a)


@pytest.mark.parametrize(
    "terms",
    [
        {"model": "/models/next"},
        {"replica_slots": 3},
        {"engine_args": {"dtype": "float16"}},
        {"lora_modules": {"poet": "/adapters/poet"}},
        {"accelerator": "gpu"},
        {"replicas_max": 4, "kv_cache_gib": 3.0},
    ],
)
def test_whatever_a_replica_is_started_with_makes_it_another_with_the_share_of_now(
    settings: ServingSettings, terms: dict[str, object]
) -> None:
    a = _model(settings, "a")
    wanted = _model(settings, "a", machine_replicas_max=5, **terms)
    assert model_changes(_kept(a), [wanted]) == ModelChanges((), (wanted,), ())
    assert replica_terms(wanted) != replica_terms(a)


def test_what_replicas_are_known_by_has_no_secret(settings: ServingSettings) -> None:
    assert settings.engine_secret.get_secret_value() not in str(replica_terms(settings))
