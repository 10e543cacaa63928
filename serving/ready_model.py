"""A model's folder and adapters looked over on the machine where they are to be loaded."""

from __future__ import annotations

from serving.lora_adapters import check_adapters
from serving.model_folder import check_model, engine_folder
from serving.settings import ServingSettings


def with_engine_folder(settings: ServingSettings) -> ServingSettings:
    """The settings with the folder that the engine reads, under the name that clients know.

    Settings that have been through here pass unchanged. Raises ModelUnusable.
    """
    check_model(settings.model)
    check_adapters(settings.lora_modules, served_name=settings.served_name)
    folder = engine_folder(settings.model, settings.home.expanduser().absolute())
    return settings.model_copy(update={"model": folder, "model_name": settings.served_name})
