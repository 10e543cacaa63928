"""A fake engine for load tests: vLLM's HTTP and timing without a model. It answers with filler.

`python -m loadtests.engine_simulator --help`. Never put it in front of people.
"""
