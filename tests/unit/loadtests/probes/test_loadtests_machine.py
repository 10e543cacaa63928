import platform

from loadtests.probes.machine import memory_total_gib, processor_name


def test_the_processor_of_the_first_core() -> None:
    cpuinfo = "processor\t: 0\nmodel name\t: AMD EPYC\n\nprocessor\t: 1\nmodel name\t: other\n"
    assert processor_name(cpuinfo) == "AMD EPYC"


def test_a_processor_without_a_name_is_its_architecture() -> None:
    assert processor_name("processor\t: 0\nBogoMIPS\t: 48.00\n") == platform.machine()


def test_memory_in_gib() -> None:
    assert memory_total_gib("MemTotal:       25165824 kB\nMemFree: 1 kB\n") == 24
    assert memory_total_gib("") == 0.0
