"""A model's folder and adapters looked over on the machine where they are to be loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from serving.errors import ModelUnusable
from serving.models.lora_adapters import check_adapters
from serving.models.model_folder import check_model, is_local, read_config
from serving.phases import Phases
from serving.settings import ServingSettings


def usable_models(
    models: Sequence[ServingSettings], phases: Phases
) -> tuple[list[ServingSettings], list[str]]:
    """Those to serve, with the folders that the engine reads; the names of those none could load.

    The latter are told. Raises ModelUnusable where there are no others.
    """
    usable, errors = look_over(models)
    if not usable:
        raise next(iter(errors.values()))
    for name, reason in errors.items():
        phases.done(f"{name} does not start: {reason}")
    return usable, list(errors)


def look_over(
    models: Sequence[ServingSettings],
) -> tuple[list[ServingSettings], dict[str, ModelUnusable]]:
    """Those that can be served, with the folders that the engine reads; why others cannot."""
    usable, errors = [], {}
    for each in models:
        try:
            usable.append(with_engine_folder(each))
        except ModelUnusable as error:
            errors[each.served_name] = error
    return usable, errors


def with_engine_folder(settings: ServingSettings) -> ServingSettings:
    """The settings with the folder that the engine reads, under the name that clients know.

    Settings that have been through here pass unchanged. Raises ModelUnusable.
    """
    check_model(settings.model)
    check_adapters(settings.lora_modules, served_name=settings.served_name)
    folder = engine_folder(settings.model, settings.home.expanduser().absolute())
    return settings.model_copy(update={"model": folder, "model_name": settings.served_name})


def engine_folder(model: str, home: Path) -> str:
    """What the engine is to load for `model`, which has passed check_model.

    `model` itself, except for a MOSS folder as it was published: vLLM reads that only through a
    folder beside it, which is made under `home`. Raises ModelUnusable, also for MOSS by its hub
    name.
    """
    if not is_local(model):
        if "/moss-moon-" in model:
            raise ModelUnusable(
                f"{model} has to be downloaded first: its tokenizer is made from the folder. "
                "Set FLOODGATE_MODEL to the folder."
            )
        return model
    folder = Path(model).expanduser().resolve()
    # Whoever has made a fast tokenizer has prepared the folder already.
    if read_config(folder).get("model_type") != "moss" or (folder / "tokenizer.json").is_file():
        return model
    # Imports tokenizers, which other models do not need here.
    from serving.moss.folder import prepare_folder

    return str(prepare_folder(folder, home))
