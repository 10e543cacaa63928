"""A waiting caller's place, as a comment line of its stream. Pure."""

import math

from gateway.line.ticket import Place


def place_comment(place: Place) -> bytes:
    """`: queue position=12 eta=8s p90=15s`, or `unknown` for what is not known."""
    if place.position is None:
        return b": queue position=unknown eta=unknown\n\n"
    if place.eta is None:
        return b": queue position=%d eta=unknown\n\n" % place.position
    p50_s, p90_s = math.ceil(place.eta.p50_s), math.ceil(place.eta.p90_s)
    return b": queue position=%d eta=%ds p90=%ds\n\n" % (place.position, p50_s, p90_s)
