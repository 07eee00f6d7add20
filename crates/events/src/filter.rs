//! What is asked of events, whatever holds them: filters, order, bounds, and the place where a page resumes.

use icecore_ledger::{EventFields, LedgerRange, LedgerSeq, MAX_TOPICS};

/// The place of an event in the order of all events of a history. Never a store's own number, so that a page that
/// began in one store resumes in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The ledger.
    pub ledger: LedgerSeq,
    /// The transaction's place in the ledger.
    pub tx_index: u32,
    /// The operation's place in the transaction; `u32::MAX` where there is none.
    pub op_index: u32,
    /// The event's place in its (transaction, operation) group.
    pub event_index: u32,
}

impl Position {
    /// Where a search that is done with a ledger resumes: after all its events, in the order of the search. So a page
    /// without matches still gets ahead.
    pub fn past(ledger: LedgerSeq, order: Order) -> Self {
        let index = match order {
            Order::Ascending => u32::MAX,
            Order::Descending => 0,
        };
        Position { ledger, tx_index: index, op_index: index, event_index: index }
    }
}

/// The direction of a search.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Order {
    /// Oldest first.
    #[default]
    Ascending,
    /// Newest first.
    Descending,
}

/// Values that an event's fields must have; what is `None` may be anything, and absent too.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Filter {
    /// The contract id.
    pub contract: Option<Vec<u8>>,
    /// The first topics, in their raw encoding.
    pub topics: [Option<Vec<u8>>; MAX_TOPICS],
}

impl Filter {
    /// The filter that every event passes.
    pub fn any() -> Self {
        Self::default()
    }

    /// Asks for a contract too.
    #[must_use]
    pub fn contract(mut self, id: impl Into<Vec<u8>>) -> Self {
        self.contract = Some(id.into());
        self
    }

    /// Asks for a topic too; `index` beyond the indexed topics changes nothing.
    ///
    /// ```
    /// use icecore_events::Filter;
    /// use icecore_ledger::EventFields;
    ///
    /// let transfers = Filter::any().topic(0, b"transfer");
    /// let fields = EventFields { topics: [Some(b"transfer"), Some(b"alice"), None, None], ..Default::default() };
    /// assert!(transfers.matches(&fields));
    /// assert!(!transfers.topic(1, b"bob").matches(&fields));
    /// ```
    #[must_use]
    pub fn topic(mut self, index: usize, value: impl Into<Vec<u8>>) -> Self {
        if let Some(topic) = self.topics.get_mut(index) {
            *topic = Some(value.into());
        }
        self
    }

    /// The fields asked for, as an event's fields would give them.
    pub fn fields(&self) -> EventFields<'_> {
        EventFields {
            contract: self.contract.as_deref(),
            topics: self.topics.each_ref().map(Option::as_deref),
        }
    }

    /// True when an event has every value asked for.
    pub fn matches(&self, event: &EventFields<'_>) -> bool {
        let wanted = self.fields();
        let pairs = wanted.topics.into_iter().zip(event.topics).chain([(wanted.contract, event.contract)]);
        pairs.into_iter().all(|(wanted, found)| wanted.is_none() || wanted == found)
    }
}

/// A search for events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// An event is found when it passes one of these; all are, when there are none.
    pub filters: Vec<Filter>,
    /// Only events of these ledgers; `None` for all.
    pub ledgers: Option<LedgerRange>,
    /// Oldest or newest first.
    pub order: Order,
    /// Only events that come after this one in the order of the search: the last one of the page before.
    pub after: Option<Position>,
    /// At most so many events.
    pub limit: usize,
}

impl Default for Query {
    /// The first hundred of all events.
    fn default() -> Self {
        Query { filters: Vec::new(), ledgers: None, order: Order::Ascending, after: None, limit: 100 }
    }
}

impl Query {
    /// False where no event of some ledgers can be an answer: they lie outside of those asked for, or an earlier page is
    /// done with them.
    pub fn reaches(&self, ledgers: LedgerRange) -> bool {
        let asked = self.ledgers.is_none_or(|asked| asked.intersect(ledgers).is_some());
        let ahead = self.after.is_none_or(|after| match self.order {
            Order::Ascending => after.ledger <= ledgers.last,
            Order::Descending => after.ledger >= ledgers.first,
        });
        asked && ahead
    }

    /// True when one of the filters lets an event with these fields pass, or there are none.
    pub fn matches(&self, event: &EventFields<'_>) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|filter| filter.matches(event))
    }
}
