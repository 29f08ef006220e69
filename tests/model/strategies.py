"""Hypothesis strategies for whole, valid scenarios: every struct, every arrival and consumer, odd texts and options included."""

from __future__ import annotations

from hypothesis import strategies as st

from floodmark.model.arrival import Arrival, Burst, Constant, Flood, Poisson, Ramp, Spike, Step, Wave
from floodmark.model.criterion import OPERATORS, Criterion, parse
from floodmark.model.finding import Guarantee, Order
from floodmark.model.metrics import METRICS
from floodmark.model.scenario import AGAIN, Bursty, Consumer, Fast, Fault, Phase, Population, Scenario, Slow, Stuck, Target

positive = st.floats(min_value=0, exclude_min=True, allow_infinity=False)
not_negative = st.floats(min_value=0, allow_infinity=False)
shares = st.floats(0, 1)
counts = st.integers(1, 10**6)
texts = st.text(max_size=20)
filled = texts.filter(lambda text: bool(text.strip()))
names = st.from_regex(r"[\w-]{1,12}", fullmatch=True)  # what a criterion may name after its @
options = st.dictionaries(
    texts, st.one_of(texts, st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False, allow_infinity=False))
)

arrivals: st.SearchStrategy[Arrival] = st.one_of(
    st.builds(Constant, rate_hz=positive),
    st.builds(Ramp, from_hz=positive, to_hz=positive),
    st.builds(Step, from_hz=positive, step_hz=positive, every_s=positive),
    st.builds(Spike, rate_hz=positive, peak_hz=positive, at_s=st.just(0.0), for_s=positive),
    st.builds(
        lambda rate, part, period: Wave(rate_hz=rate, amplitude_hz=rate * part, period_s=period),
        st.floats(1, 1e9),
        st.floats(0.1, 1),
        positive,
    ),
    st.builds(Burst, count=counts, every_s=positive),
    st.builds(Poisson, rate_hz=positive),
    st.builds(Flood, in_flight=counts),
)
consumers: st.SearchStrategy[Consumer] = st.one_of(
    st.just(Fast()),
    st.builds(Slow, rate_bytes_per_s=positive),
    st.builds(Bursty, read_s=positive, pause_s=positive),
    st.builds(Stuck, after_s=not_negative),
)
targets = st.one_of(
    st.builds(Target, system=filled, args=st.lists(texts, max_size=3).map(tuple)),
    st.builds(Target, url=filled, start_limit_s=positive),
    st.builds(Target, command=filled, url=filled),
    st.builds(Target, command=filled, ready_pattern=st.just(r'at "(\S+)"')),
)
faults = st.builds(
    Fault, kind=filled, at_s=not_negative, for_s=not_negative, repeat=counts, every_s=not_negative, ratio=shares, options=options
)


@st.composite
def criteria(draw: st.DrawFn, phases: list[str]) -> Criterion:
    """A criterion about any metric, for the whole run or for one of these phases."""
    metric = draw(st.sampled_from(list(METRICS.values())))
    unit = {"a duration": "ms", "a size": "KiB", "a rate": "/s", "a multiple": "x"}.get(metric.dimension.value, "")
    place = draw(st.one_of(st.just(""), st.sampled_from(phases).map(lambda name: f" @ {name}")))
    return parse(f"{metric.name}{place} {draw(st.sampled_from(OPERATORS))} {draw(st.floats(0, 1e6))}{unit}")


def _repeated(phase_names: list[str]) -> bool:
    """Whether a second load would call a phase as another one is called already."""
    return not {name + AGAIN for name in phase_names}.isdisjoint(phase_names)


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    """Any scenario that the model accepts."""
    phase_names = draw(st.lists(names, min_size=1, max_size=4, unique=True))
    phases = tuple(
        Phase(
            name=name,
            arrival=draw(arrivals),
            payload_bytes=draw(counts),
            duration_s=draw(positive),
            messages=draw(st.one_of(st.none(), counts)),
        )
        for name in phase_names
    )
    population = draw(
        st.builds(
            Population,
            connections=counts,
            subscriptions_per_connection=counts,
            channels=st.just(1),
            publishers=counts,
            consumer=consumers,
            consumer_ratio=shares.filter(bool),
            waves=counts,
            shares=st.sampled_from([(), (1,), (3,)]),
        )
    )
    return draw(
        st.builds(
            Scenario,
            id=filled,
            title=texts,
            plan=texts,
            target=targets,
            driver=texts,
            driver_options=options,
            population=st.just(population),
            phases=st.just(phases),
            faults=st.lists(faults, max_size=3).map(tuple),
            criteria=st.lists(criteria(phase_names), min_size=1, max_size=3).map(tuple),
            guarantee=st.sampled_from(Guarantee),
            order=st.sampled_from(Order),
            warmup=st.booleans(),
            second_load=st.booleans() if isinstance(population.consumer, Fast) and not _repeated(phase_names) else st.just(False),
            connect_limit_s=positive,
            drain_limit_s=positive,
            lag_limit_s=positive,
            scale=positive,
        )
    )
