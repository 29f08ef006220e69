"""Who does what: the part of a population that each agent plays, as pure arithmetic that every process works out alike.

Subscription i belongs to connection i // subscriptions_per_connection and listens to channel i % channels. Source s (a logical publisher
with one sequence) publishes to channel s % channels over publisher connection s % publishers. Connections and publisher connections are
dealt to the agents in turn.
"""

from __future__ import annotations

import math

import numpy as np

from floodmark.ledger.inbox import Ints
from floodmark.model.scenario import Population

PORTS_PER_ADDRESS = 20_000  # well under the usual ephemeral range of 28,232


def channel_names(run: int, population: Population) -> list[str]:
    """What the channels of a run are called on the target: no other run has these names."""
    return [f"fm{run:x}.{channel}" for channel in range(population.channels)]


def connections_of(population: Population, agent: int, agents: int) -> range:
    """The subscriber connections that an agent opens."""
    return range(agent, population.connections, agents)


def wave_of(connection: int, population: Population) -> int:
    """The wave in which a connection is opened: equal parts in order."""
    return connection * population.waves // population.connections


def channels_of(connection: int, population: Population) -> list[int]:
    """The channels of a connection's subscriptions, in order."""
    each = population.subscriptions_per_connection
    return [subscription % population.channels for subscription in range(connection * each, (connection + 1) * each)]


def publishers_of(population: Population, agent: int, agents: int) -> range:
    """The publisher connections that an agent opens."""
    return range(agent, population.publishers, agents)


def sources_of(population: Population, agent: int, agents: int) -> Ints:
    """The sources that an agent publishes for, ascending."""
    sources = np.arange(population.sources, dtype=np.int64)
    owned: Ints = sources[(sources % population.publishers) % agents == agent]
    return owned


def source_offset(population: Population, life: int) -> int:
    """What is added to the numbers of the sources of a slice in its `life`-th life: their channels and connections stay the same."""
    rounds = math.lcm(population.channels, population.publishers)
    return life * -(-population.sources // rounds) * rounds


def publishers_in(population: Population, lives: int) -> int:
    """How many publishers the ledger has room for when a slice may have so many lives."""
    return source_offset(population, lives - 1) + population.sources


def asked_by(population: Population, agent: int, agents: int) -> Ints:
    """The sources that an agent asks for where streams are answers: the channels of its connections, ascending."""
    each = population.subscriptions_per_connection
    first: Ints = np.arange(agent, population.connections, agents, dtype=np.int64) * each
    owned: Ints = (first[:, None] + np.arange(each, dtype=np.int64)).ravel()
    return owned


def loopback_for(connection: int, host: str | None) -> str | None:
    """The local address to connect from: beyond some 20,000 connections one source address runs out of ports, so loopback spreads them."""
    if host not in ("127.0.0.1", "localhost") or connection < PORTS_PER_ADDRESS:
        return None
    return f"127.0.0.{2 + connection // PORTS_PER_ADDRESS}"


def agents_for(population: Population, cores: int) -> int:
    """How many agents serve a population best: one core is left to the target, and small populations stay in one process."""
    return max(1, min(cores - 1, population.connections // 500, 16))
