from serving.cluster.silence_watch import SILENT_S_MAX, SilenceWatch


def test_who_falls_silent_is_told_once() -> None:
    watch = SilenceWatch()
    assert watch.look({1, 2}, 0) == set()
    assert watch.look({2}, SILENT_S_MAX) == set()
    assert watch.look({2}, SILENT_S_MAX + 1) == {1}
    assert watch.look({2}, SILENT_S_MAX + 2) == set()


def test_who_speaks_again_in_time_is_not() -> None:
    watch = SilenceWatch()
    assert watch.look({1}, 0) == set()
    assert watch.look((), SILENT_S_MAX - 1) == set()
    assert watch.look({1}, SILENT_S_MAX) == set()
    assert watch.look((), 2 * SILENT_S_MAX - 1) == set()
