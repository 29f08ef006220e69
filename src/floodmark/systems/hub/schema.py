"""The GraphQL schema of the hub, as any client sees it by introspection.

`Offset` is an integer of up to 53 bits, which GraphQL's own `Int` (32 bits) cannot hold; a variable for it may be declared `Int`.
`JSON` passes through untouched.
"""

from __future__ import annotations

from graphql import GraphQLSchema, build_schema

SDL = '''
"""Any JSON value."""
scalar JSON

"""An integer of up to 53 bits; a variable for it may be declared Int."""
scalar Offset

"""Something that happened on a channel."""
type Event {
  id: ID!
  eventType: String!
  data: JSON
  channel: String!
  "Unix time, in seconds."
  timestamp: Float!
  correlationId: String
  "The event's place in its channel, counted from 1; resume with `after`."
  offset: Offset!
}

enum FilterOperator { EQUALS NOT_EQUALS GREATER_THAN LESS_THAN EXISTS NOT_EXISTS CONTAINS IN NOT_IN }

"""One condition; all conditions of a filter must hold."""
input EventFilter {
  "event_type, channel, or a dotted path into the data such as data.user.id"
  field: String!
  op: FilterOperator!
  value: JSON
}

type Subscription {
  "The events of one channel, or of all with the channel *. `after` resumes behind an offset, if the history still holds it."
  events(channel: String!, after: Offset, filter: [EventFilter!]): Event!
}

type PublishResult { id: ID! offset: Offset! }
type PublishManyResult { firstOffset: Offset! count: Int! }
type PublishEachResult { count: Int! }

"""One event of a batch for many channels."""
input EventInput {
  channel: String!
  data: JSON!
  eventType: String
  correlationId: String
}

type Mutation {
  "The answer comes when the event stands in the channel's log."
  publish(channel: String!, data: JSON!, eventType: String, correlationId: String): PublishResult!
  publishMany(channel: String!, data: [JSON!]!, eventType: String, correlationId: String): PublishManyResult!
  "Events for any channels in one message, in this order; the answer comes when all of them stand in their logs."
  publishEach(events: [EventInput!]!): PublishEachResult!
}

type Stats {
  totalEvents: Offset!
  totalDelivered: Offset!
  totalSubscriptions: Offset!
  activeSubscribers: Offset!
  activeConnections: Offset!
  mode: String!
  "closed, half_open or open: whether the bus is trusted; over several processes the worst"
  breaker: String!
}

type Query { stats: Stats! }
'''

SCHEMA: GraphQLSchema = build_schema(SDL)
