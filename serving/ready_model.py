"""A model's folder and adapters looked over on the machine where they are to be loaded."""

from __future__ import annotations

from collections.abc import Sequence

from serving.errors import ModelUnusable
from serving.lora_adapters import check_adapters
from serving.model_folder import check_model, engine_folder
from serving.phases import Phases
from serving.settings import ServingSettings


def usable_models(
    models: Sequence[ServingSettings], phases: Phases
) -> tuple[list[ServingSettings], list[str]]:
    """Those to serve, with the folders that the engine reads; the names of those none could load.

    The latter are told. Raises ModelUnusable where there are no others.
    """
    usable, errors = [], {}
    for each in models:
        try:
            usable.append(with_engine_folder(each))
        except ModelUnusable as error:
            errors[each.served_name] = error
    if not usable:
        raise next(iter(errors.values()))
    for name, reason in errors.items():
        phases.done(f"{name} does not start: {reason}")
    return usable, list(errors)


def with_engine_folder(settings: ServingSettings) -> ServingSettings:
    """The settings with the folder that the engine reads, under the name that clients know.

    Settings that have been through here pass unchanged. Raises ModelUnusable.
    """
    check_model(settings.model)
    check_adapters(settings.lora_modules, served_name=settings.served_name)
    folder = engine_folder(settings.model, settings.home.expanduser().absolute())
    return settings.model_copy(update={"model": folder, "model_name": settings.served_name})
