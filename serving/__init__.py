"""Ray Serve replicas that run vLLM, each on a port of its own, and the records they publish.

Start with `serving.server.run`. Ray and vLLM are imported nowhere else in the project, and here
only once a server is being started, so that importing this package costs nothing.
"""
