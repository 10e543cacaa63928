"""A model that sleeps under real Ray Serve, whose first start fails: run as a process of its own.

`python -m tests.failing_wake FOLDER`, with Floodgate's settings in the environment. Each start
adds a line to FOLDER/starts; it ends with its standard input.
"""

import sys
from pathlib import Path


def main(folder: Path) -> None:
    import ray
    from ray import serve
    from ray.serve.config import HTTPOptions

    from serving.cluster.application import application_name
    from serving.engine.engine_config import deployment_options
    from serving.settings import ServingSettings

    class Model:
        def __init__(self, folder: str) -> None:
            starts = Path(folder, "starts")
            with starts.open("a") as file:
                file.write("start\n")
            if len(starts.read_text().splitlines()) == 1:
                raise RuntimeError("no memory for the engine")

    settings = ServingSettings()
    of_floodgate = deployment_options(settings, "cpu", 1)
    options = {
        name: of_floodgate[name]
        for name in ("name", "autoscaling_config", "max_constructor_retry_count")
    }
    ray.init(address="local", num_cpus=2, include_dashboard=False, _temp_dir=str(folder / "ray"))
    serve.start(http_options=HTTPOptions(location="NoServer"))
    model = serve.deployment(Model, **options)
    serve.run(
        model.bind(str(folder)), name=application_name(settings.served_name), route_prefix=None
    )
    print("up", flush=True)
    sys.stdin.read()
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
